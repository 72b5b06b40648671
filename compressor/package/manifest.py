"""manifest.json: what is in a folder that ships, what it was measured to be, and whether it still is.

Every file has its SHA-256, and so has the manifest itself, as long as nobody writes both anew: digests find what broke
on the way, they are no signature.
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
    """Something that was looked at.

    Attributes:
        kind: `files`, `gates`, `measurements` or `parity`.
        subject: What was looked at.
        verdict: What came of it.
        told: What was found, and what to do if that is not what it should be.
    """

    kind: str
    subject: str
    verdict: Verdict
    told: str


@dataclass(frozen=True)
class Manifest:
    """What a folder says of itself.

    Attributes:
        recipe: Name of the recipe that made it.
        task: What it does.
        verdict: Of the run.
        environment: Versions and machine of the run.
        gates: Of all stages.
        measured: What was measured of `file`, the one that the measured runtime loads: `size_bytes`,
            `num_parameters`, `quantized_coverage`.
        file: That file; None where it does not ship.
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
    """The run's folder, if that is what is given, and the one that ships.

    Args:
        path: A run's folder, its report.json, or its `model/`.
        where: What named it, for the error.

    Raises:
        RecipeError: It is neither.
    """
    path = path.parent if path.name == "report.json" and path.is_file() else path
    if (path / NAME).is_file():
        return None, path
    if (path / "report.json").is_file() or (path / "model" / NAME).is_file():
        return path, path / "model"
    what = f"is no folder that a run left: it has neither {NAME} nor report.json" if path.is_dir() else "is no folder"
    what = f"{path} {what}" if where else what
    raise RecipeError([Problem(where or str(path), what, "give artifacts/<recipe> or its model/")])


def digests(folder: Path) -> dict[str, dict[str, str | int]]:
    """SHA-256 and size of every file in a folder but its manifest."""
    return {
        name: {"sha256": file_digest(folder / name), "size_bytes": (folder / name).stat().st_size}
        for name in sorted(_there(folder))
        if name != NAME
    }


def read(folder: Path) -> Manifest:
    """Reads `manifest.json`.

    Raises:
        CompressError: It is not there, not of this version, or not what was written.
    """
    path = folder / NAME
    try:
        text = path.read_text(encoding="utf-8")
        document = json.loads(text)
        if document["schema_version"] != SCHEMA_VERSION:
            version = document["schema_version"]
            raise CompressError(f"{path}: schema_version is {version}, can read {SCHEMA_VERSION}; run the recipe again")
        rest = {name: value for name, value in document.items() if name not in ("schema_version", "sha256")}
        unsigned = {"schema_version": SCHEMA_VERSION, **rest}
        if document["sha256"] != _digest(unsigned) or text != _text({**unsigned, "sha256": document["sha256"]}):
            raise CompressError(f"{path} is not what was written: its own sha256 differs; copy or make the folder anew")
        return Manifest(**{**rest, "gates": [_gate(entry) for entry in rest["gates"]]})
    except FileNotFoundError:
        raise CompressError(f"{path} is missing; copy or make the folder anew") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        what = f"{type(error).__name__}: {error}"
        raise CompressError(f"{path} is damaged ({what}); copy or make the folder anew") from None


def check_files(folder: Path, files: Mapping[str, Mapping[str, str | int]]) -> list[Check]:
    """Holds a folder against its manifest: a check that failed for each file that differs; none if all is well."""
    found = [
        Check("files", name, "fail", told)
        for name, entry in sorted(files.items())
        if (told := _difference(folder, name, entry))
    ]
    for name in sorted(_there(folder) - set(files) - {NAME}):
        told = "the manifest does not name it; delete it, or make the folder anew"
        found.append(Check("files", name, "fail", told))
    return found


def _difference(folder: Path, name: str, entry: Mapping[str, str | int]) -> str:
    """What is wrong with a file; nothing that lies outside of the folder is opened."""
    path, again = folder / name, "copy or make it anew"
    try:
        inside = path.resolve().is_relative_to(folder.resolve())
        if not inside or Path(name).is_absolute() or ".." in Path(name).parts:
            return "lies outside of the folder, and is not opened; whoever made this manifest is not to be trusted"
        if not path.is_file():
            return f"is no file; {again}" if path.exists() else f"is missing; {again}"
        size = path.stat().st_size
        if size != entry["size_bytes"]:
            return f"has {size} bytes, should have {entry['size_bytes']}; {again}"
        if file_digest(path) != entry["sha256"]:
            return f"its sha256 is not the manifest's: it was changed; {again}"
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:  # RuntimeError: links in a circle
        return f"cannot be read ({type(error).__name__}: {error}); {again}"
    return ""


def _there(folder: Path) -> set[str]:
    """All that is in a folder and in those below, but no folder; links to folders count, and are not followed."""
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
    """JSON has no NaN: an undefined number is null."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in values.items()
    }


def same(ours: Sequence[StageGate], theirs: Sequence[StageGate]) -> bool:
    """Whether two lists of gates say the same; what is undefined equals what is undefined."""
    pairs = ([(gate.stage, _finite(asdict(gate.result))) for gate in gates] for gates in (ours, theirs))
    first, second = pairs
    return first == second
