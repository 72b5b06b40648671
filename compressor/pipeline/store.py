"""Artifacts by key: atomic, resumable, checked, safe to delete, safe to share between processes.

.store/<key>/             a finished artifact: see `compressor.pipeline.entry`
.store/.partial/<key>/    an unfinished build; useless after a kill
.store/.work/<key>/       training checkpoints of an unfinished build; the next build of the same key resumes from them
.store/.locks/<key>       locked by who builds or deletes the key
.store/.locks/<key>.used  locked by all runs that use the artifact, until they end; nobody deletes it before

What a run takes from the store has the digests that it had when it was built, or it is built again.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import TracebackType

from compressor.files import sync, sync_tree
from compressor.pipeline import entry as entries
from compressor.pipeline.entry import Artifact, DamagedError, Json, key_of
from compressor.pipeline.locks import FileLock, lock, try_lock
from compressor.training import processes

_BUILDS = "builds "
"""Decision of rank 0, with a key behind it: whether it builds what all take part in, or has it already."""


Build = Callable[[Path, Path], Mapping[str, Json]]
"""Fills the first folder; may keep resumable state in the second; returns facts."""


class Store:
    """A folder of artifacts; a context manager that lets go of those that were used.

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
        self._used: dict[str, FileLock] = {}

    def __enter__(self) -> Store:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Lets other processes delete what was used."""
        while self._used:
            self._used.popitem()[1].release()

    @property
    def used(self) -> frozenset[str]:
        """The keys of the artifacts that were used."""
        return frozenset(self._used)

    def get(self, key: str) -> Artifact | None:
        """The artifact of a key, to look at; None if there is none, or if it is damaged."""
        return self._look(key)[0]

    def use(self, key: str) -> Artifact | None:
        """The artifact of a key, as `get`, which nobody deletes until this store is closed."""
        if not self.follower:  # rank 0 uses it, too
            if key not in self._used:
                self._used[key] = lock(self._lock_file(key, used=True), lambda: None, shared=True)
            if self.get(key) is None:
                self._used.pop(key).release()
                return None
            self._tidy(key)
        return self.get(key)

    def _tidy(self, key: str) -> None:
        """Notes when an artifact was used last, and deletes what a build left that was killed at its very end."""
        with contextlib.suppress(OSError):  # of another user
            os.utime(self.root / key)
        leftovers = [path for path in (self.work_folder(key), self._partial(key)) if path.exists()]
        if leftovers and (held := try_lock(self._lock_file(key))):
            for path in leftovers:
                _delete(path)
            held.release()

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
        entry = self.use(key)
        assert entry is not None, "artifacts are built in order"
        return entry.path

    def build(
        self, inputs: Mapping[str, Json], build: Build, together: bool = False, of: Sequence[str] = ()
    ) -> tuple[Artifact, bool]:
        """The artifact of these inputs, built if it is not there.

        A key stands for the inputs of a build, and training need not give the same bits twice: what describes artifacts
        of the store, such as a measurement, is built again where one of them was built again and has other bits.

        Args:
            inputs: All inputs of the result; they make the key.
            build: Called with an empty folder to fill, and a work folder that survives a kill.
            together: Whether all processes of a distributed run take part in the build.
            of: Keys of the artifacts that it describes.

        Returns:
            The entry, and whether it was there already.
        """
        key = key_of(inputs)
        if self.follower:
            entry = None if together else self.get(key)
            return (entry, True) if entry else (self._follow(key, build if together else None), False)
        if (entry := self.use(key)) and not self._outdated(entry, of):
            return self._found(entry, together)
        with self._building(inputs, key):
            entry = self.use(key)
            if entry and not self._outdated(entry, of):  # another process was faster
                return self._found(entry, together)
            if together:
                processes.decided(_BUILDS + key, lambda: True)
            fresh, work, final = self._partial(key), self.work_folder(key), self.root / key
            if damage := self.damage(key):
                self._note(f"{_what(inputs)} was damaged in the store and is built again: {damage} ({final})")
            if entry:
                self._note(f"{_what(inputs)} is built again: what it describes has changed ({final})")
            for leftover in (fresh, final):
                _delete(leftover)
            files = fresh / "files"
            files.mkdir(parents=True)
            work.mkdir(parents=True, exist_ok=True)
            try:
                facts = dict(build(files, work))
                record = entries.write(fresh, inputs, facts, self._digests(of))
                sync_tree(fresh)
                fresh.rename(final)
                sync(self.root)
            except BaseException:
                shutil.rmtree(fresh, ignore_errors=True)
                if not any(work.iterdir()):
                    work.rmdir()
                raise
            shutil.rmtree(work, ignore_errors=True)
            entry = entries.artifact(final, record)
            self._looked[key] = (_mark(final), entry, "")
            self._used[key] = lock(self._lock_file(key, used=True), lambda: None, shared=True)
        return entry, False

    def _digests(self, keys: Sequence[str]) -> dict[str, str]:
        """Digests of artifacts, as far as they are in this store."""
        return {key: entry.digest for key in keys if (entry := self.get(key))}

    def _outdated(self, entry: Artifact, of: Sequence[str]) -> bool:
        """Whether an artifact describes others that were since built again and came out otherwise."""
        now = self._digests(of)
        return any(now[key] != digest for key, digest in entry.subjects.items() if key in now)

    def _note(self, note: str) -> None:
        self.notes.append(note)
        self._tell(note)

    def _tell(self, text: str) -> None:
        if self._say is not None:
            self._say(text)

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
        """Deletes an artifact, and what there is of an unfinished build of it, once no other run uses it."""

        def waiting() -> None:
            self._tell(f"another run uses {self.root / key}; waiting until it ends. Ctrl-C stops waiting.")

        with self._deleting(key, partial(lock, waiting=waiting)) as alone:
            assert alone, "it waits"
            self.delete(key)

    @contextmanager
    def deletable(self, key: str) -> Iterator[bool]:
        """Whether no other process builds or uses a key; none does so within the block."""
        with self._deleting(key, try_lock) as alone:
            yield alone

    def delete(self, key: str) -> None:
        """Deletes an artifact and what there is of an unfinished build of it, within `deletable`."""
        for path in (self.root / key, self.work_folder(key), self._partial(key)):
            _delete(path)

    @contextmanager
    def _deleting(self, key: str, take: Callable[[Path], FileLock | None]) -> Iterator[bool]:
        """Takes both locks of a key, and deletes their files afterwards; yields whether it has both."""
        held = [take(self._lock_file(key)), None]
        try:
            if held[0] is not None:
                held[1] = take(self._lock_file(key, used=True))
            yield None not in held
        finally:
            for each in reversed(held):
                if each is not None:
                    each.release(remove=None not in held)

    def _partial(self, key: str) -> Path:
        return self.root / ".partial" / key

    def work_folder(self, key: str) -> Path:
        """The folder from which an unfinished build of this key is resumed."""
        return self.root / ".work" / key

    @contextmanager
    def _building(self, inputs: Mapping[str, Json], key: str) -> Iterator[None]:
        def waiting() -> None:
            self._tell(f"{_what(inputs)} is being built by another run; waiting for it. Ctrl-C stops waiting.")

        held = lock(self._lock_file(key), waiting)
        try:
            yield
        finally:
            held.release()

    def _lock_file(self, key: str, *, used: bool = False) -> Path:
        return self.root / ".locks" / (f"{key}.used" if used else key)


def _what(inputs: Mapping[str, Json]) -> str:
    """An artifact in a word or two."""
    return str(inputs["spec"]["stage"] if inputs.get("kind") == "stage" else inputs.get("kind", "an artifact"))


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
