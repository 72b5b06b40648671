"""Gates and measurements that a run recorded, judged and measured again by `compress verify`."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from verifying import failed, failed_of, look, look_at_files, sign

from compressor.errors import ExitCode
from compressor.package import manifest as manifests


@pytest.fixture
def run(published: Path, tmp_path: Path) -> Path:
    """A copy of a run's folder."""
    return Path(shutil.copytree(published, tmp_path / "run"))


def change_gate(run: Path, **values: Any) -> None:
    """Changes the first recorded gate, in the report and in the manifest."""
    report = json.loads((run / "report.json").read_text())
    stage = next(entry for entry in report["stages"] if entry["gates"])
    stage["gates"][0] |= values
    stage["verdict"] = report["verdict"] = values.get("verdict", "pass")
    (run / "report.json").write_text(json.dumps(report))
    manifest = manifests.read(run / "model")
    first = replace(manifest.gates[0], result=replace(manifest.gates[0].result, **values))
    change_lock(run, stage["name"], stage["gates"][0])
    sign(run, gates=[first, *manifest.gates[1:]], verdict=report["verdict"])


def change_lock(run: Path, stage: str, gate: dict[str, Any]) -> None:
    """Changes the limit of a gate in the lock."""
    lock = yaml.safe_load((run / "recipe.lock.yaml").read_text())
    entry = next(entry for entry in lock["recipe"]["stages"] if entry["stage"] == stage)
    entry["gates"][gate["metric"]][gate["rule"]] = gate["limit"]
    (run / "recipe.lock.yaml").write_text(yaml.safe_dump(lock))


def test_recorded_gates_decide(run: Path):
    change_gate(run, limit=0.99, low=0.98, verdict="inconclusive")
    found = look(run)
    assert all(check.verdict == "pass" for check in found.checks)
    assert found.verdict == "inconclusive" and found.exit_code == ExitCode.INCONCLUSIVE


def test_a_verdict_that_does_not_follow_from_its_numbers_is_found(run: Path):
    change_gate(run, limit=1.01)
    assert "fail follows" in failed_of(look_at_files(run))["finetune: accuracy"]


def test_a_report_that_says_other_than_the_manifest_is_found(run: Path):
    report = json.loads((run / "report.json").read_text())
    next(entry for entry in report["stages"] if entry["gates"])["gates"][0]["observed"] = 0.5
    (run / "report.json").write_text(json.dumps(report))
    assert "not those of the manifest" in failed_of(look_at_files(run))["report.json"]


def test_what_is_measured_again_is_held_against_what_was_recorded(run: Path):
    manifest = manifests.read(run / "model")
    sign(run, measured={**manifest.measured, "num_parameters": 1.0, "quantized_coverage": 0.5})
    (run / "model" / "onnx" / "model.onnx").rename(run / "model" / "onnx" / "model_quantized.onnx")
    sign(run)
    wrong = failed(look(run))
    assert "recorded is 1" in wrong["num_parameters"]
    assert wrong["quantized_coverage"] == "0, recorded is 0.5", "a float graph in the place of the quantized one"
    assert "size_bytes" in wrong


def test_a_run_that_failed_has_nothing_to_ship(run: Path):
    change_gate(run, limit=1.01, verdict="fail")
    shutil.rmtree(run / "model")
    found = look(run)
    assert "nothing to ship" in failed(found)["model"]
    assert [gate.result.verdict for gate in found.gates].count("fail") == 1
