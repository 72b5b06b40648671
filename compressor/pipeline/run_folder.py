"""A run's folder, which belongs to one run at a time."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from compressor.package import publish
from compressor.pipeline.locks import FileLock, lock
from compressor.progress import Progress

LOCK = ".run.lock"
"""File that a run locks; holds its process, and the keys of the store that it and the run before it need."""


class RunFolder:
    """A folder that this process has for itself.

    Args:
        path: The folder.
        held: Its lock.
    """

    def __init__(self, path: Path, held: FileLock) -> None:
        self.path = path
        self._held, self._before = held, _record(held.read())[1]
        self._write(self._before)

    def needs(self, keys: Collection[str]) -> None:
        """Tells which keys of the store the run needs: `compress gc` keeps them, whether or not the run is finished."""
        self._write(self._before | set(keys))

    def finished(self, keys: Collection[str]) -> None:
        """Tells which keys the results in the folder need, which are those of this run and not of the run before."""
        self._write(keys)

    def _write(self, keys: Collection[str]) -> None:
        owner = f"process {os.getpid()} on {platform.node()}"
        self._held.write(json.dumps({"owner": owner, "keys": sorted(keys)}) + "\n")


@contextmanager
def claimed(path: Path, progress: Progress) -> Iterator[RunFolder]:
    """Waits until no other run has a folder, and puts right what one left that was killed.

    Args:
        path: The folder; created when needed.
        progress: Tells what is waited for.
    """

    def waiting() -> None:
        owner = _record((path / LOCK).read_text(encoding="utf-8"))[0]
        progress.say(f"{path} belongs to another run ({owner}); waiting until it ends. Ctrl-C stops waiting.")

    held = lock(path / LOCK, waiting)
    try:
        publish.recover(path)
        yield RunFolder(path, held)
    finally:
        held.release()


def needed_keys(path: Path) -> set[str]:
    """The keys of the store that the runs of a folder need, as far as its lock tells."""
    try:
        return _record((path / LOCK).read_text(encoding="utf-8"))[1]
    except OSError:
        return set()


def _record(text: str) -> tuple[str, set[str]]:
    """The owner of a folder, and keys; a file that was cut off says nothing."""
    try:
        record = json.loads(text)
        return str(record["owner"]), {str(key) for key in record["keys"]}
    except (ValueError, KeyError, TypeError):
        return "unknown", set()
