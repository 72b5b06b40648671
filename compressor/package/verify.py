"""`compress verify`: whether a folder is what a run left, and still answers as it did; without the training data.

The digests cover `model/`. report.json is held against the manifest, and the manifest against report.json; the log,
the lock and the rendered reports beside them are no part of what ships.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from compressor.errors import CompressError, ExitCode
from compressor.files import file_digest
from compressor.gates.judge import StageGate, Verdict, overall, recorded_verdict
from compressor.measure.client import Client
from compressor.measure.measurement import repeatable
from compressor.package import manifest as manifests
from compressor.package.manifest import Check, Manifest
from compressor.package.verify_parity import Parity, first_line
from compressor.progress import Progress
from compressor.report import model as reports


@dataclass(frozen=True)
class Verification:
    """What was looked at.

    Attributes:
        path: The folder.
        checks: In order.
        gates: The run's, as they were recorded.
    """

    path: Path
    checks: list[Check]
    gates: list[StageGate]

    @property
    def verdict(self) -> Verdict:
        """Worst of the checks and of the recorded gates."""
        return overall([*(check.verdict for check in self.checks), *(gate.result.verdict for gate in self.gates)])

    @property
    def exit_code(self) -> ExitCode:
        """The command's exit code."""
        codes = {"pass": ExitCode.PASS, "fail": ExitCode.GATE_FAILED, "inconclusive": ExitCode.INCONCLUSIVE}
        return codes[self.verdict]

    def to_json(self) -> dict[str, Any]:
        """For `--json`."""
        gates = [{"stage": gate.stage, **asdict(gate.result)} for gate in self.gates]
        checks = [asdict(check) for check in self.checks]
        return {"path": str(self.path), "verdict": self.verdict, "checks": checks, "gates": gates}


def verify(path: Path, client: Client, progress: Progress) -> Verification:
    """Checks a folder: its files, its gates, and what its formats answer.

    Args:
        path: A run's folder, or its `model/`.
        client: Runs the measuring processes.
        progress: Shows progress.

    Raises:
        RecipeError: It is neither.
    """
    run, folder = manifests.locate(path)
    checks: list[Check] = []
    gates: list[StageGate] = []
    report: reports.Report | None = None
    if run is not None:
        try:
            report = reports.read(run / "report.json")
            gates = report.gates
            if report.verdict == "fail" and not folder.exists():
                told = "the run failed, and left nothing to ship"
                return Verification(path, [*_judged(gates), Check("files", "model", "fail", told)], gates)
        except CompressError as error:
            checks.append(Check("gates", "report.json", "fail", str(error).strip()))
    try:
        manifest = manifests.read(folder)
    except CompressError as error:
        return Verification(path, [*checks, Check("files", manifests.NAME, "fail", str(error))], gates)
    if report is not None:
        checks += _held_by(report, manifest, folder)
    with progress.step("verify: files"):
        wrong = manifests.check_files(folder, manifest.files)
    checks += wrong or [_intact(manifest)]
    checks += _judged(manifest.gates)
    if wrong:
        told = "not run: what is not as it was published is not loaded"
        checks.append(Check("parity", "formats", "fail", told))
    else:
        checks += _measurements(folder, manifest)
        checks += Parity(folder, manifest, client, progress).checks()
    return Verification(path, checks, manifest.gates)


def _held_by(report: reports.Report, manifest: Manifest, folder: Path) -> list[Check]:
    """Whether report and manifest are of the same run."""
    again = "they are not of the same run, or one was changed; run the recipe again"
    if report.manifest_sha256 != file_digest(folder / manifests.NAME):
        told = f"its sha256 is not the one in report.json: {again}"
        return [Check("files", manifests.NAME, "fail", told)]
    if not manifests.same(report.gates, manifest.gates) or report.verdict != manifest.verdict:
        return [Check("gates", "report.json", "fail", f"its gates are not those of the manifest: {again}")]
    return [Check("gates", "report.json", "pass", "holds the manifest's sha256, and its gates are the manifest's")]


def _intact(manifest: Manifest) -> Check:
    size = sum(int(entry["size_bytes"]) for entry in manifest.files.values())
    told = f"{len(manifest.files)} files, {size / 1e6:.1f} MB: none is missing, changed or added"
    return Check("files", manifest.recipe, "pass", told)


def _judged(gates: list[StageGate]) -> list[Check]:
    """Whether the recorded verdicts follow from the recorded numbers."""
    checks = []
    for gate in gates:
        verdict = recorded_verdict(gate.result)
        if verdict != gate.result.verdict:
            told = f"{gate.result.verdict} is recorded, {verdict} follows from the recorded bounds and limit"
            checks.append(Check("gates", f"{gate.stage}: {gate.result.metric}", "fail", told))
    return checks


def _measurements(folder: Path, manifest: Manifest) -> list[Check]:
    """Measures again what needs no data and no particular machine."""
    if manifest.file is None:
        return []
    try:
        now = repeatable(folder, folder / manifest.file)
    except Exception as error:  # whatever a runtime says of a file it cannot load
        return [Check("measurements", manifest.file, "fail", f"cannot be loaded: {first_line(error)}")]
    checks = []
    for metric, value in now.items():
        before = manifest.measured.get(metric)
        worse = before is None or (value < before - 1e-9 if metric == "quantized_coverage" else value != before)
        told = f"{value:.10g}, as recorded" if value == before else f"{value:.10g}, recorded is {before}"
        checks.append(Check("measurements", metric, "fail" if worse else "pass", told))
    return checks
