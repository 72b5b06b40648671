"""A tokenizer of fewer tokens, which can still split whatever it could before."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compressor.errors import StageError
from compressor.files import read_json
from compressor.models import tokenizer_files
from compressor.models.pieces import RESERVED, ModelPieces, pieces_of

Ints = NDArray[np.int64]

Texts = Callable[[], Iterator[list[Ints]]]
"""Texts as token ids, some at a time; from the first one whenever it is called."""


@dataclass(frozen=True)
class Trimmed:
    """A tokenizer of fewer tokens.

    Attributes:
        tokenizer: As `tokenizer.json` has it, with new ids.
        sources: For each new id, the old one whose embedding it takes. `(tokens,)`
        needed: For each old id, how often it has to occur to stay; 0 for those that always do. `(ids,)`
    """

    tokenizer: dict[str, Any]
    sources: Ints
    needed: Ints


@dataclass(frozen=True)
class _Tokens:
    """The tokens of a tokenizer.

    Attributes:
        pieces: Those of its model.
        added: Ids of the added tokens, special or not, which may be pieces too.
    """

    pieces: ModelPieces
    added: dict[str, int]

    @classmethod
    def of(cls, tokenizer: Mapping[str, Any]) -> _Tokens:
        added = {str(entry["content"]): int(entry["id"]) for entry in tokenizer.get("added_tokens", [])}
        return cls(pieces_of(tokenizer["model"], added), added)

    @property
    def always(self) -> frozenset[int]:
        """Ids that stay, whatever is counted."""
        return self.pieces.always.union(self.added.values())

    @property
    def size(self) -> int:
        """Tokens that there are."""
        return len(self.pieces.ids.keys() | self.added.keys())

    @property
    def least(self) -> int:
        """Tokens of the smallest vocabulary that can be made."""
        return len(self.always) + len(self.pieces.missing)


def bounds(path: Path) -> tuple[int, int] | None:
    """The least and the most tokens that a checkpoint's tokenizer can be trimmed to.

    Args:
        path: The checkpoint's folder.

    Returns:
        None without a tokenizer.json.

    Raises:
        StageError: The tokenizer is of a kind that cannot be trimmed, or its file is not one of a tokenizer.
    """
    file = path / tokenizer_files.TOKENIZER
    if not file.is_file():
        return None
    try:
        tokens = _Tokens.of(read_json(file))
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise StageError(f"{file} is not a tokenizer that can be trimmed: {error}; save it again") from None
    return tokens.least, tokens.size


def trim(
    tokenizer: Mapping[str, Any], counts: Ints, *, keep: int | None = None, min_count: int | None = None
) -> Trimmed:
    """Drops the pieces that occur least, and keeps those that every text needs: see `models.pieces`.

    Special tokens and single characters stay, and a text without a dropped piece is split as before:

    - WordPiece: characters stay both at the beginning of a word and, as `##c`, within. So the longest piece that fits,
      which it takes, is still there, and it never comes to a place where none fits. A character that has one of both
      forms only is given the other; before, some of the words with it were unknown.
    - BPE: all bytes, or characters, stay, and with each piece those that it is merged from.
    - Unigram: the scores are as before, so the best way to split a text is too, if its pieces are there.

    Args:
        tokenizer: As `tokenizer.json` has it.
        counts: How often each token occurs. `(ids,)`
        keep: So many tokens stay, the most frequent; of equally frequent ones the first, but `[unused…]` last. A piece
            that others are merged from counts as often as the most frequent of these.
        min_count: Or those stay that occur at least so often.

    Raises:
        StageError: The tokenizer is of a kind that cannot be trimmed, or `keep` is fewer than have to stay.
    """
    tokens = _Tokens.of(tokenizer)
    pieces, always = tokens.pieces, tokens.always
    if keep is not None and keep < tokens.least:
        raise StageError(f"vocabulary.keep is {keep}, {too_few(tokens.least)}")
    others = [index for index in pieces.ids.values() if index not in always]
    made = pieces.made(counts)
    needs = np.maximum(counts, made)
    if keep is not None:
        ranked = _ranked(pieces, others, needs)
        kept = set(ranked[: keep - tokens.least] if keep < tokens.size else others)
        limit = max(1, min((int(needs[index]) for index in kept), default=1))
    else:
        limit = min_count or 0
        kept = {index for index in others if needs[index] >= limit}
    needed = np.zeros(len(counts), dtype=np.int64)
    if len(kept) < len(others):
        needed[others] = limit
        needed[made >= limit] = 0
    parts, sources = _written(tokenizer, tokens, always | kept, with_missing=len(kept) < len(others))
    return Trimmed(parts, sources, needed)


def _written(
    tokenizer: Mapping[str, Any], tokens: _Tokens, stays: Set[int], *, with_missing: bool
) -> tuple[dict[str, Any], Ints]:
    """A tokenizer.json of the tokens that stay, in their order, and for each new id the old one."""
    pieces = tokens.pieces
    inside = sorted((index, piece) for piece, index in pieces.ids.items() if index in stays)
    sources = {piece: index for index, piece in inside} | (pieces.missing if with_missing else {})
    beyond = sorted((index, piece) for piece, index in tokens.added.items() if piece not in pieces.ids)
    everything = {**sources, **{piece: index for index, piece in beyond}}
    new_ids = {piece: number for number, piece in enumerate(everything)}
    added = [{**entry, "id": new_ids[entry["content"]]} for entry in tokenizer.get("added_tokens", [])]
    parts = {**tokenizer, "added_tokens": added, "padding": None}
    parts["model"] = pieces.model({piece: new_ids[piece] for piece in sources})
    parts["post_processor"] = _renumbered(tokenizer.get("post_processor"), new_ids)
    return parts, np.fromiter(everything.values(), dtype=np.int64, count=len(everything))


def _ranked(pieces: ModelPieces, ids: Iterable[int], needs: Ints) -> list[int]:
    """Ids, those that are needed most first; before a piece stand those that it is made of."""
    reserved = {index for piece, index in pieces.ids.items() if piece.startswith(RESERVED)}
    return sorted(ids, key=lambda index: (-int(needs[index]), index in reserved, pieces.sizes.get(index, 0), index))


@dataclass(frozen=True)
class Changes:
    """How much is split otherwise.

    Attributes:
        texts: Share of the texts.
        tokens: Share of their tokens.
    """

    texts: float
    tokens: float

    def to_facts(self, prefix: str) -> dict[str, float]:
        """As they stand in a report."""
        return {f"{prefix}texts_changed": round(self.texts, 6), f"{prefix}tokens_changed": round(self.tokens, 6)}


def changes(texts: Texts, gone: NDArray[np.bool_], to_spare: Ints) -> tuple[Changes, Changes]:
    """Shares of texts and tokens that a smaller vocabulary splits differently, and an estimate for unseen texts.

    The second, leaving out one text at a time, estimates the share in unseen text.

    Args:
        texts: The texts, of which there is one at least.
        gone: Which tokens are gone. `(vocabulary,)`
        to_spare: How often each token occurs beyond what it needs to stay. `(vocabulary,)`
    """
    read, tokens, found = 0, 0, np.zeros((2, 2), dtype=np.int64)
    for some in texts():
        for ids in some:
            kinds, counts = np.unique(ids, return_counts=True)
            for row, marked in zip(found, (gone[kinds], to_spare[kinds] < counts), strict=True):
                row += (marked.any(), counts[marked].sum())
            tokens += len(ids)
        read += len(some)
    changed, unfamiliar = (Changes(float(row[0] / read), float(row[1] / tokens)) for row in found)
    return changed, unfamiliar


def too_few(least: int) -> str:
    """Message: a vocabulary is too small, and the smallest that is allowed."""
    return f"but special tokens and single characters stay; at least {least}"


def _renumbered(processor: Any, new_ids: Mapping[str, int]) -> Any:
    """A post-processor, which names special tokens with their ids, with the new ones."""
    if processor is None:
        return None
    if processor["type"] == "Sequence":
        return {**processor, "processors": [_renumbered(part, new_ids) for part in processor["processors"]]}
    if processor["type"] == "TemplateProcessing":
        special = {
            name: {**entry, "ids": [new_ids[token] for token in entry["tokens"]]}
            for name, entry in processor["special_tokens"].items()
        }
        return {**processor, "special_tokens": special}
    named = {name: [token, new_ids[token]] for name in ("sep", "cls") if (token := processor.get(name, [None])[0])}
    return {**processor, **named}
