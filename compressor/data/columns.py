"""Columns of tables of rows, many values at a time: `datasets` looks up each value of `rows[name]` by itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

if TYPE_CHECKING:
    from datasets import Dataset

_AT_ONCE = 1000
_NUMBERS_AT_ONCE = 1 << 16


def values(rows: Dataset, name: str) -> Iterator[Any]:
    """The values of a column, of which a thousand are in memory."""
    for batch in rows.select_columns([name]).iter(_AT_ONCE):
        yield from batch[name]


def numbers(rows: Dataset, name: str, dtype: DTypeLike) -> NDArray[Any]:
    """The numbers of a column. `(rows,)`."""
    found = np.empty(len(rows), dtype=dtype)
    start = 0
    for batch in rows.select_columns([name]).with_format("numpy").iter(_NUMBERS_AT_ONCE):
        part = batch[name]
        found[start : start + len(part)] = part
        start += len(part)
    return found
