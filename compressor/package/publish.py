"""The folder that ships: `model/`, with its model card and the digest of every file."""

from __future__ import annotations

import shutil
from pathlib import Path

from compressor.measure import recorded_answers
from compressor.measure.measurement import REPEATABLE, deployed_file
from compressor.package import manifest
from compressor.package.manifest import Manifest
from compressor.report.model import Report


def model(report: Report, checkpoint: Path, folder: Path, runtime: str, card: str, answers: Path | None) -> str | None:
    """Replaces `model/` by the run's last checkpoint, or removes it after a failed gate.

    Args:
        report: The run.
        checkpoint: Its last checkpoint.
        folder: The run's folder.
        runtime: The runtime that was measured.
        card: Text of the model card.
        answers: Recorded answers that ship; None for none.

    Returns:
        The SHA-256 of `model/manifest.json`, for the report; None where there is no `model/`.
    """
    target, partial, old = folder / "model", folder / ".model.partial", folder / ".model.old"
    for leftover in (partial, old):
        shutil.rmtree(leftover, ignore_errors=True)
    if report.verdict == "fail":
        shutil.rmtree(target, ignore_errors=True)
        return None
    shutil.copytree(checkpoint, partial)
    if answers is not None:
        shutil.copyfile(answers, partial / recorded_answers.FILE)
    (partial / "README.md").write_text(card, encoding="utf-8")
    digest = _manifest(report, partial, runtime).write(partial)
    if target.exists():
        target.rename(old)
    partial.rename(target)
    shutil.rmtree(old, ignore_errors=True)
    return digest


def _manifest(report: Report, folder: Path, runtime: str) -> Manifest:
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
        files=manifest.digests(folder),
    )
