"""Which texts a corpus has, as digests on disk, and how many validation rows have one of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from compressor.data.corpus.sentence_pairs import sentences
from compressor.data.corpus.stream import paragraphs
from compressor.data.held_out import plain
from compressor.files import ArrayWriter

SEEN_FILE = "texts.npy"
"""Digests `(texts,)`, uint64, of texts, of their paragraphs and of their sentences."""
_AT_ONCE = 1 << 20

Digests = NDArray[np.uint64]


class SeenTexts:
    """Writes down which texts are read: 8 bytes for a text, a paragraph and a sentence each.

    Args:
        path: The file.
        separator: What stands between paragraphs; may be empty.
    """

    def __init__(self, path: Path, separator: str) -> None:
        self._file, self._separator = ArrayWriter(path, np.uint64), separator

    def __enter__(self) -> SeenTexts:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._file.close()

    def add(self, text: str) -> None:
        """Takes the next text."""
        parts = paragraphs(text, self._separator)
        self._file.append(_digests({text, *parts, *(sentence for part in parts for sentence in sentences(part))}))


def recorded(texts: Iterable[str], path: Path, separator: str) -> Iterator[str]:
    """The texts, which `SeenTexts` writes down as they pass."""
    with SeenTexts(path, separator) as seen:
        for text in texts:
            seen.add(text)
            yield text


def overlap(validation: Iterable[tuple[str, ...]], seen: Path, where: str) -> list[str]:
    """A note on validation rows with a text that a corpus has, apart from case and white space; none without any.

    Args:
        validation: The texts of each validation row.
        seen: The file that `SeenTexts` wrote.
        where: The recipe's key of the corpus.
    """
    rows = [_digests(row) for row in validation]
    wanted = np.unique(np.concatenate(rows)) if rows else np.empty(0, dtype=np.uint64)
    digests: Digests = np.load(seen, mmap_mode="r")
    known: set[int] = set()
    for start in range(0, len(digests), _AT_ONCE):
        some = digests[start : start + _AT_ONCE]
        known.update(some[np.isin(some, wanted)].tolist())
    count = sum(not known.isdisjoint(row.tolist()) for row in rows)
    if not count:
        return []
    share = f"{count} of {len(rows)} validation rows ({100 * count / len(rows):.1f} %)"
    return [f"{share} have a text that {where} has, too: scores on them say little about new rows"]


def _digests(texts: Iterable[str]) -> Digests:
    """64 bits of each text, `(texts,)`."""
    found = [hashlib.blake2b(plain(text).encode(), digest_size=8).digest() for text in texts]
    return np.frombuffer(b"".join(found), dtype="<u8").astype(np.uint64)
