"""Pairs of segments of one text, in their order or swapped, for sentence-order prediction.

Source: Lan et al. 2019, "ALBERT", section 3.1.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from compressor.data.corpus.sequences import Piece, dtype_of, special_ids
from compressor.files import ArrayWriter

if TYPE_CHECKING:
    from types import TracebackType

    from transformers import PreTrainedTokenizerBase

IN_ORDER, SWAPPED = 0, 1
"""Labels of a pair, as `AlbertForPreTraining` has them."""
LEAST_LENGTH = 5
"""Tokens of the shortest sequence that holds two: `[CLS] a [SEP] b [SEP]`."""

_SENTENCE_END = re.compile(r"(?<=[.!?…])\s+")

Ints = NDArray[np.integer[Any]]


def order_file(sequences: Path) -> Path:
    """Where the labels of a file of pairs are, `(rows,)`; the file does not exist if the sequences are not pairs."""
    return sequences.with_name(f"{sequences.stem}_order.npy")


def second_file(sequences: Path) -> Path:
    """Where the columns are in which the second segments of a file of pairs begin, `(rows,)`."""
    return sequences.with_name(f"{sequences.stem}_second.npy")


def ends_file(sequences: Path) -> Path:
    """Where the ends of the sentences of a file of pairs are: a bit for each number of tokens of the text, `(rows, …)`.

    Bit `n` of a row says that a sentence ends behind `n` tokens of its text, and another follows.
    """
    return sequences.with_name(f"{sequences.stem}_ends.npy")


def sentences(paragraph: str) -> list[str]:
    """The sentences of a paragraph: it is split at white space after `.`, `!`, `?` or `…`.

    A plain rule: it splits after an abbreviation, and not after a closing quote.
    """
    return [sentence for sentence in _SENTENCE_END.split(paragraph.strip()) if sentence]


def token_types(tokens: Ints, second: Ints, padding: int) -> NDArray[np.int64]:
    """Segment of each token: 0 with [CLS] and the first [SEP], 1 with the second [SEP], 0 on padding.

    Args:
        tokens: Sequences `(rows, length)`.
        second: Where the second segments begin. `(rows,)`
        padding: Id of [PAD].

    Returns:
        `(rows, length)`.
    """
    after: NDArray[np.bool_] = np.arange(tokens.shape[1]) >= second[:, None]
    return np.where((tokens != padding) & after, 1, 0)


def turned(tokens: Ints, second: Ints, padding: int) -> NDArray[np.int64]:
    """Pairs the other way round: `[CLS] B [SEP] A [SEP]` for `[CLS] A [SEP] B [SEP]`.

    Args:
        tokens: Sequences `(rows, length)`.
        second: Where the second segments begin. `(rows,)`
        padding: Id of [PAD].

    Returns:
        `(rows, length)`.
    """
    used = (tokens != padding).sum(axis=1, keepdims=True)
    place, begins = np.arange(tokens.shape[1])[None], second[:, None]
    first = used - begins  # where the old first segment begins, less one: behind B and its [SEP]
    moved = np.where(place <= first, place + begins - 1, place - first)
    source = np.where((place > 0) & (place < used), moved, place).astype(np.int64)
    return np.take_along_axis(tokens, source, axis=1).astype(np.int64)


def redrawn(
    tokens: NDArray[np.int64], second: NDArray[np.int64], order: Ints, ends: Ints, padding: int, draw: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of the same texts in the same order, cut in two at another end of a sentence, if there is another.

    Args:
        tokens: Sequences `(rows, length)`.
        second: Where the second segments begin. `(rows,)`
        order: `IN_ORDER` or `SWAPPED`. `(rows,)`
        ends: From `ends_file`. `(rows, …)`
        padding: Id of [PAD].
        draw: Another number draws other ends.

    Returns:
        The sequences, and where the second segments begin.
    """
    tokens, second = tokens.copy(), second.copy()
    used = (tokens != padding).sum(axis=1)
    for index, (row, begins, swapped, bits, stop) in enumerate(zip(tokens, second, order, ends, used, strict=True)):
        parts = [row[1 : begins - 1], row[begins : stop - 1]]
        text = np.concatenate(parts[::-1] if swapped else parts)
        boundary = _drawn(np.flatnonzero(np.unpackbits(bits)), text, draw)
        parts = [text[boundary:], text[:boundary]] if swapped else [text[:boundary], text[boundary:]]
        separator = row[stop - 1]
        row[1 : stop - 1] = np.concatenate([parts[0], [separator], parts[1]])
        second[index] = len(parts[0]) + 2
    return tokens, second


def _drawn(boundaries: Ints, text: Ints, draw: int) -> int:
    digest = hashlib.sha256(b"%d\x1f" % draw + text.astype("<i4").tobytes()).digest()
    return int(boundaries[int.from_bytes(digest[:8], "big") % len(boundaries)])


