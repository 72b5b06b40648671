"""Artifacts by key: atomic, resumable, safe to delete, safe to share between processes.

.store/<key>/files/…      the artifact's files
.store/<key>/entry.json   the inputs of the key and the facts that the build returned; written last, to mark completion
.store/.partial/<key>/    an unfinished build; useless after a kill
.store/.work/<key>/       training checkpoints of an unfinished build; the next build of the same key resumes from them
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compressor.files import write_atomic

Json = Any


_POLL_S = 0.2


@dataclass(frozen=True)
class Artifact:
    """A finished artifact.

    Attributes:
        key: Its key.
        path: Folder with its files; read-only by convention.
        inputs: The inputs of the key.
        facts: The facts that the build returned (small, JSON).
    """

    key: str
    path: Path
    inputs: dict[str, Json]
    facts: dict[str, Json]


Build = Callable[[Path, Path], Mapping[str, Json]]
"""Fills the first folder; may keep resumable state in the second; returns facts."""


def key_of(inputs: Mapping[str, Json]) -> str:
    """Key of an artifact: SHA-256 of its inputs as canonical JSON, shortened to 24 hex digits (96 bits)."""
    text = json.dumps(inputs, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


class Store:
    """A folder of artifacts.

    Args:
        root: The folder; created when needed.
        follower: Whether rank 0 of the same distributed run builds artifacts, and this process waits for them.
    """

    def __init__(self, root: Path, follower: bool = False) -> None:
        self.root = root
        self.follower = follower

    def get(self, key: str) -> Artifact | None:
        """The artifact of a key; None if there is none, or if a file is missing or has another size."""
        folder = self.root / key
        try:
            record = json.loads((folder / "entry.json").read_text(encoding="utf-8"))
            files = folder / "files"
            if any((files / name).stat().st_size != size for name, size in record["sizes"].items()):
                return None
            return Artifact(key, files, record["inputs"], record["facts"])
        except (OSError, ValueError, KeyError):
            return None

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
        if entry := self.get(key):
            return entry, True
        if self.follower:
            return self._follow(key, build if together else None), False
        with self._lock(key):
            if entry := self.get(key):  # another process was faster
                return entry, True
            partial, work, final = self.root / ".partial" / key, self.work_folder(key), self.root / key
            for leftover in (partial, final):
                shutil.rmtree(leftover, ignore_errors=True)
            files = partial / "files"
            files.mkdir(parents=True)
            work.mkdir(parents=True, exist_ok=True)
            try:
                facts = dict(build(files, work))
                sizes = {str(p.relative_to(files)): p.stat().st_size for p in sorted(files.rglob("*")) if p.is_file()}
                record = {"inputs": dict(inputs), "facts": facts, "sizes": sizes}
                write_atomic(partial / "entry.json", json.dumps(record, indent=1, sort_keys=True))
                partial.rename(final)
            except BaseException:
                shutil.rmtree(partial, ignore_errors=True)
                if not any(work.iterdir()):
                    work.rmdir()
                raise
            shutil.rmtree(work, ignore_errors=True)
        entry = self.get(key)
        assert entry is not None, "an entry that was just written can be read"
        return entry, False

    def _follow(self, key: str, build: Build | None) -> Artifact:
        """Takes part in a build, if there is one, and waits for rank 0's artifact; the launcher ends all together."""
        if build is not None:
            with tempfile.TemporaryDirectory(prefix="compress-") as scratch:
                build(Path(scratch), self.work_folder(key))
        while (entry := self.get(key)) is None:
            time.sleep(_POLL_S)
        return entry

    def discard(self, key: str) -> None:
        """Deletes an artifact, and the work folder of an unfinished build of it."""
        with self._lock(key):
            shutil.rmtree(self.root / key, ignore_errors=True)
            shutil.rmtree(self.work_folder(key), ignore_errors=True)

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
