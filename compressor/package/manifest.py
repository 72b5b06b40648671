"""manifest.json: the files of a folder that ships, with their digests, and the run's measurements and gates.

Digests find files that were damaged or exchanged on the way. They are not a signature: whoever changes a file can write
a new manifest.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from compressor.errors import CompressError, Problem, RecipeError
from compressor.files import file_digest
from compressor.gates.judge import GateResult, StageGate, Verdict

NAME = "manifest.json"
SCHEMA_VERSION = 2


@dataclass(frozen=True)
class Check:
    """One check of a folder.

    Attributes:
        kind: `files`, `gates`, `measurements` or `parity`.
        subject: The file, gate, metric or format that was checked.
        verdict: The result.
        message: What was found, and for a failure what to do.
    """

    kind: str
    subject: str
    verdict: Verdict
    message: str


@dataclass(frozen=True)
class Manifest:
    """The contents of manifest.json.

    Attributes:
        recipe: Name of the recipe.
        task: The model's task.
        verdict: The run's verdict.
        environment: Versions and machine of the run.
        gates: The gates of all stages.
        measured: `size_bytes`, `num_parameters` and `quantized_coverage` of `file`.
        file: The file that the measured runtime loads; None where it does not ship.
        files: For each file its `sha256` and `size_bytes`.
    """

    recipe: str
    task: str
    verdict: Verdict
    environment: Mapping[str, str | int]
    gates: list[StageGate]
    measured: Mapping[str, float]
    file: str | None
    files: Mapping[str, Mapping[str, str | int]]

    def write(self, folder: Path) -> str:
        """Writes `manifest.json`; returns the file's SHA-256."""
        gates = [{"stage": gate.stage, **_finite(asdict(gate.result))} for gate in self.gates]
        document = {"schema_version": SCHEMA_VERSION, **asdict(self), "gates": gates}
        text = _text({**document, "sha256": _digest(document)})
        (folder / NAME).write_text(text, encoding="utf-8")
        return file_digest(folder / NAME)


def locate(path: Path, where: str = "") -> tuple[Path | None, Path]:
    """Finds a run's folder, if `path` is not only its `model/`, and the folder that ships.

    Args:
        path: A run's folder, its report.json, or its `model/`.
        where: The option that named it, for the error.

    Raises:
        RecipeError: It is none of these.
    """
    path = path.parent if path.name == "report.json" and path.is_file() else path
    if (path / NAME).is_file():
        return None, path
    if (path / "report.json").is_file() or (path / "model" / NAME).is_file():
        return path, path / "model"
    what = f"is not a run's folder: it has neither {NAME} nor report.json" if path.is_dir() else "is not a folder"
    what = f"{path} {what}" if where else what
    raise RecipeError([Problem(where or str(path), what, "name artifacts/<recipe> or its model/", kind="not_found")])


def digests(folder: Path) -> dict[str, dict[str, str | int]]:
    """SHA-256 and size of every file in a folder but its manifest."""
    return {
        name: {"sha256": file_digest(folder / name), "size_bytes": (folder / name).stat().st_size}
        for name in sorted(_names(folder))
        if name != NAME
    }


def read(folder: Path) -> Manifest:
    """Reads `manifest.json`.

    Raises:
        CompressError: It is missing, damaged, or of another version.
    """
    path = folder / NAME
    try:
        text = path.read_text(encoding="utf-8")
        document = json.loads(text)
        if document["schema_version"] != SCHEMA_VERSION:
            version = document["schema_version"]
            what = f"schema_version is {version}, and this version of the compressor reads {SCHEMA_VERSION}"
            raise CompressError(f"{path}: {what}; run the recipe again")
        rest = {name: value for name, value in document.items() if name not in ("schema_version", "sha256")}
        unsigned = {"schema_version": SCHEMA_VERSION, **rest}
        if document["sha256"] != _digest(unsigned) or text != _text({**unsigned, "sha256": document["sha256"]}):
            raise CompressError(f"{path} was changed: its own sha256 differs; copy the folder or make it again")
        return Manifest(**{**rest, "gates": [_gate(entry) for entry in rest["gates"]]})
    except FileNotFoundError:
        raise CompressError(f"{path} is missing; copy the folder or make it again") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        what = f"{type(error).__name__}: {error}"
        raise CompressError(f"{path} is damaged ({what}); copy the folder or make it again") from None


def check_files(folder: Path, files: Mapping[str, Mapping[str, str | int]]) -> list[Check]:
    """Compares a folder with its manifest: a failed check for each file that differs."""
    found = [
        Check("files", name, "fail", message)
        for name, entry in sorted(files.items())
        if (message := _difference(folder, name, entry))
    ]
    for name in sorted(_names(folder) - set(files) - {NAME}):
        message = "is not in the manifest; delete it, or make the folder again"
        found.append(Check("files", name, "fail", message))
    return found


def _difference(folder: Path, name: str, entry: Mapping[str, str | int]) -> str:
    """How a file differs from its entry; empty if it does not. Nothing outside of the folder is opened."""
    path, again = folder / name, "copy it or make it again"
    try:
        inside = path.resolve().is_relative_to(folder.resolve())
        if not inside or Path(name).is_absolute() or ".." in Path(name).parts:
            return "its path leaves the folder, so it was not opened; do not trust this folder"
        if not path.is_file():
            return f"is not a file; {again}" if path.exists() else f"is missing; {again}"
        size = path.stat().st_size
        if size != entry["size_bytes"]:
            return f"has {size} bytes, should have {entry['size_bytes']}; {again}"
        if file_digest(path) != entry["sha256"]:
            return f"was changed: its sha256 is not that of the manifest; {again}"
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:  # RuntimeError: links in a circle
        return f"cannot be read ({type(error).__name__}: {error}); {again}"
    return ""


def _names(folder: Path) -> set[str]:
    """Paths of all files in a folder and below; links to folders are listed as files, and not followed."""
    found = set()
    for root, folders, names in os.walk(folder):
        links = [name for name in folders if (Path(root) / name).is_symlink()]
        found |= {(Path(root) / name).relative_to(folder).as_posix() for name in (*names, *links)}
    return found


def _gate(entry: Mapping[str, Any]) -> StageGate:
    values = {name: value for name, value in entry.items() if name != "stage"}
    values["observed"] = math.nan if values["observed"] is None else values["observed"]
    return StageGate(str(entry["stage"]), GateResult(**values))


def _digest(document: Mapping[str, Any]) -> str:
    return hashlib.sha256(_text(document).encode()).hexdigest()


def _text(document: Mapping[str, Any]) -> str:
    return json.dumps(document, indent=2, allow_nan=False) + "\n"


def _finite(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values for JSON, which has no NaN: an undefined number is null."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in values.items()
    }


def same(ours: Sequence[StageGate], theirs: Sequence[StageGate]) -> bool:
    """Whether two lists of gates are equal; an undefined number equals an undefined one."""
    first, second = ([(gate.stage, _finite(asdict(gate.result))) for gate in gates] for gates in (ours, theirs))
    return first == second
