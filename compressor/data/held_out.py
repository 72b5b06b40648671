"""Which rows a hash holds out, and how many held-out rows have texts that are trained on."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence


def held_out(texts: Sequence[tuple[str, ...]], fraction: float, salt: str = "") -> list[bool]:
    """Whether each row is for validation: depends on the texts alone, so the held-out rows do not move.

    Rows with a text in common, and rows that such rows join, stay on one side. Where pairs join so many rows that those
    cannot be held out together, they are trained on, and more of the others are held out; where too few others are
    left, only rows whose texts are all equal stay together.

    Args:
        texts: The texts of each row, one or two.
        fraction: Share of the rows that is held out.
        salt: Makes another choice, independent of that without it.
    """

    def alone() -> list[bool]:
        return held_out_alone(texts, fraction, salt)

    if all(len(row) == 1 for row in texts):
        return alone()
    groups = _joined(texts)
    sizes = Counter(groups)
    wanted = fraction * len(texts)
    small = sum(size for size in sizes.values() if size <= wanted)
    if small <= wanted:
        return alone()
    return [sizes[group] <= wanted and _share((group,), salt) < wanted / small for group in groups]


def held_out_alone(texts: Iterable[tuple[str, ...]], fraction: float, salt: str = "") -> list[bool]:
    """`held_out` of rows of one text each, which are read as a stream."""
    return [_share(row, salt) < fraction for row in texts]


def held_out_groups(groups: Sequence[str], fraction: float, salt: str = "") -> list[bool]:
    """Whether each row is for validation, by a hash of its group alone; of few groups at least one is, and one is not.

    Args:
        groups: The group of each row.
        fraction: Share of the groups that is held out.
        salt: As of `held_out`.
    """
    shares = {group: _share((group,), salt) for group in groups}
    order = sorted(shares, key=shares.__getitem__)
    count = sum(share < fraction for share in shares.values())
    apart = set(order[: min(max(count, 1), len(order) - 1)])
    return [group in apart for group in groups]


def overlap(train: Iterable[tuple[str, ...]], validation: Iterable[tuple[str, ...]]) -> list[str]:
    """Notes on validation rows whose texts are trained on, apart from case and white space.

    Args:
        train: The texts of each training row.
        validation: Those of each validation row.
    """
    # Sets of what is judged: there may be much more to train on than fits into memory.
    judged = [tuple(map(plain, row)) for row in validation]
    known_rows, known_texts = {hash(row) for row in judged}, {hash(text) for row in judged for text in row}
    rows: set[int] = set()
    singles: set[int] = set()
    for row in train:
        texts = tuple(map(plain, row))
        rows |= {hash(texts)} & known_rows
        singles |= set(map(hash, texts)) & known_texts
    count = len(judged)
    whole = sum(hash(row) in rows for row in judged)
    partly = sum(hash(row) not in rows and any(hash(text) in singles for text in row) for row in judged)
    notes = []
    for found, what in ((whole, "the same text as a training row"), (partly, "one text of a pair that is trained on")):
        if found:
            share = f"{found} of {count} validation rows ({100 * found / count:.1f} %) have {what}"
            notes.append(f"{share}: scores on them say little about new rows")
    return notes


def plain(text: str) -> str:
    """A text apart from case and white space: words of a tagged sentence are those of a raw one."""
    return "".join(text.split()).casefold()


def _joined(texts: Sequence[tuple[str, ...]]) -> list[str]:
    """A text that stands for each row's group: rows with a text in common are in one group."""
    parents: dict[str, str] = {}

    def root(text: str) -> str:
        while (parent := parents.setdefault(text, text)) != text:
            parents[text] = parents[parent]
            text = parents[text]
        return text

    for row in texts:
        first, *others = sorted({root(text) for text in row})  # the first by alphabet, whatever the rows' order
        for other in others:
            parents[other] = first
    return [root(row[0]) for row in texts]


def _share(texts: tuple[str, ...], salt: str) -> float:
    """A number in [0, 1) that depends on the texts alone, independent for each salt."""
    digest = hashlib.sha256((salt + "\x1f".join(texts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
