"""Sequences of tokens, written to disk as they come: end to end and full."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from compressor.errors import Problem, RecipeError

if TYPE_CHECKING:
    from types import TracebackType

    from transformers import PreTrainedTokenizerBase

from compressor.files import ArrayWriter

Piece = tuple[bool, list[int]]
"""Whether a text begins with it, and the tokens of a paragraph or a sentence."""


class Side(Protocol):
    """One side of the split, being packed."""

    @property
    def rows(self) -> int:
        """Sequences written so far."""

    def add(self, pieces: Iterable[Piece]) -> None:
        """Takes the next pieces, and writes the sequences that are full."""

    def __enter__(self) -> Side: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """Writes the rest, unless an error occurred."""


class FullSequences:
    """`[CLS] tokens [SEP] tokens ... [SEP]`: pieces end to end, a [SEP] between two, over the ends of texts.

    Tokens at the end that do not fill a sequence are dropped, unless there is no full sequence: then the one sequence
    is padded.

    Source: Liu et al. 2019 (RoBERTa), section 4.2, FULL-SENTENCES.

    Args:
        path: The .npy file, `(rows, length)`.
        tokenizer: A fast tokenizer with [CLS], [SEP] and [PAD].
        length: Tokens of a sequence, at least 3.

    Raises:
        RecipeError: The tokenizer lacks a special token.
    """

    def __init__(self, path: Path, tokenizer: PreTrainedTokenizerBase, length: int) -> None:
        assert length >= 3, length
        self._length = length
        self._cls, self._separator, self._padding = special_ids(tokenizer)
        self._dtype = dtype_of(tokenizer)
        self._begun = False
        self._rest = np.empty(0, dtype=self._dtype)
        self._file = ArrayWriter(path, self._dtype, (length,))

    @property
    def rows(self) -> int:
        """Sequences written so far."""
        return self._file.rows

    def __enter__(self) -> FullSequences:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if error is None and not self.rows and len(self._rest):
            self._file.append(self._padded())
        self._file.close()

    def add(self, pieces: Iterable[Piece]) -> None:
        """Appends the tokens of pieces, and writes the sequences that are full."""
        stream: list[int] = []
        for _, ids in pieces:
            if ids and self._begun:
                stream.append(self._separator)
            stream += ids
            self._begun = self._begun or bool(ids)
        tokens = np.concatenate([self._rest, np.asarray(stream, dtype=self._dtype)])
        payload = self._length - 2
        full = len(tokens) // payload
        rows = np.empty((full, self._length), dtype=self._dtype)
        rows[:, 0], rows[:, -1] = self._cls, self._separator
        rows[:, 1:-1] = tokens[: full * payload].reshape(full, payload)
        self._rest = tokens[full * payload :].copy()
        self._file.append(rows)

    def _padded(self) -> NDArray[Any]:
        row = np.full((1, self._length), self._padding, dtype=self._dtype)
        row[0, : len(self._rest) + 2] = [self._cls, *self._rest.tolist(), self._separator]
        return row


def dtype_of(tokenizer: PreTrainedTokenizerBase) -> np.dtype[Any]:
    """The smallest type that holds a tokenizer's ids: uint16 or int32."""
    return np.dtype(np.uint16 if len(tokenizer) <= 1 << 16 else np.int32)


def special_ids(tokenizer: PreTrainedTokenizerBase) -> tuple[int, int, int]:
    """Ids of [CLS], [SEP] and [PAD].

    Raises:
        RecipeError: The tokenizer lacks one of them.
    """
    ids = {name: getattr(tokenizer, f"{name}_token_id") for name in ("cls", "sep", "pad")}
    if missing := [name for name, value in ids.items() if value is None]:
        what = f"its tokenizer has no {', '.join(f'{name}_token' for name in missing)}"
        raise RecipeError([Problem("model", what, "a corpus is packed for tokenizers like BERT's", kind="unsupported")])
    return ids["cls"], ids["sep"], ids["pad"]
