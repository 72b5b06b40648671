"""Locks between processes, which the system frees when their owner dies, however it dies."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import TextIO


class FileLock:
    """A lock on a file, held until it is released or its process dies.

    Args:
        path: The file.
        file: The file, opened and locked.
    """

    def __init__(self, path: Path, file: TextIO) -> None:
        self._path, self._file = path, file

    def share(self) -> None:
        """Lets others share the lock from now on; for a moment it may be taken by another process."""
        fcntl.flock(self._file, fcntl.LOCK_SH)

    def read(self) -> str:
        """The file's text."""
        self._file.seek(0)
        return self._file.read()

    def write(self, text: str) -> None:
        """Replaces the file's text."""
        self._file.seek(0)
        self._file.truncate()
        self._file.write(text)
        self._file.flush()

    def release(self, *, remove: bool = False) -> None:
        """Lets go of the lock.

        Args:
            remove: Delete the file first; nobody else may share the lock.
        """
        if remove:
            self._path.unlink(missing_ok=True)
        self._file.close()


def try_lock(path: Path, *, shared: bool = False) -> FileLock | None:
    """Locks a file, which is made if it is not there; None if another owner is in the way.

    Args:
        path: The file.
        shared: Whether others may share the lock.
    """
    return _lock(path, shared, None)


def lock(path: Path, waiting: Callable[[], None], *, shared: bool = False) -> FileLock:
    """Locks a file, which is made if it is not there; waits for its owner.

    Args:
        path: The file.
        waiting: Called before the wait, if there is one.
        shared: Whether others may share the lock.
    """
    found = _lock(path, shared, waiting)
    assert found is not None, "it waits"
    return found


def _lock(path: Path, shared: bool, waiting: Callable[[], None] | None) -> FileLock | None:
    path.parent.mkdir(parents=True, exist_ok=True)
    kind, told = fcntl.LOCK_SH if shared else fcntl.LOCK_EX, False
    while True:
        file = path.open("a+", encoding="utf-8")
        try:
            try:
                fcntl.flock(file, kind | fcntl.LOCK_NB)
            except BlockingIOError:
                if waiting is None:
                    file.close()
                    return None
                if not told:
                    waiting()
                    told = True
                fcntl.flock(file, kind)
            if _is(path, file):
                return FileLock(path, file)
        except BaseException:
            file.close()
            raise
        file.close()  # its owner has deleted it: the next one to come would lock another file of this name


def _is(path: Path, file: TextIO) -> bool:
    """Whether a path still names an open file."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False
