"""Pages of mapped tables that are resident: given back while a run goes on, as often as there are many of them.

Rows are memory-mapped, and the system keeps the pages that were read as long as memory is free, and counts them as the
process'. A run over 1 GB of text then looks as if it needed 2 GB, to `time` and to what watches containers. The pages
stay in the system's cache, so that reading them again costs a fault each and no disk.
"""

from __future__ import annotations

import ctypes
import mmap
import threading
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import pyarrow
    from datasets import Dataset

_MOST_BYTES = 16 << 20  # that are read between two times at which pages are given back
_POLL_S, _POLL_WHILE_READING_S = 0.03, 0.01
_BATCHES = 32
_MADV_DONTNEED = 4
_STATM, _MAPS = Path("/proc/self/statm"), Path("/proc/self/maps")

Batch = TypeVar("Batch")
_tables: list[weakref.ref[pyarrow.Table]] = []  # memory is the process', and so is what maps it


def watched(rows: Dataset) -> Dataset:
    """The same rows, whose pages are given back within `bounded`, as are those of selections of them."""
    _tables[:] = [table for table in _tables if table() is not None]
    _tables.append(weakref.ref(rows.data.table))
    return rows


@contextmanager
def bounded() -> Iterator[None]:
    """Gives back pages of watched tables in a `with` block, on systems that say how many there are (Linux)."""
    if not _STATM.is_file():
        yield
        return
    done = threading.Event()
    thread = threading.Thread(target=_until, args=(done,), name="resident pages", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _until(done: threading.Event) -> None:
    least = now = _of_files()
    pause = _POLL_S
    while not done.wait(pause):
        before, now = now, _of_files()
        least, pause = min(least, now), _POLL_WHILE_READING_S if now > before else _POLL_S
        if now - least > _MOST_BYTES:
            give_back()
            left = _of_files()
            if now - left < _MOST_BYTES // 2:  # it grew by other files, which stay
                least = left


def _of_files() -> int:
    """Bytes of files that are resident in this process."""
    return int(_STATM.read_text(encoding="ascii").split()[2]) * mmap.PAGESIZE


def spared(batches: Iterable[Batch]) -> Iterator[Batch]:
    """Batches of a watched table, whose pages are given back every few of them: for passes that are fast."""
    for index, batch in enumerate(batches, 1):
        yield batch
        if index % _BATCHES == 0:
            give_back()


def give_back() -> None:
    """Gives back the pages of all watched tables, where the system says what is mapped (Linux)."""
    tables = [table for reference in list(_tables) if (table := reference()) is not None]
    if not tables or not _MAPS.is_file():
        return
    # The tables are held until the end, so nothing else can come where their files are mapped.
    addresses = sorted(address for table in tables for address in _addresses(table))
    advise = ctypes.CDLL(None).madvise
    for start, end in _mapped():
        if any(start <= address < end for address in addresses):
            advise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), _MADV_DONTNEED)


def _addresses(table: pyarrow.Table) -> Iterator[int]:
    """An address in each part of a table's memory."""
    for chunk in table.column(0).chunks if table.num_columns else ():
        buffers = [buffer for buffer in chunk.buffers() if buffer is not None and buffer.size]
        if buffers:
            yield buffers[-1].address


def _mapped() -> Iterator[tuple[int, int]]:
    """Where Arrow files are mapped for reading: first address and the one behind the last of each."""
    for line in _MAPS.read_text(encoding="utf-8", errors="replace").splitlines():
        place, access, *_ = line.split(maxsplit=2)
        if access.startswith("r--") and line.removesuffix(" (deleted)").endswith(".arrow"):
            start, end = (int(address, 16) for address in place.split("-"))
            yield start, end
