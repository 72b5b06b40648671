"""Files that are written whole or not at all, digests of folders, and arrays on disk that may be larger than memory."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import DTypeLike, NDArray

FileEntries = Mapping[str, Mapping[str, str | int]]
"""`sha256` and `size_bytes` of each file of a folder, by its path from there."""


def file_digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_entries(folder: Path) -> dict[str, dict[str, str | int]]:
    """SHA-256 and size of every file in a folder and below, in order of their paths."""
    return {
        name: {"sha256": file_digest(folder / name), "size_bytes": (folder / name).stat().st_size}
        for name in sorted(_paths(folder))
    }


def differences(folder: Path, files: FileEntries) -> dict[str, str]:
    """How a folder differs from what it held once: for each file that is changed, missing or added, in what.

    Nothing outside of the folder is opened.

    Args:
        folder: The folder.
        files: Its files, as `file_entries` found them.
    """
    found = {name: what for name, entry in sorted(files.items()) if (what := _difference(folder, name, entry))}
    return found | dict.fromkeys(sorted(_paths(folder) - set(files)), "was added")


def _difference(folder: Path, name: str, entry: Mapping[str, str | int]) -> str:
    """How a file differs from its entry; empty if it does not."""
    path = folder / name
    try:
        inside = path.resolve().is_relative_to(folder.resolve())
        if not inside or Path(name).is_absolute() or ".." in Path(name).parts:
            return "its path leaves the folder, so it was not opened"
        if not path.is_file():
            return "is not a file" if path.exists() else "is missing"
        size = path.stat().st_size
        if size != entry["size_bytes"]:
            return f"has {size} bytes, should have {entry['size_bytes']}"
        if file_digest(path) != entry["sha256"]:
            return "was changed: it has another sha256"
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:  # RuntimeError: links in a circle
        return f"cannot be read ({type(error).__name__}: {error})"
    return ""


def _paths(folder: Path) -> set[str]:
    """Paths of all files in a folder and below; links to folders are listed as files, and not followed."""
    found = set()
    for root, folders, names in os.walk(folder):
        links = [name for name in folders if (Path(root) / name).is_symlink()]
        found |= {(Path(root) / name).relative_to(folder).as_posix() for name in (*names, *links)}
    return found


@dataclass(frozen=True)
class SealedFolder:
    """A folder, and the digests of its files when they were made.

    Attributes:
        path: The folder.
        files: The digests.
    """

    path: Path
    files: FileEntries


_MOST_JSON_BYTES = 500_000_000
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_GIT_LFS = b"version https://git-lfs.github.com/spec/"
_WEB_PAGE = (b"<!doctype html", b"<html")


def disguise(path: Path) -> str | None:
    """What a file is instead of what its name says, where that is often so: nothing, a git-lfs pointer, a web page.

    Returns:
        A text that follows "is"; None if it is none of these.
    """
    with path.open("rb") as file:
        start = file.read(512).removeprefix(b"\xef\xbb\xbf").lstrip()
    if not start and not path.stat().st_size:
        return "empty"
    if start.startswith(_GIT_LFS):
        return "a git-lfs pointer instead of the file; fetch it with `git lfs pull`"
    if start.lower().startswith(_WEB_PAGE):
        return "a web page instead of the file; download the file itself"
    return None


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        ValueError: It cannot be read, or is something else; the message says why.
    """
    try:
        if what := disguise(path):
            raise ValueError(f"{path} is {what}")
        if path.stat().st_size > _MOST_JSON_BYTES:
            raise ValueError(f"{path} has {path.stat().st_size} bytes, more than such a file can have")
        found = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not a text in UTF-8") from None
    except RecursionError:
        raise ValueError(f"{path} is nested too deep") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds a {type(found).__name__}, not an object with keys")
    return found


def suffix(path: Path) -> str:
    """The end of a file's name that says its format, in lower case: `.csv` of `ROWS.CSV`."""
    return path.suffix.lower()


def fills_a_disk(error: BaseException) -> bool:
    """Whether an error says that a disk is full; libraries and measuring processes say it in words."""
    text = str(error)
    return getattr(error, "errno", None) in _DISK_FULL or "No space left" in text or "File too large" in text


def write_atomic(path: Path, text: str) -> None:
    """Writes a file so that it is there whole or not at all."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        sync(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Waits until a file, or the names in a folder, are on the disk; before, a power cut can empty or undo them."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):  # file systems that sync no folders
            raise
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Waits until a folder and everything in it are on the disk."""
    for root, _, names in os.walk(folder):
        for name in names:
            if (path := Path(root, name)).is_file():
                sync(path)
        sync(Path(root))


class ArrayWriter:
    """A .npy file that is written from front to back, of as many rows as come, or row by row in any order.

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
        self._start = self._file.tell()

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

    def put(self, places: NDArray[np.int64], rows: NDArray[Any]) -> None:
        """Writes rows at their places, of which each comes once. `(some,)`, `(some, *row)`."""
        assert rows.shape == (len(places), *self._row), (rows.shape, self._row)
        for place, row in zip(places.tolist(), np.ascontiguousarray(rows, dtype=self._dtype), strict=True):
            self._file.seek(self._start + place * row.nbytes)
            self._file.write(row.tobytes())
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
