"""The folder that ships: `model/`, with its model card and the digest of every file."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path

from compressor.errors import StageError
from compressor.files import FileEntries, SealedFolder, differences
from compressor.measure import recorded_answers
from compressor.measure.measurement import REPEATABLE, deployed_file
from compressor.package.manifest import Manifest
from compressor.report.model import Report


def model(
    report: Report, checkpoint: SealedFolder, folder: Path, runtime: str, card: str, measured: SealedFolder
) -> str | None:
    """Replaces `model/` by the run's last checkpoint, or removes it after a failed gate.

    Args:
        report: The run.
        checkpoint: Its last checkpoint.
        folder: The run's folder.
        runtime: The runtime that was measured.
        card: Text of the model card.
        measured: What its measurement left: recorded answers in it ship, too.

    Returns:
        The SHA-256 of `model/manifest.json`, for the report; None where there is no `model/`.

    Raises:
        StageError: A file is not what was built and measured.
    """
    target, partial, old = folder / "model", folder / ".model.partial", folder / ".model.old"
    for leftover in (partial, old):
        shutil.rmtree(leftover, ignore_errors=True)
    if report.verdict == "fail":
        shutil.rmtree(target, ignore_errors=True)
        return None
    files = _copy(checkpoint, measured, partial) | _write(partial / "README.md", card)
    if wrong := differences(partial, files):
        name, what = next(iter(wrong.items()))
        raise StageError(
            f"{name} {what}, after it was built and measured in this run; nothing was published. Run again: what is "
            "damaged is built again. If this happens more than once, the disk or the memory of this machine is at fault"
        )
    digest = _manifest(report, partial, runtime, files).write(partial)
    if target.exists():
        target.rename(old)
    partial.rename(target)
    shutil.rmtree(old, ignore_errors=True)
    return digest


def _copy(checkpoint: SealedFolder, measured: SealedFolder, target: Path) -> dict[str, Mapping[str, str | int]]:
    """Copies what ships into a new folder; returns the digests that it had when it was built."""
    target.mkdir(parents=True)
    files = dict(checkpoint.files)
    answers = {name: entry for name, entry in measured.files.items() if name == recorded_answers.FILE}
    for folder, names in ((checkpoint.path, files), (measured.path, answers)):
        for name in names:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / name, target / name)
    return files | answers


def _write(path: Path, text: str) -> dict[str, Mapping[str, str | int]]:
    content = text.encode()
    path.write_bytes(content)
    return {path.name: {"sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}}


def _manifest(report: Report, folder: Path, runtime: str, files: FileEntries) -> Manifest:
    file = deployed_file(folder, runtime)
    measured = report.built[-1].measurements
    return Manifest(
        recipe=report.recipe,
        task=report.built[-1].task,
        verdict=report.verdict,
        environment=report.environment,
        gates=report.gates,
        measured={name: measured[name].value for name in REPEATABLE if name in measured},
        file=file.relative_to(folder).as_posix() if file else None,
        files=dict(sorted(files.items())),
    )
