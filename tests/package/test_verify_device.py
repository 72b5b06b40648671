"""`compress verify --device`: files, answers and times of a device against the manifest and the run's limits."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from problems import refused
from running import compress
from verifying import failed_of, look_at_files

from compressor.gates.judge import GateResult, StageGate
from compressor.package import manifest as manifests
from compressor.package import verify_device
from compressor.package.manifest import Check
from compressor.report import devices
from compressor.report.model import DeviceFileReport, DeviceReport, Measurement, read

FILES = {"onnx": "onnx/model.onnx", "onnx_int8": "onnx/model_quantized.onnx"}


@pytest.fixture
def run(published: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(published, tmp_path / "run"))


def milliseconds(value: float, low: float | None, high: float | None) -> Measurement:
    return Measurement(value, "ms", 60, low, high)


def device(folder: Path, **changes: Any) -> DeviceReport:
    """A device that ran both files well: 5 ms (4 to 6), of 95 % of the calls 8 ms (7 to an unknown bound)."""
    manifest = manifests.read(folder / "model")
    files = {
        name: DeviceFileReport(
            digest=str(manifest.files[file]["sha256"]),
            rows=64,
            label_agreement=1.0,
            max_abs_diff=1e-6,
            latency_p50_ms=milliseconds(5.0, 4.0, 6.0),
            latency_p95_ms=milliseconds(8.0, 7.0, None),
        )
        for name, file in FILES.items()
    }
    for name, changed in changes.items():
        files[name] = replace(files[name], **changed)
    return DeviceReport("browser", {"user_agent": "x"}, files)


def limit(stage: str, metric: str, rule: str, value: float, relative_to: str | None = None) -> StageGate:
    return StageGate(stage, GateResult(metric, rule, value, relative_to, 0.95, 1.0, 1.0, 1.0, "pass"))


def checked(run: Path, found: DeviceReport, *gates: StageGate) -> list[Check]:
    manifest = replace(manifests.read(run / "model"), gates=list(gates))
    return verify_device.checks("Pixel 7", found, run / "model", manifest)


def test_a_float_file_is_held_to_its_logits_and_an_int8_one_to_its_labels(published: Path):
    def verdicts(**changes: Any) -> list[str]:
        return [check.verdict for check in checked(published, device(published, **changes))]

    assert verdicts() == ["pass", "pass"]
    assert verdicts(onnx={"max_abs_diff": 2e-3}) == ["fail", "pass"], "as `compress verify` asks by default: 1e-3"
    assert verdicts(onnx_int8={"max_abs_diff": 0.3, "label_agreement": 0.95}) == ["pass", "pass"]
    assert verdicts(onnx_int8={"label_agreement": 0.94}) == ["pass", "fail"]
    (check, _) = checked(published, device(published))
    assert (check.kind, check.subject) == ("device", "Pixel 7: onnx")
    assert check.message == "100.00% of 64 rows have the recorded label, logits differ by 1.00e-06"


def test_the_runs_own_limit_of_logits(published: Path):
    wide = limit("export", "parity_max_abs_diff", "max", 0.01)
    found = checked(published, device(published, onnx={"max_abs_diff": 2e-3}), wide)
    assert [check.verdict for check in found] == ["pass", "pass"]


def test_what_the_device_did_not_run_fails(published: Path):
    other = device(published, onnx_int8={"digest": "0" * 64})
    assert failed_of(checked(published, other)) == {
        "Pixel 7: onnx_int8": "it ran another file (sha256); measure it again"
    }
    less = replace(other, files={"onnx": other.files["onnx"]})
    assert failed_of(checked(published, less)) == {"Pixel 7: onnx_int8": "it did not run this file; measure it again"}


TIMES: dict[str, tuple[list[StageGate], dict[str, list[str]]]] = {
    "the deployed file": ([limit("quantize", "latency_p50_ms", "max", 6.0)], {"onnx": [], "onnx_int8": ["pass"]}),
    "missed": ([limit("quantize", "latency_p50_ms", "max", 3.9)], {"onnx": [], "onnx_int8": ["fail"]}),
    "too noisy": ([limit("quantize", "latency_p50_ms", "max", 5.5)], {"onnx": [], "onnx_int8": ["inconclusive"]}),
    "no bound": ([limit("export", "latency_p95_ms", "max", 99.0)], {"onnx": [], "onnx_int8": ["inconclusive"]}),
    "of one file": ([limit("export", "onnx.latency_p50_ms", "max", 6.0)], {"onnx": ["pass"], "onnx_int8": []}),
    "of another file": ([limit("export", "torchscript.latency_p50_ms", "max", 1.0)], {"onnx": [], "onnx_int8": []}),
    "the last stage's": (
        [limit("finetune", "latency_p50_ms", "max", 1.0), limit("quantize", "latency_p50_ms", "max", 6.0)],
        {"onnx": [], "onnx_int8": ["pass"]},
    ),
    "no time on another machine": (
        [limit("quantize", "latency_p50_ms", "min_speedup", 9.0, "baseline")],
        {"onnx": [], "onnx_int8": []},
    ),
    "other metrics": ([limit("export", "size_bytes", "max", 1.0)], {"onnx": [], "onnx_int8": []}),
}


@pytest.mark.parametrize("what", TIMES)
def test_the_runs_limits_of_time_hold_on_the_device(published: Path, what: str):
    gates, expected = TIMES[what]
    found = checked(published, device(published), *gates)
    for name, verdicts in expected.items():
        own = [check.verdict for check in found if check.subject == f"Pixel 7: {name}"]
        assert own == ["pass", *verdicts], name


def test_the_command_passes_fails_and_knows_its_devices(run: Path, tmp_path: Path):
    devices.add(run, "Pixel 7", device(run), (run / "recipe.lock.yaml").read_text())
    devices.add(run, "Nokia", device(run, onnx_int8={"label_agreement": 0.5}), None)
    assert compress("report", run, cwd=tmp_path).returncode == 0
    result = compress("verify", run, "--device", "Pixel 7", cwd=tmp_path)
    assert result.returncode == 0, result.stdout
    assert "Pixel 7: onnx_int8" in result.stdout
    result = compress("verify", run, "--device", "Pixel 7", "--device", "Nokia", "--json", cwd=tmp_path)
    assert result.returncode == 1, result.stdout
    checks = [Check(**entry) for entry in json.loads(result.stdout)["checks"]]

    assert failed_of(checks).keys() == {"Nokia: onnx_int8"}
    assert "50.00% of 64 rows" in failed_of(checks)["Nokia: onnx_int8"]


@pytest.mark.parametrize("where", [lambda run: run, lambda run: run / "model"])
def test_a_device_that_was_not_measured_is_a_mistake(run: Path, tmp_path: Path, where: Callable[[Path], Path]):
    result = compress("verify", where(run), "--device", "Pixel 8", cwd=tmp_path)
    assert result.returncode == 2 and "'Pixel 8' is not among the devices" in result.stderr
    with refused("--device", "unknown"):
        verify_device.find(read(run), ["Pixel 8"])


def test_devices_are_no_part_of_what_the_manifest_covers_and_all_else_is(run: Path):
    def found(change: Callable[[dict], None]) -> dict[str, str]:
        report = json.loads((run / "report.json").read_text())
        change(report)
        (run / "report.json").write_text(json.dumps(report, indent=2) + "\n")
        return {name: text for name, text in failed_of(look_at_files(run)).items() if name not in added}

    added = ("extra.txt", "formats")  # by which `look_at_files` keeps formats from being loaded
    forms = {"report.html", "report.md"}
    devices.add(run, "Pixel 7", device(run), (run / "recipe.lock.yaml").read_text())
    assert found(lambda report: None) == {}
    assert found(lambda report: report["devices"]["Pixel 7"]["files"].pop("onnx")).keys() == forms
    assert found(lambda report: report.pop("devices")).keys() == forms
    devices.add(run, "Pixel 7", device(run), (run / "recipe.lock.yaml").read_text())
    assert "report.json" in found(lambda report: report["stages"][1]["measurements"]["accuracy"].update(value=0.99))
