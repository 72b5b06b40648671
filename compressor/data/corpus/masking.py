"""Hides tokens of packed sequences for masked language modelling."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
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

_SPACE_OF_BYTES = "Ġ"
"""The space, as byte-level tokenizers write it."""


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The properties of a tokenizer that masking needs.

    Attributes:
        size: Number of ids.
        mask: The id of [MASK].
        special: Ids that are never hidden, nor put in another's place. `(size,)`
        continues: Ids of pieces that continue the word before them, such as WordPiece's `##...`. `(size,)`
        goes_on: Ids of pieces whose word goes on behind them, where a tokenizer marks the ends of words. `(size,)`
    """

    size: int
    mask: int
    special: Bools
    continues: Bools
    goes_on: Bools

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, *, whole_words: bool = False) -> Vocabulary:
        """Reads a tokenizer.

        Args:
            tokenizer: A fast tokenizer.
            whole_words: Whether words have to be told apart.

        Raises:
            RecipeError: It has no mask token, or its pieces do not say where words begin or end.
        """
        if tokenizer.mask_token_id is None:
            hint = "give a checkpoint that was pretrained as a masked language model"
            raise RecipeError([Problem("model", "its tokenizer has no mask token", hint, kind="unsupported")])
        size = len(tokenizer)
        pieces = tokenizer.convert_ids_to_tokens(list(range(size)))
        special = np.array([piece is None for piece in pieces])  # a gap in the ids is not a token
        special[tokenizer.all_special_ids] = True
        special[[index for index, token in tokenizer.added_tokens_decoder.items() if token.special]] = True
        continues, goes_on = np.zeros(size, dtype=bool), np.zeros(size, dtype=bool)
        marks = _Marks.of(json.loads(tokenizer.backend_tokenizer.to_str()))
        if marks is not None:
            continues = np.array([piece is not None and marks.continues(piece) for piece in pieces])
            goes_on = np.array([piece is not None and marks.goes_on(piece) for piece in pieces])
        elif whole_words:
            what = "is whole_word, and the pieces of the checkpoint's tokenizer do not say where words begin"
            raise RecipeError([Problem("masking", what, "use masking: subword", kind="unsupported")])
        return cls(size, int(tokenizer.mask_token_id), special, continues, goes_on)


@dataclass(frozen=True)
class _Marks:
    """How the pieces of a tokenizer show where words begin and end: one of these, or nothing where all are words.

    Attributes:
        first: Begins the first piece of a word: the space before it, as SentencePiece and byte-level BPE keep it.
        later: Begins all other pieces of a word.
        last: Ends the last piece of a word.
    """

    first: str = ""
    later: str = ""
    last: str = ""

    @classmethod
    def of(cls, tokenizer: dict[str, Any]) -> _Marks | None:
        """Reads a tokenizer.json; None where pieces are not marked."""
        model = tokenizer["model"]
        for part in (*_parts(tokenizer.get("pre_tokenizer")), *_parts(tokenizer.get("normalizer"))):
            if part["type"] == "ByteLevel":
                return cls(first=_SPACE_OF_BYTES)
            if part["type"] == "Metaspace":
                return cls(first=part["replacement"])
            if part["type"] == "Replace" and part["pattern"] == {"String": " "} and part["content"].strip():
                return cls(first=part["content"])
        later, last = model.get("continuing_subword_prefix") or "", model.get("end_of_word_suffix") or ""
        return cls(later=later, last=last) if later or last or model.get("type") == "WordLevel" else None

    def continues(self, piece: str) -> bool:
        """Whether a piece belongs to the word of the piece before it."""
        if self.first:
            return not piece.startswith(self.first)
        return bool(self.later) and piece.startswith(self.later)

    def goes_on(self, piece: str) -> bool:
        """Whether the piece behind belongs to the same word."""
        return bool(self.last) and not piece.endswith(self.last)


def _parts(part: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
    """A part of a tokenizer.json, or the parts that it is a sequence of."""
    if part is None:
        return
    inner = part.get("pretokenizers") or part.get("normalizers")
    if inner is None:
        yield part
    for entry in inner or ():
        yield from _parts(entry)


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


def mask(
    tokens: Ints,
    vocabulary: Vocabulary,
    *,
    probability: float,
    whole_words: bool,
    seed: Sequence[int],
    most: int | None = None,
) -> Masked:
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
        most: Tokens of a row that can be hidden at most. Where each of its words is longer, as one in a script without
            spaces is, the row is masked token by token.

    Returns:
        The choice; a row has none only if it has nothing but special tokens.
    """
    random = np.random.default_rng(list(seed))
    maskable = ~vocabulary.special[tokens]
    counts = np.maximum(np.rint(probability * maskable.sum(axis=1)), 1).astype(np.int64)
    begins = maskable
    if whole_words:
        begins = _word_begins(maskable, vocabulary.continues[tokens], vocabulary.goes_on[tokens])
        if most is not None:
            begins = np.where(_shortest(maskable, begins)[:, None] > most, maskable, begins)
    positions = _positions(_chosen(maskable, begins, counts, random))
    originals = np.take_along_axis(tokens, np.maximum(positions, 0).astype(np.int64), axis=1)
    inputs = np.where(positions >= 0, _replaced(originals, vocabulary, random), 0)
    return Masked(positions, inputs.astype(tokens.dtype))


def _word_begins(maskable: Bools, continues: Bools, goes_on: Bools) -> Bools:
    """First tokens of words: also a piece whose beginning is in the row before, or is not known. `(rows, length)`."""
    follows = np.zeros_like(maskable)
    follows[:, 1:] = (continues[:, 1:] | goes_on[:, :-1]) & maskable[:, :-1]
    return maskable & ~follows


def _shortest(maskable: Bools, begins: Bools) -> NDArray[np.int64]:
    """Tokens of each row's shortest word; 0 where a row has none. `(rows,)`."""
    sizes, _ = _word_sizes(maskable, begins)
    least = np.where(sizes > 0, sizes, np.iinfo(np.int64).max).min(axis=1, initial=np.iinfo(np.int64).max)
    return np.where(maskable.any(axis=1), least, 0)


def _word_sizes(maskable: Bools, begins: Bools) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Tokens of each word of each row `(rows, words)`, 0 where a row has fewer; each token's word `(rows, length)`."""
    word = np.maximum(np.cumsum(begins, axis=1) - 1, 0)
    words = int(word.max(initial=-1)) + 1
    flat = (np.arange(len(maskable))[:, None] * words + word)[maskable]
    return np.bincount(flat, minlength=len(maskable) * words).reshape(len(maskable), words), word


def _chosen(maskable: Bools, begins: Bools, counts: NDArray[np.int64], random: np.random.Generator) -> Bools:
    """Draws words in random order until a row has its count of tokens; `(rows, length)`.

    Where no word fits, the row has one of its shortest whole.

    Args:
        maskable: What can be chosen. `(rows, length)`
        begins: Where words begin. `(rows, length)`
        counts: Tokens to choose. `(rows,)`
        random: Draws the order.
    """
    rows = np.arange(len(maskable))
    sizes, word = _word_sizes(maskable, begins)
    words = sizes.shape[1]
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
        least = np.where(sizes > 0, sizes, np.iinfo(np.int64).max).argmin(axis=1)  # the first of them in random order
        taken[used == 0, order[used == 0, least[used == 0]]] = True
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
