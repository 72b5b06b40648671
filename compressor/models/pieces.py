"""The pieces of a tokenizer's model, kind by kind: those that every text needs, and the model with fewer of them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compressor.errors import StageError
from compressor.models import tokenizer_files

Ints = NDArray[np.int64]

RESERVED = "[unused"
"""Begins the names of the places that BERT's vocabularies keep free; no text has them."""

_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
"""What stands for a byte of a character that has no piece."""
_UNKNOWN_PENALTY = 10.0
"""By how much an unknown character scores less than the lowest piece of a Unigram (`kUnkPenalty` of SentencePiece)."""

Merge = tuple[str, str]


@dataclass(frozen=True)
class ModelPieces:
    """The pieces of a tokenizer's model.

    Attributes:
        ids: Their ids.
        always: Ids of those that every vocabulary needs, so that whatever could be split still can be: single
            characters, bytes, and what stands for the unknown.
        missing: Single characters in a form that the model lacks, with the id that lends its embedding.
        sizes: Characters of each piece, by id, where pieces are made of smaller ones; else empty.
        made_of: For an id, those of the pieces that it is made of, which have to stay with it.
        model: The model with the pieces that are named, under the ids given, in their order.
    """

    ids: dict[str, int]
    always: frozenset[int]
    missing: dict[str, int]
    model: Callable[[dict[str, int]], dict[str, Any]]
    sizes: Mapping[int, int]
    made_of: Callable[[int], frozenset[int]]

    def made(self, counts: Ints) -> Ints:
        """How often the most frequent piece occurs that is made of each piece; 0 for those that nothing is made of.

        Args:
            counts: How often each token occurs. `(ids,)`

        Returns:
            `(ids,)`
        """
        found = np.zeros_like(counts)
        for index in sorted(self.sizes, key=lambda index: -self.sizes[index]):
            if most := max(counts[index], found[index]):
                for part in self.made_of(index):
                    found[part] = max(found[part], most)
        return found


def pieces_of(model: Mapping[str, Any], added: Mapping[str, int]) -> ModelPieces:
    """The pieces of a model.

    Args:
        model: As `tokenizer.json` has it.
        added: Ids of the added tokens, special or not, which may be pieces too.

    Raises:
        StageError: The model is of a kind that cannot do with fewer pieces.
    """
    kind = tokenizer_files.model_kind(model)
    if kind not in _KINDS:
        raise StageError(f"the tokenizer is {kind}, and vocabulary trims {', '.join(_KINDS)}; leave vocabulary out")
    return _KINDS[kind](model, added)


def _no_parts(index: int) -> frozenset[int]:
    return frozenset()


def _word_piece(model: Mapping[str, Any], added: Mapping[str, int]) -> ModelPieces:
    """WordPiece takes the longest piece that fits, so every character is needed in both forms."""
    ids: dict[str, int] = dict(model["vocab"])
    prefix, unknown = model["continuing_subword_prefix"], model["unk_token"]
    spoken = (piece for piece in ids if piece not in added and not piece.startswith(RESERVED))
    whole = {piece: piece.removeprefix(prefix) for piece in spoken}
    single = {piece for piece, text in whole.items() if len(text) == 1 or piece == prefix}
    missing: dict[str, int] = {}
    for character in sorted(set("".join(whole.values()))):
        first, later = character, prefix + character
        for form, other in ((first, later), (later, first)):
            if form not in ids:
                missing[form] = ids.get(other, ids[unknown])

    def smaller(new_ids: dict[str, int]) -> dict[str, Any]:
        return {**model, "vocab": new_ids}

    return ModelPieces(ids, frozenset(ids[piece] for piece in (*single, unknown)), missing, smaller, {}, _no_parts)


