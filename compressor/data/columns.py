"""Tables of rows, read and written many rows at a time.

`datasets` looks up each value of `rows[name]` by itself, and hashes all that a function refers to, whole modules,
before it applies it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np
from numpy.typing import DTypeLike, NDArray

from compressor.host import resident_pages

if TYPE_CHECKING:
    import pyarrow
    from datasets import Dataset

_AT_ONCE, _WRITTEN_AT_ONCE = 1000, 10_000
_NUMBERS_AT_ONCE = 1 << 13
_BATCH_BYTES = 8 << 20


def values(rows: Dataset, name: str) -> Iterator[Any]:
    """The values of a column, of which a thousand are in memory."""
    for batch in resident_pages.spared(rows.select_columns([name]).iter(_AT_ONCE)):
        yield from batch[name]


def numbers(rows: Dataset, name: str, dtype: DTypeLike) -> NDArray[Any]:
    """The numbers of a column. `(rows,)`."""
    found = np.empty(len(rows), dtype=dtype)
    start = 0
    for batch in resident_pages.spared(rows.select_columns([name]).with_format("numpy").iter(_NUMBERS_AT_ONCE)):
        part = batch[name]
        found[start : start + len(part)] = part
        start += len(part)
    return found


def write_table(path: Path, schema: pyarrow.Schema, parts: Iterable[pyarrow.Table]) -> None:
    """Writes tables as an Arrow file of large batches.

    To open a file, the head of each batch is read, and with it the system maps 64 KB around.

    Args:
        path: The file.
        schema: Of the tables.
        parts: The tables, of some rows each.
    """
    import pyarrow

    held, size = [schema.empty_table()], 0
    with pyarrow.ipc.new_stream(path, schema) as file:
        for part in parts:
            held.append(part)
            size += part.nbytes
            if size >= _BATCH_BYTES:
                file.write_table(pyarrow.concat_tables(held).combine_chunks())  # a selection has a chunk for each gap
                held, size = [schema.empty_table()], 0
        file.write_table(pyarrow.concat_tables(held).combine_chunks())


def encoded_rows(rows: Dataset, convert: Callable[..., dict[str, list[Any]]], *, with_indices: bool = False) -> Dataset:
    """Rows of other columns, in a file that is memory-mapped.

    Args:
        rows: The rows.
        convert: From some rows, and with `with_indices` their numbers, to columns.
        with_indices: Whether it is given the numbers.
    """
    return rows.map(
        convert,
        batched=True,
        with_indices=with_indices,
        remove_columns=rows.column_names,
        writer_batch_size=_WRITTEN_AT_ONCE,
        new_fingerprint=uuid4().hex,  # nothing is looked up by it: results are kept in the store
    )
