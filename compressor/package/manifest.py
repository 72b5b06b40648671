"""manifest.json: the files of a folder that ships, with their digests, and the run's measurements and gates.

Digests find files that were damaged or exchanged on the way. Whoever changes a file can write a new manifest, unless it
is signed: see `compressor.package.signature`.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from compressor.errors import CompressError, Problem, RecipeError
from compressor.files import FileEntries, differences, file_digest
from compressor.gates.judge import GateResult, StageGate, Verdict

NAME = "manifest.json"
SIGNATURE = "manifest.json.sig"
"""Beside the manifest: its signature, if somebody signed it."""
SCHEMA_VERSION = 3


@dataclass(frozen=True)
class Check:
    """One check of a folder.

    Attributes:
        kind: `signature`, `files`, `gates`, `measurements`, `parity` or `device`.
        subject: The file, gate, metric, format or device that was checked.
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
        recorded_rows: Rows whose answers ship in verification.json.
        beside: Digests of report.json and its forms, which lie beside the folder; see `beside`.
        files: For each file its `sha256` and `size_bytes`; of one whose 8-bit products are clipped on some processors
            also `saturates_on`, which ones.
    """

    recipe: str
    task: str
    verdict: Verdict
    environment: Mapping[str, str | int]
    gates: list[StageGate]
    measured: Mapping[str, float]
    file: str | None
    recorded_rows: int
    beside: Mapping[str, str]
    files: FileEntries

    def write(self, folder: Path) -> str:
        """Writes `manifest.json`; returns the file's SHA-256."""
        gates = [{"stage": gate.stage, **_finite(asdict(gate.result))} for gate in self.gates]
        document = {"schema_version": SCHEMA_VERSION, **asdict(self), "gates": gates}
        text = _text({**document, "sha256": _digest(document)})
        (folder / NAME).write_text(text, encoding="utf-8")
        return file_digest(folder / NAME)


def beside(texts: Mapping[str, str], sha256: str) -> dict[str, str]:
    """Digests of files that name the SHA-256 of the manifest that these digests are in, which is left out of each.

    Args:
        texts: Their texts, by name.
        sha256: The SHA-256 that they name.
    """
    return {name: hashlib.sha256(text.replace(sha256, "").encode()).hexdigest() for name, text in texts.items()}


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


def check_files(folder: Path, files: FileEntries) -> list[Check]:
    """Compares a folder with its manifest: a failed check for each file that differs."""
    found = {
        name: what
        for name, what in differences(folder, files).items()
        if name not in (NAME, SIGNATURE) or name in files
    }
    if not (folder / NAME).resolve().is_relative_to(folder.resolve()):
        found[NAME] = "is a link that leaves the folder"
    return [Check("files", name, "fail", f"{what}; copy the folder or make it again") for name, what in found.items()]


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
