"""What an artifacts folder holds that no run needs: found, and deleted unless a running process holds it."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compressor.pipeline import lock as locked
from compressor.pipeline.entry import RECORD, key_of
from compressor.pipeline.run_folder import needed_keys
from compressor.pipeline.store import Store
from compressor.report.files import LOCK_FILE

_KEY = re.compile(r"[0-9a-f]{24}")
_ROOTS = ("stage", "source", "data", "corpus")
"""Kinds of artifacts that runs name themselves; the others are needed as long as what they were made of is."""
_REFERENCES = ("checkpoint", "references", "data", "parent", "teacher")
_DAY_S = 86400.0


@dataclass(frozen=True)
class Garbage:
    """A folder of the store that no run needs, or has needed for long.

    Attributes:
        path: The folder, named by its key.
        what: The artifact, or what it is of an unfinished build.
        why: Why it can go.
        size_bytes: Bytes of its files.
    """

    path: Path
    what: str
    why: str
    size_bytes: int


def find(artifacts: Path, older_than: float | None) -> list[Garbage]:
    """Finds what no run folder needs: by its lock, and while its run is unfinished by what that run had planned.

    Args:
        artifacts: Folder of the runs' folders and of the store.
        older_than: Days; what was not used for longer can go, even if a run folder needs it. None for no limit.
    """
    root = artifacts / ".store"
    needed = {key for folder in artifacts.iterdir() if folder.is_dir() for key in _needed(folder)}
    inputs = {path.name: _inputs(path) for path in _folders(root)}
    found = []
    for key, given in sorted(inputs.items()):
        if why := _why(root / key, key, given, inputs, needed, older_than):
            found.append(Garbage(root / key, _what(given), why, _size(root / key)))
    for folder, what in ((".partial", "unfinished build"), (".work", "training checkpoints")):
        for path in _folders(root / folder):
            kept = folder == ".work" and path.name in needed and path.name not in inputs
            if why := _age(path, older_than) if kept else "no run needs it":
                found.append(Garbage(path, what, why, _size(path)))
    return found


def delete(artifacts: Path, found: Garbage) -> bool:
    """Deletes a folder; whether no other process builds or uses its key, so that it is gone."""
    with Store(artifacts / ".store").deletable(found.path.name) as alone:
        if alone:
            (found.path / RECORD).unlink(missing_ok=True)  # first, so that what is half deleted is no artifact
            shutil.rmtree(found.path)
    return alone


def delete_locks(artifacts: Path) -> None:
    """Deletes the files of locks that nobody holds."""
    store = Store(artifacts / ".store")
    for key in sorted({path.name.partition(".")[0] for path in (store.root / ".locks").glob("*")}):
        with store.deletable(key):
            pass


def _needed(folder: Path) -> Iterator[str]:
    yield from needed_keys(folder)
    lock = locked.read(folder / LOCK_FILE)
    if lock is not None:
        yield from _keys_in(lock["stages"])
        yield from (key_of(data) for data in (lock.get("data") or {}).values())


def _why(path: Path, key: str, given: Any, inputs: dict[str, Any], needed: set[str], older_than: float | None) -> str:
    if given is None:
        return "it cannot be read"
    return (
        ""
        if key in needed and not _age(path, older_than)
        else _age(path, older_than) or _unneeded(key, given, inputs, needed)
    )


def _unneeded(key: str, given: Any, inputs: dict[str, Any], needed: set[str]) -> str:
    references = set(_keys_in({name: given.get(name) for name in (*_REFERENCES, "sequences")}))
    by_product = given.get("kind") not in _ROOTS and references
    if by_product and all(
        other in needed or (inputs.get(other) and not _unneeded(other, inputs[other], inputs, needed))
        for other in references
    ):
        return ""
    return "no run needs it"


def _age(path: Path, older_than: float | None) -> str:
    days = (time.time() - path.stat().st_mtime) / _DAY_S
    return f"not used for {days:.0f} days" if older_than is not None and days > older_than else ""


def _keys_in(value: Any) -> Iterator[str]:
    if isinstance(value, str) and _KEY.fullmatch(value):
        yield value
    elif isinstance(value, dict):
        for entry in value.values():
            yield from _keys_in(entry)


def _folders(root: Path) -> list[Path]:
    return sorted(path for path in root.glob("*") if _KEY.fullmatch(path.name))


def _inputs(path: Path) -> Any:
    try:
        given = json.loads((path / RECORD).read_text(encoding="utf-8"))["inputs"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return given if isinstance(given, dict) else None


def _what(given: Any) -> str:
    if given is None:
        return "damaged artifact"
    return str(given["spec"]["stage"] if given.get("kind") == "stage" else given.get("kind"))


def _size(path: Path) -> int:
    return sum(Path(root, name).lstat().st_size for root, _, names in os.walk(path) for name in names)
