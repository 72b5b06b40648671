"""An entry of the store on disk, held to the digests that were taken when it was built.

files/…      the artifact's files
entry.json   the inputs of the key, the facts that the build returned, the digest of each file, and its own digest
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compressor.files import FileEntries, SealedFolder, differences, file_entries, write_atomic

Json = Any

RECORD = "entry.json"
FILES = "files"


@dataclass(frozen=True)
class Artifact:
    """A finished artifact.

    Attributes:
        key: Its key.
        path: Folder with its files; read-only by convention.
        inputs: The inputs of the key.
        facts: The facts that the build returned (small, JSON).
        files: SHA-256 and size of each file when it was built.
        subjects: For an artifact that describes others: digests of their files when they were described, by key.
    """

    key: str
    path: Path
    inputs: dict[str, Json]
    facts: dict[str, Json]
    files: FileEntries
    subjects: Mapping[str, str]

    @property
    def digest(self) -> str:
        """One digest of all its files."""
        return hashlib.sha256(_json(self.files).encode()).hexdigest()

    @property
    def sealed(self) -> SealedFolder:
        """Its files with their digests, for what ships."""
        return SealedFolder(self.path, self.files)


class DamagedError(Exception):
    """An entry is not as it was built; says in what."""


def key_of(inputs: Mapping[str, Json]) -> str:
    """Key of an artifact: SHA-256 of its inputs as canonical JSON, shortened to 24 hex digits (96 bits)."""
    read_back = json.loads(json.dumps(inputs))  # in which all names are texts, which decides their order
    text = json.dumps(read_back, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def write(
    folder: Path, inputs: Mapping[str, Json], facts: Mapping[str, Json], subjects: Mapping[str, str]
) -> dict[str, Json]:
    """Writes the record of an artifact whose files are in `folder / FILES`, and returns it as it will be read."""
    written = {"inputs": inputs, "facts": facts, "files": file_entries(folder / FILES), "subjects": subjects}
    record: dict[str, Json] = json.loads(json.dumps(written))
    write_atomic(folder / RECORD, _text(record))
    return record


def artifact(folder: Path, record: Mapping[str, Json]) -> Artifact:
    """The artifact in a folder that is named by its key."""
    return Artifact(folder.name, folder / FILES, record["inputs"], record["facts"], record["files"], record["subjects"])


def read(folder: Path) -> Artifact | None:
    """An entry; None where there is none.

    Args:
        folder: The entry's folder, named by its key.

    Raises:
        DamagedError: A file, or the record, is not what was written.
    """
    if not os.path.lexists(folder):
        return None
    try:
        text = (folder / RECORD).read_text(encoding="utf-8")
        record = json.loads(text)
        record.pop("sha256")
        whole = text == _text(record) and key_of(record["inputs"]) == folder.name
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedError(f"{RECORD} cannot be read ({type(error).__name__})") from None
    if not whole:
        raise DamagedError(f"{RECORD} was changed")
    if wrong := differences(folder / FILES, record["files"]):
        name, what = next(iter(wrong.items()))
        more = f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise DamagedError(f"{name} {what}{more}")
    return artifact(folder, record)


def _text(record: Mapping[str, Json]) -> str:
    """A record as text, with its own digest."""
    return _json({**record, "sha256": hashlib.sha256(_json(record).encode()).hexdigest()})


def _json(record: Mapping[str, Json]) -> str:
    return json.dumps(record, indent=1, sort_keys=True)