class Pairs:
    """`[CLS] A [SEP] B [SEP]`, padded: A and B are consecutive runs of sentences of one text, swapped half of the time.

    A sequence takes sentences as long as the next one fits, and fills the room that is left with sentences from the end
    of the sequence before it: this halves the padding, and the end of a text is never too short for a pair of its own.
    A sentence longer than half of the room is cut into equal parts that fit. Where A ends, and whether they are
    swapped, is drawn by a hash of the tokens. A text of one short sentence is left out.

    Segments begin and end with a sentence, unless a sentence had to be cut. If sequences were filled up with parts of
    sentences, a segment that breaks off would always be the second, and give the order away.

    Args:
        path: The .npy file, `(rows, length)`; `order_file`, `second_file` and `ends_file` are written beside it.
        tokenizer: A fast tokenizer with [CLS], [SEP] and [PAD].
        length: Tokens of a sequence, at least `LEAST_LENGTH`.

    Raises:
        RecipeError: The tokenizer lacks a special token.
    """

    def __init__(self, path: Path, tokenizer: PreTrainedTokenizerBase, length: int) -> None:
        assert LEAST_LENGTH <= length <= np.iinfo(np.uint16).max, length
        self._length, self._room = length, length - 3
        self._cls, self._separator, self._padding = special_ids(tokenizer)
        self._dtype = dtype_of(tokenizer)
        self._file = ArrayWriter(path, self._dtype, (length,))
        self._order = ArrayWriter(order_file(path), np.uint8)
        self._second = ArrayWriter(second_file(path), np.uint16)
        self._ends = ArrayWriter(ends_file(path), np.uint8, (-(-length // 8),))
        self._before: list[list[int]] = []  # sentences of the text's last sequence
        self._current: list[list[int]] = []  # sentences of the next one so far
        self._used = 0  # tokens of these
        self._pairs: list[tuple[int, list[int], list[int]]] = []  # not written yet
        self._lengths: list[list[int]] = []  # tokens of the sentences of each

    @property
    def rows(self) -> int:
        """Sequences written so far."""
        return self._file.rows

    def __enter__(self) -> Pairs:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if error is None:
            self._end_text()
            self._write()
        for file in (self._file, self._order, self._second, self._ends):
            file.close()

    def add(self, pieces: Iterable[Piece]) -> None:
        """Takes the next sentences, and writes the sequences that are full."""
        for begins, ids in pieces:
            if begins:
                self._end_text()
            for part in _parts(ids, self._room // 2):
                if self._used + len(part) > self._room:
                    self._end_sequence()
                self._current.append(part)
                self._used += len(part)
        self._write()

    def _end_text(self) -> None:
        if self._current:
            self._end_sequence()
        self._before = []

    def _end_sequence(self) -> None:
        chosen = self._current
        for sentence in reversed(self._before):
            if self._used + len(sentence) > self._room:
                break
            chosen = [sentence, *chosen]
            self._used += len(sentence)
        if len(chosen) > 1:
            self._pairs.append(_pair(chosen))
            self._lengths.append([len(sentence) for sentence in chosen])
        self._before, self._current, self._used = chosen, [], 0

    def _write(self) -> None:
        rows = np.full((len(self._pairs), self._length), self._padding, dtype=self._dtype)
        for row, (_, first, second) in zip(rows, self._pairs, strict=True):
            tokens = [self._cls, *first, self._separator, *second, self._separator]
            row[: len(tokens)] = tokens
        self._file.append(rows)
        self._order.append(np.array([order for order, _, _ in self._pairs], dtype=np.uint8))
        self._second.append(np.array([len(first) + 2 for _, first, _ in self._pairs], dtype=np.uint16))
        ends = np.zeros((len(self._pairs), self._length), dtype=np.bool_)
        for bits, lengths in zip(ends, self._lengths, strict=True):
            bits[np.cumsum(lengths[:-1])] = True
        self._ends.append(np.packbits(ends, axis=1))
        self._pairs, self._lengths = [], []


def _parts(ids: list[int], longest: int) -> list[list[int]]:
    """A sentence, or equal parts of one that is too long; none of no tokens."""
    count = -(-len(ids) // longest)
    return [ids[len(ids) * part // count : len(ids) * (part + 1) // count] for part in range(count)]


def _pair(sentences: list[list[int]]) -> tuple[int, list[int], list[int]]:
    """The label, and the segments as they stand in the sequence.

    Drawn by a hash, not from a stream of random numbers: the pairs of a text do not depend on the texts before it.
    """
    tokens = np.asarray([token for sentence in sentences for token in sentence], dtype="<i4")
    drawn = int.from_bytes(hashlib.sha256(b"pair\x1f" + tokens.tobytes()).digest()[:8], "big")
    swapped, boundary = drawn % 2, 1 + drawn // 2 % (len(sentences) - 1)
    parts = (sentences[:boundary], sentences[boundary:])
    first, second = ([token for sentence in part for token in sentence] for part in parts)
    return (SWAPPED, second, first) if swapped else (IN_ORDER, first, second)
