"""A WordPiece tokenizer of fewer tokens, which can still split whatever it could before."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compressor.errors import StageError

Ints = NDArray[np.int64]

Texts = Callable[[], Iterator[list[Ints]]]
"""Texts as token ids, some at a time; from the first one whenever it is called."""

_RESERVED = "[unused"
"""Begins the names of the places that BERT's vocabularies keep free; no text has them."""


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
        vocabulary: Ids of the pieces.
        added: Ids of the added tokens, special or not, which may be pieces too.
        missing: Single characters in the form that the vocabulary lacks, with the id that lends its embedding.
        always: Ids that stay, whatever is counted.
    """

    vocabulary: dict[str, int]
    added: dict[str, int]
    missing: dict[str, int]
    always: frozenset[int]

    @classmethod
    def of(cls, tokenizer: Mapping[str, Any]) -> _Tokens:
        model = tokenizer["model"]
        if (kind := model.get("type")) != "WordPiece":
            raise StageError(f"the tokenizer is {kind}, and vocabulary trims WordPiece; leave vocabulary out")
        vocabulary: dict[str, int] = model["vocab"]
        added = {str(entry["content"]): int(entry["id"]) for entry in tokenizer.get("added_tokens", [])}
        prefix, unknown = model["continuing_subword_prefix"], model["unk_token"]
        spoken = (piece for piece in vocabulary if piece not in added and not piece.startswith(_RESERVED))
        whole = {piece: piece.removeprefix(prefix) for piece in spoken}
        single = {piece for piece, text in whole.items() if len(text) == 1 or piece == prefix}
        missing: dict[str, int] = {}
        for character in sorted(set("".join(whole.values()))):
            first, later = character, prefix + character
            for form, other in ((first, later), (later, first)):
                if form not in vocabulary:
                    missing[form] = vocabulary.get(other, vocabulary[unknown])
        always = {vocabulary[piece] for piece in (*single, unknown)} | set(added.values())
        return cls(vocabulary, added, missing, frozenset(always))

    @property
    def size(self) -> int:
        """Tokens that there are."""
        return len(self.vocabulary.keys() | self.added.keys())

    @property
    def least(self) -> int:
        """Tokens of the smallest vocabulary that can be made."""
        return len(self.always) + len(self.missing)


def bounds(path: Path) -> tuple[int, int] | None:
    """The least and the most tokens that a checkpoint's tokenizer can be trimmed to.

    Args:
        path: The checkpoint's folder.

    Returns:
        None without a tokenizer.json.

    Raises:
        StageError: The tokenizer is not WordPiece.
    """
    file = path / "tokenizer.json"
    if not file.is_file():
        return None
    tokens = _Tokens.of(json.loads(file.read_text(encoding="utf-8")))
    return tokens.least, tokens.size


def trim(
    tokenizer: Mapping[str, Any], counts: Ints, *, keep: int | None = None, min_count: int | None = None
) -> Trimmed:
    """Drops the pieces that occur least.

    Special tokens and single characters stay, both at the beginning of a word and, as `##c`, within: so WordPiece,
    which takes the longest piece that fits, never comes to a place where none does. A character that has one of both
    forms only is given the other; before, some of the words with it were unknown.

    A text without a dropped piece is split as before: the longest piece that fits is still there.

    Args:
        tokenizer: As `tokenizer.json` has it.
        counts: How often each token occurs. `(ids,)`
        keep: So many tokens stay, the most frequent; of equally frequent ones the first, but `[unused…]` last.
        min_count: Or those stay that occur at least so often.

    Raises:
        StageError: The tokenizer is not WordPiece, or `keep` is fewer than have to stay.
    """
    tokens = _Tokens.of(tokenizer)
    if keep is not None and keep < tokens.least:
        raise StageError(f"vocabulary.keep is {keep}, {too_few(tokens.least)}")
    others = [index for index in tokens.vocabulary.values() if index not in tokens.always]
    if keep is not None:
        reserved = {index for piece, index in tokens.vocabulary.items() if piece.startswith(_RESERVED)}
        ranked = sorted(others, key=lambda index: (-int(counts[index]), index in reserved, index))
        kept = set(ranked[: keep - tokens.least] if keep < tokens.size else others)
        limit = max(1, min((int(counts[index]) for index in kept), default=1))
    else:
        limit = min_count or 0
        kept = {index for index in others if counts[index] >= limit}
    needed = np.zeros(len(counts), dtype=np.int64)
    needed[others] = limit if len(kept) < len(others) else 0
    missing = tokens.missing if len(kept) < len(others) else {}
    stays = tokens.always | kept
    pieces = sorted((index, piece) for piece, index in tokens.vocabulary.items() if index in stays)
    sources = {piece: index for index, piece in pieces} | missing
    beyond = sorted((index, piece) for piece, index in tokens.added.items() if piece not in tokens.vocabulary)
    everything = {**sources, **{piece: index for index, piece in beyond}}
    new_ids = {piece: number for number, piece in enumerate(everything)}
    model = {**tokenizer["model"], "vocab": {piece: new_ids[piece] for piece in sources}}
    added = [{**entry, "id": new_ids[entry["content"]]} for entry in tokenizer.get("added_tokens", [])]
    parts = {**tokenizer, "model": model, "added_tokens": added, "padding": None}
    parts["post_processor"] = _renumbered(tokenizer.get("post_processor"), new_ids)
    return Trimmed(parts, np.fromiter(everything.values(), dtype=np.int64, count=len(everything)), needed)


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
