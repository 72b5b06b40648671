"""Files that are written whole or not at all, their digests, and arrays on disk that may be larger than memory."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import DTypeLike, NDArray


def file_digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomic(path: Path, text: str) -> None:
    """Writes a file so that it is there whole or not at all."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


class ArrayWriter:
    """A .npy file that is written from front to back, of as many rows as come.

    Plain writes, not a memory map: mapped pages count as resident memory, and an .npy header can be rewritten in place
    because numpy leaves room for the first axis to grow.

    Args:
        path: The file.
        dtype: Its type.
        row: Shape of a row.
        expected: How many rows there have to be at the end of a `with` block; None for as many as come.

    Attributes:
        rows: Rows written so far.
    """

    def __init__(self, path: Path, dtype: DTypeLike, row: tuple[int, ...] = (), expected: int | None = None) -> None:
        self.rows = 0
        self._dtype, self._row, self._expected = np.dtype(dtype), row, expected
        self._file = path.open("wb")
        self._write_header()

    def __enter__(self) -> ArrayWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()
        assert error is not None or self._expected in (None, self.rows), "an array is written whole"

    def append(self, rows: NDArray[Any]) -> None:
        """Writes the next rows. `(some, *row)`."""
        assert rows.shape[1:] == self._row, (rows.shape, self._row)
        self._file.write(np.ascontiguousarray(rows, dtype=self._dtype).tobytes())
        self.rows += len(rows)

    def close(self) -> None:
        """Writes how many rows there are."""
        with self._file:
            self._file.seek(0)
            self._write_header()

    def _write_header(self) -> None:
        shape = (self.rows, *self._row)
        header = {"descr": npy.dtype_to_descr(self._dtype), "fortran_order": False, "shape": shape}
        npy.write_array_header_1_0(self._file, header)


def gather(path: Path, rows: NDArray[np.int64]) -> NDArray[Any]:
    """Some rows of a .npy file, in the order asked for; mapped only while they are copied."""
    return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False)[rows])


def gather_spans(path: Path, starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> list[NDArray[Any]]:
    """Spans of a .npy file, one for each start; mapped only while they are copied."""
    mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    return [np.array(mapped[start : start + length]) for start, length in zip(starts, lengths, strict=True)]
