"""Arrays on disk that are larger than memory may be: written from front to back, read a few rows at a time.

Neither keeps pages of the file mapped: mapped pages count as resident memory, and a run's must not grow with its data.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import DTypeLike, NDArray


class Writer:
    """A .npy file of a known shape, filled by appending rows.

    Args:
        path: The file.
        dtype: Its type.
        shape: Its whole shape `(rows, …)`.
    """

    def __init__(self, path: Path, dtype: DTypeLike, shape: tuple[int, ...]) -> None:
        self._dtype, self._shape, self._rows = np.dtype(dtype), shape, 0
        self._file = path.open("wb")
        header = {"descr": npy.dtype_to_descr(self._dtype), "fortran_order": False, "shape": shape}
        npy.write_array_header_1_0(self._file, header)

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._file.close()
        assert error is not None or self._rows == self._shape[0], "an array is written whole"

    def append(self, rows: NDArray[Any]) -> None:
        """Writes the next rows. `(some, …)`."""
        assert rows.shape[1:] == self._shape[1:], (rows.shape, self._shape)
        self._file.write(np.ascontiguousarray(rows, dtype=self._dtype).tobytes())
        self._rows += len(rows)


def gather(path: Path, rows: NDArray[np.int64]) -> NDArray[Any]:
    """Some rows of a .npy file, in the order asked for; mapped only while they are copied."""
    return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False)[rows])


def gather_spans(path: Path, starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> list[NDArray[Any]]:
    """Spans of a .npy file, one for each start; mapped only while they are copied."""
    mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    return [np.array(mapped[start : start + length]) for start, length in zip(starts, lengths, strict=True)]
