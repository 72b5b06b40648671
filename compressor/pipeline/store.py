"""Artifacts by key: atomic, resumable, checked, safe to delete, safe to share between processes.

.store/<key>/             a finished artifact: see `compressor.pipeline.entry`
.store/.partial/<key>/    an unfinished build; useless after a kill
.store/.work/<key>/       training checkpoints of an unfinished build; the next build of the same key resumes from them

What a run takes from the store has the digests that it had when it was built, or it is built again.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from compressor.pipeline import entry as entries
from compressor.pipeline.entry import Artifact, DamagedError, Json, key_of
from compressor.training import processes

_BUILDS = "builds "
"""Decision of rank 0, with a key behind it: whether it builds what all take part in, or has it already."""


Build = Callable[[Path, Path], Mapping[str, Json]]
"""Fills the first folder; may keep resumable state in the second; returns facts."""


class Store:
    """A folder of artifacts.

    Args:
        root: The folder; created when needed.
        follower: Whether rank 0 of the same distributed run builds artifacts, and this process waits for them.
        say: Shows a note to the user.

    Attributes:
        notes: What was damaged and had to be built again.
    """

    def __init__(self, root: Path, follower: bool = False, say: Callable[[str], None] | None = None) -> None:
        self.root = root
        self.follower = follower
        self.notes: list[str] = []
        self._say = say
        self._looked: dict[str, tuple[object, Artifact | None, str]] = {}

    def get(self, key: str) -> Artifact | None:
        """The artifact of a key; None if there is none, or if it is damaged."""
        return self._look(key)[0]

    def damage(self, key: str) -> str:
        """What keeps an artifact that is there from being used; empty for nothing."""
        return self._look(key)[1]

    def _look(self, key: str) -> tuple[Artifact | None, str]:
        """Reads an entry and checks its digests, once as long as its record stays the same file."""
        folder = self.root / key
        mark = _mark(folder)
        if key not in self._looked or self._looked[key][0] != mark:
            try:
                self._looked[key] = (mark, entries.read(folder), "")
            except DamagedError as error:
                self._looked[key] = (mark, None, str(error))
        return self._looked[key][1:]

    def folder(self, key: str) -> Path:
        """Folder of an artifact that was built in this run."""
        entry = self.get(key)
        assert entry is not None, "artifacts are built in order"
        return entry.path

    def build(self, inputs: Mapping[str, Json], build: Build, together: bool = False) -> tuple[Artifact, bool]:
        """The artifact of these inputs, built if it is not there.

        Args:
            inputs: All inputs of the result; they make the key.
            build: Called with an empty folder to fill, and a work folder that survives a kill.
            together: Whether all processes of a distributed run take part in the build.

        Returns:
            The entry, and whether it was there already.
        """
        key = key_of(inputs)
        if self.follower:
            entry = None if together else self.get(key)
            return (entry, True) if entry else (self._follow(key, build if together else None), False)
        if entry := self.get(key):
            return self._found(entry, together)
        with self._lock(key):
            if entry := self.get(key):  # another process was faster
                return self._found(entry, together)
            if together:
                processes.decided(_BUILDS + key, lambda: True)
            partial, work, final = self.root / ".partial" / key, self.work_folder(key), self.root / key
            if damage := self.damage(key):
                self._note(inputs, key, damage)
            for leftover in (partial, final):
                _delete(leftover)
            files = partial / "files"
            files.mkdir(parents=True)
            work.mkdir(parents=True, exist_ok=True)
            try:
                facts = dict(build(files, work))
                record = entries.write(partial, inputs, facts)
                partial.rename(final)
            except BaseException:
                shutil.rmtree(partial, ignore_errors=True)
                if not any(work.iterdir()):
                    work.rmdir()
                raise
            shutil.rmtree(work, ignore_errors=True)
            entry = entries.artifact(final, record)
            self._looked[key] = (_mark(final), entry, "")
        return entry, False

    def _note(self, inputs: Mapping[str, Json], key: str, damage: str) -> None:
        what = inputs["spec"]["stage"] if inputs.get("kind") == "stage" else inputs.get("kind", "an artifact")
        note = f"{what} was damaged in the store and is built again: {damage} ({self.root / key})"
        self.notes.append(note)
        if self._say is not None:
            self._say(note)

    def _found(self, entry: Artifact, together: bool) -> tuple[Artifact, bool]:
        """An artifact that rank 0 need not build; followers are told, who could have looked before it was there."""
        if together:
            processes.decided(_BUILDS + entry.key, lambda: False)
        return entry, True

    def _follow(self, key: str, build: Build | None) -> Artifact:
        """Takes part in a build, if there is one and rank 0 builds, and waits for its artifact."""
        if build is not None and processes.decided(_BUILDS + key, lambda: True):
            with tempfile.TemporaryDirectory(prefix="compress-") as scratch:
                build(Path(scratch), self.work_folder(key))
        processes.wait_until(lambda: self.get(key) is not None)
        entry = self.get(key)
        assert entry is not None, "it was there a moment ago"
        return entry

    def discard(self, key: str) -> None:
        """Deletes an artifact, and the work folder of an unfinished build of it."""
        with self._lock(key):
            _delete(self.root / key)
            _delete(self.work_folder(key))

    def work_folder(self, key: str) -> Path:
        """The folder from which an unfinished build of this key is resumed."""
        return self.root / ".work" / key

    @contextmanager
    def _lock(self, key: str) -> Iterator[None]:
        folder = self.root / ".locks"
        folder.mkdir(parents=True, exist_ok=True)
        # The system frees the lock when its owner dies, however it dies.
        with (folder / key).open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _mark(folder: Path) -> object:
    """A value that changes when an entry is written again or deleted."""
    try:
        status = (folder / entries.RECORD).stat()
        return status.st_ino, status.st_mtime_ns, status.st_size
    except OSError:
        return os.path.lexists(folder)


def _delete(path: Path) -> None:
    """Deletes a folder, or whatever has taken its place, as far as that is allowed."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
