"""`compress verify`: checks that a folder is as it was published, and that its formats still give the same answers.

The digests cover `model/`, report.json, its forms and the lock, but not the log. No training data is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from compressor.errors import CompressError, ExitCode
from compressor.gates.judge import EXIT_CODES, StageGate, Verdict, overall, recorded_verdict
from compressor.measure.client import Client
from compressor.measure.measurement import repeatable
from compressor.package import manifest as manifests
from compressor.package import signature, verify_device, verify_run
from compressor.package.manifest import Check, Manifest
from compressor.package.signature import Signers
from compressor.package.verify_parity import Parity, first_line
from compressor.progress import Progress
from compressor.report import model as reports


@dataclass(frozen=True)
class Verification:
    """The result of checking a folder.

    Attributes:
        path: The folder.
        checks: The checks, in order.
        gates: The run's gates, as they were recorded.
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
        return EXIT_CODES[self.verdict]

    def to_json(self) -> dict[str, Any]:
        """For `--json`."""
        gates = [{"stage": gate.stage, **asdict(gate.result)} for gate in self.gates]
        checks = [asdict(check) for check in self.checks]
        return {"path": str(self.path), "verdict": self.verdict, "checks": checks, "gates": gates}


def verify(
    path: Path, client: Client, progress: Progress, signers: Signers | None = None, devices: Sequence[str] = ()
) -> Verification:
    """Checks a folder: its files, its gates, and the answers of its formats.

    Args:
        path: A run's folder, or its `model/`.
        client: Runs the measuring processes.
        progress: Shows progress.
        signers: Who has to have signed the manifest; None to ask for no signature.
        devices: Names of devices of the report whose answers and times are checked, too.

    Raises:
        RecipeError: It is neither, or a device is not in the report.
        StageError: A signature is asked for, and ssh-keygen is not installed.
    """
    run, folder = manifests.locate(path)
    checks: list[Check] = []
    gates: list[StageGate] = []
    report: reports.Report | None = None
    if run is not None:
        try:
            report = reports.read(run / "report.json")
            gates = report.gates
            if (report.verdict == "fail" or report.until is not None) and not folder.exists():
                stopped = f"is partial: it stopped after {report.until} (--until)"
                message = f"the run {'failed' if report.verdict == 'fail' else stopped}, so there is nothing to ship"
                return Verification(path, [*_judged(gates), Check("files", "model", "fail", message)], gates)
        except CompressError as error:
            checks.append(Check("gates", "report.json", "fail", str(error).strip()))
    damaged = run is not None and report is None  # is told above
    measured = {} if damaged else verify_device.find(report, devices)
    try:
        manifest = manifests.read(folder)
    except CompressError as error:
        return Verification(path, [*checks, Check("files", manifests.NAME, "fail", str(error))], gates)
    if signers is not None:
        checks.append(signature.check(folder, signers))
    if report is not None:
        checks += verify_run.checks(report, manifest, folder)
    with progress.step("verify: files"):
        wrong = manifests.check_files(folder, manifest.files)
    checks += wrong or [_intact(manifest)]
    checks += _judged(manifest.gates)
    if wrong:
        message = "not run: changed files are not loaded"
        checks.append(Check("parity", "formats", "fail", message))
    else:
        checks += _measurements(folder, manifest)
        checks += Parity(folder, manifest, client, progress).checks()
        for name, device in measured.items():
            checks += verify_device.checks(name, device, folder, manifest)
    return Verification(path, checks, manifest.gates)


def _intact(manifest: Manifest) -> Check:
    size = sum(int(entry["size_bytes"]) for entry in manifest.files.values())
    message = f"{len(manifest.files)} files, {size / 1e6:.1f} MB: none is missing, changed or added"
    return Check("files", manifest.recipe, "pass", message)


def _judged(gates: list[StageGate]) -> list[Check]:
    """Whether the recorded verdicts follow from the recorded numbers."""
    checks = []
    for gate in gates:
        verdict = recorded_verdict(gate.result)
        if verdict != gate.result.verdict:
            message = f"{gate.result.verdict} is recorded, {verdict} follows from the recorded bounds and limit"
            checks.append(Check("gates", f"{gate.stage}: {gate.result.metric}", "fail", message))
    return checks


def _measurements(folder: Path, manifest: Manifest) -> list[Check]:
    """Repeats the measurements that need neither data nor a particular machine."""
    if manifest.file is None:
        return []
    if manifest.file not in manifest.files:
        return [Check("measurements", manifest.file, "fail", "is not among the files of the manifest")]
    try:
        now = repeatable(folder, folder / manifest.file)
    except Exception as error:  # a library may raise anything for a file that it cannot load
        return [Check("measurements", manifest.file, "fail", f"cannot be loaded: {first_line(error)}")]
    checks = []
    for metric, value in now.items():
        before = manifest.measured.get(metric)
        worse = before is None or (value < before - 1e-9 if metric == "quantized_coverage" else value != before)
        message = f"{value:.10g}, as recorded" if value == before else f"{value:.10g}, recorded is {before}"
        checks.append(Check("measurements", metric, "fail" if worse else "pass", message))
    return checks