def _unigram(model: Mapping[str, Any], added: Mapping[str, int]) -> ModelPieces:
    """A Unigram takes the pieces whose scores have the highest sum, and an unknown character where one has no piece.

    A character that is in pieces, but is none itself, becomes one that scores as the unknown one did: so it is taken
    only where no piece with it is left, and where it was unknown before.

    Source: Kudo 2018, "Subword Regularization" (arXiv 1804.10959), section 3.2.
    """
    scores = {str(piece): float(score) for piece, score in model["vocab"]}
    ids = {str(piece): index for index, (piece, _) in enumerate(model["vocab"])}  # of equal pieces the last counts
    unknown, fallback = model.get("unk_id"), bool(model.get("byte_fallback"))
    # SentencePiece gives what stands for no text, and what users have defined, the score 0.
    always = {index for piece, index in ids.items() if len(piece) == 1 or scores[piece] == 0}
    always |= _bytes(ids) if fallback else set()
    lowest = min(scores.values())
    always.add(next(ids[piece] for piece in ids if scores[piece] == lowest))  # the unknown scores relative to it
    spoken = [piece for piece in ids if ids[piece] not in always and piece not in added and ids[piece] != unknown]
    missing = {} if fallback else {one: ids[piece] for piece in reversed(spoken) for one in piece if one not in ids}
    if unknown is not None:
        always.add(int(unknown))
        missing = dict.fromkeys(missing, int(unknown))

    def smaller(new_ids: dict[str, int]) -> dict[str, Any]:
        vocabulary = [[piece, scores.get(piece, lowest - _UNKNOWN_PENALTY)] for piece in new_ids]
        new_unknown = None if unknown is None else new_ids[str(model["vocab"][unknown][0])]
        return {**model, "vocab": vocabulary, "unk_id": new_unknown}

    return ModelPieces(ids, frozenset(always), dict(sorted(missing.items())), smaller, {}, _no_parts)


def _byte_pairs(model: Mapping[str, Any], added: Mapping[str, int]) -> ModelPieces:
    """BPE starts from characters, or bytes, and merges the pair that comes first in its list, again and again.

    Within a token the merges are those that it takes alone, since none crosses its ends. So a token stays what it is if
    the pieces on its way stay, and all texts of such tokens are merged as before.

    Source: Sennrich et al. 2016, "Neural Machine Translation of Rare Words with Subword Units" (arXiv 1508.07909).
    """
    ids: dict[str, int] = dict(model["vocab"])
    prefix, suffix = model.get("continuing_subword_prefix") or "", model.get("end_of_word_suffix") or ""
    merges = [_pair(entry) for entry in model["merges"]]
    ranks = {pair: rank for rank, pair in enumerate(merges)}  # of equal pairs the last counts
    makers: dict[str, list[Merge]] = defaultdict(list)
    for left, right in ranks:
        makers[left + right.removeprefix(prefix)].append((left, right))
    names = {index: piece for piece, index in ids.items()}

    def symbols(piece: str) -> list[str]:
        text = piece.removeprefix(prefix)
        end = suffix if suffix and text.endswith(suffix) else ""
        first = prefix if piece.startswith(prefix) else ""
        found = [(prefix if place else first) + one for place, one in enumerate(text.removesuffix(end))]
        return [*found[:-1], found[-1] + end] if found else []

    def made_of(index: int) -> frozenset[int]:
        piece = names[index]
        pairs = makers.get(piece, [])
        if len(pairs) > 1 and (last := _last_merge(symbols(piece), ranks, prefix)) is not None:
            pairs = [last] if last in pairs else pairs
        return frozenset(ids[part] for pair in pairs for part in pair)

    def smaller(new_ids: dict[str, int]) -> dict[str, Any]:
        left = [entry for entry, pair in zip(model["merges"], merges, strict=True) if stays(pair, new_ids)]
        return {**model, "vocab": new_ids, "merges": left}

    def stays(pair: Merge, new_ids: dict[str, int]) -> bool:
        return all(piece in new_ids for piece in (*pair, pair[0] + pair[1].removeprefix(prefix)))

    sizes = {index: len(symbols(piece)) for piece, index in ids.items()}
    always = {index for index, size in sizes.items() if size <= 1}
    always |= _bytes(ids) if model.get("byte_fallback") else set()
    always |= {ids[piece] for piece in [model.get("unk_token")] if piece in ids}
    return ModelPieces(ids, frozenset(always), {}, smaller, sizes, made_of)


def _pair(entry: str | list[str]) -> Merge:
    """The two pieces of a merge, which older files have as one string."""
    left, right = entry.split(" ") if isinstance(entry, str) else entry
    return left, right


def _last_merge(symbols: list[str], ranks: Mapping[Merge, int], prefix: str) -> Merge | None:
    """The pair that is merged last where symbols become one; None where they do not."""
    last: Merge | None = None
    while len(symbols) > 1:
        pairs = list(pairwise(symbols))
        first = min(range(len(pairs)), key=lambda place: ranks.get(pairs[place], len(ranks)))
        last = pairs[first]
        if last not in ranks:
            return None
        symbols = [*symbols[:first], last[0] + last[1].removeprefix(prefix), *symbols[first + 2 :]]
    return last


def _bytes(ids: Mapping[str, int]) -> set[int]:
    return {index for piece, index in ids.items() if _BYTE.fullmatch(piece)}


_KINDS: dict[str, Callable[[Mapping[str, Any], Mapping[str, int]], ModelPieces]] = {
    "BPE": _byte_pairs,
    "Unigram": _unigram,
    "WordPiece": _word_piece,
}
