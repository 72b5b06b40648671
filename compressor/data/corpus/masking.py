"""Hides tokens of packed sequences for masked language modelling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from compressor.errors import Problem, RecipeError
from compressor.models.outputs import NO_LABEL

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MASK_SHARE, RANDOM_SHARE = 0.8, 0.1
"""Of the chosen tokens: so many become [MASK], so many another token; the rest stay as they are."""

Ints = NDArray[np.integer[Any]]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The properties of a tokenizer that masking needs.

    Attributes:
        size: Number of ids.
        mask: The id of [MASK].
        special: Ids that are never hidden, nor put in another's place. `(size,)`
        continues: Ids of WordPiece's pieces that continue a word, `##...`. `(size,)`
    """

    size: int
    mask: int
    special: Bools
    continues: Bools

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase) -> Vocabulary:
        """Reads a tokenizer.

        Raises:
            RecipeError: It has no mask token.
        """
        if tokenizer.mask_token_id is None:
            hint = "give a checkpoint that was pretrained as a masked language model"
            raise RecipeError([Problem("model", "its tokenizer has no mask token", hint, kind="unsupported")])
        size = len(tokenizer)
        pieces = tokenizer.convert_ids_to_tokens(list(range(size)))
        special = np.array([piece is None for piece in pieces])  # a gap in the ids is not a token
        special[tokenizer.all_special_ids] = True
        continues = np.array([piece is not None and piece.startswith("##") for piece in pieces])
        return cls(size, int(tokenizer.mask_token_id), special, continues)


@dataclass(frozen=True, eq=False)
class Masked:
    """The hidden tokens, and their replacements.

    Attributes:
        positions: Ascending, then -1 where a row has fewer. `(rows, count)`, int16 or int32
        inputs: The replacements, 0 where the position is -1. `(rows, count)`, the tokens' dtype
    """

    positions: Ints
    inputs: Ints

    def apply(self, tokens: Ints) -> Ints:
        """A copy of the tokens `(rows, length)` with the inputs put in."""
        changed = tokens.copy()
        rows, slots = np.nonzero(self.positions >= 0)
        changed[rows, self.positions[rows, slots]] = self.inputs[rows, slots]
        return changed

    def labels(self, tokens: Ints) -> NDArray[np.int64]:
        """The hidden tokens of `tokens` `(rows, length)`, -100 where the position is -1. `(rows, count)`."""
        hidden = np.take_along_axis(tokens, np.maximum(self.positions, 0).astype(np.int64), axis=1)
        return np.where(self.positions >= 0, hidden.astype(np.int64), NO_LABEL)


def mask(tokens: Ints, vocabulary: Vocabulary, *, probability: float, whole_words: bool, seed: Sequence[int]) -> Masked:
    """Chooses a fixed share of each row's tokens; 80 % become [MASK], 10 % another token, and 10 % stay.

    Source: Devlin et al. 2019 (BERT), section 3.1 and appendix A.1; the fixed number for each row, and whole words as
    in the release of May 2019, are those of its `create_pretraining_data.py`.

    Args:
        tokens: Packed sequences. `(rows, length)`; working memory is about 40 bytes for each token.
        vocabulary: Says which tokens can be hidden.
        probability: Share of a row's tokens, special ones aside, that are chosen: rounded, at least one.
        whole_words: Choose words with all their pieces. One that would exceed the number is passed over, unless the
            row would then have none; each piece is replaced for itself.
        seed: The same seed makes the same choices.

    Returns:
        The choice; a row has none only if it has nothing but special tokens.
    """
    random = np.random.default_rng(list(seed))
    maskable = ~vocabulary.special[tokens]
    begins = _word_begins(maskable, vocabulary.continues[tokens]) if whole_words else maskable
    counts = np.maximum(np.rint(probability * maskable.sum(axis=1)), 1).astype(np.int64)
    positions = _positions(_chosen(maskable, begins, counts, random))
    originals = np.take_along_axis(tokens, np.maximum(positions, 0).astype(np.int64), axis=1)
    inputs = np.where(positions >= 0, _replaced(originals, vocabulary, random), 0)
    return Masked(positions, inputs.astype(tokens.dtype))


def _word_begins(maskable: Bools, continues: Bools) -> Bools:
    """First tokens of words: also a piece whose beginning is in the row before, or is not known. `(rows, length)`."""
    follows = np.zeros_like(maskable)
    follows[:, 1:] = continues[:, 1:] & maskable[:, :-1]
    return maskable & ~follows


def _chosen(maskable: Bools, begins: Bools, counts: NDArray[np.int64], random: np.random.Generator) -> Bools:
    """Draws words in random order until a row has its count of tokens. `(rows, length)`.

    Args:
        maskable: What can be chosen. `(rows, length)`
        begins: Where words begin. `(rows, length)`
        counts: Tokens to choose. `(rows,)`
        random: Draws the order.
    """
    rows = np.arange(len(maskable))
    word = np.maximum(np.cumsum(begins, axis=1) - 1, 0)
    words = int(word.max(initial=-1)) + 1
    flat = (rows[:, None] * words + word)[maskable]
    sizes = np.bincount(flat, minlength=len(rows) * words).reshape(len(rows), words)
    keys = random.random(sizes.shape)
    order = np.argsort(np.where(sizes > 0, keys, 2.0), axis=1)
    sizes = np.take_along_axis(sizes, order, axis=1)
    taken = np.zeros((len(rows), words), dtype=bool)
    used = np.zeros(len(rows), dtype=np.int64)
    for drawn in range(words):
        fits = used + sizes[:, drawn] <= counts
        taken[rows, order[:, drawn]] = fits
        used += np.where(fits, sizes[:, drawn], 0)
    if words:
        taken[used == 0, order[used == 0, 0]] = True
    chosen: Bools = maskable & np.take_along_axis(taken, word, axis=1)
    return chosen


def _positions(chosen: Bools) -> Ints:
    """Where the true values of each row are, filled up with -1. `(rows, count)`."""
    counts = chosen.sum(axis=1)
    dtype = np.int16 if chosen.shape[1] <= np.iinfo(np.int16).max else np.int32
    positions = np.full((len(chosen), int(counts.max(initial=0))), -1, dtype=dtype)
    rows, columns = np.nonzero(chosen)
    positions[rows, np.arange(len(rows)) - (np.cumsum(counts) - counts)[rows]] = columns
    return positions


def _replaced(originals: Ints, vocabulary: Vocabulary, random: np.random.Generator) -> Ints:
    """The replacement of each chosen token, drawn for each independently. `(rows, count)`."""
    draw = random.random(originals.shape)
    candidates = np.flatnonzero(~vocabulary.special)
    others = candidates[random.integers(len(candidates), size=originals.shape)]
    return np.where(draw < MASK_SHARE, vocabulary.mask, np.where(draw < MASK_SHARE + RANDOM_SHARE, others, originals))
