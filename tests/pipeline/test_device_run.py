"""Runs on devices: built once, measured and gated on each; a device that fails loses nothing that was built."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import WriteRecipe
from running import compress, report_of, stage_of

from compressor.device import worker
from compressor.errors import RecipeError
from compressor.recipe import resolve

THIS = {"command": [sys.executable]}


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(worker.CACHE, str(tmp_path_factory.mktemp("device")))


def measured_on(write_recipe: WriteRecipe, gates: dict[str, Any], **measure: Any) -> Path:
    recipe = yaml.safe_load(write_recipe().read_text())
    stages = [{**recipe["stages"][0], "gates": gates}]
    return write_recipe(measure={**recipe["measure"], **measure}, stages=stages)


def test_two_devices_share_one_training_and_are_gated_each(write_recipe: WriteRecipe, tmp_path: Path):
    (tmp_path / "hot.py").write_text("import sys\nsys.argv[:] = sys.argv[1:]\nexec(sys.argv[1])\n")
    devices = {"pi": THIS, "phone": {"command": [sys.executable, str(tmp_path / "hot.py")]}}
    gates = {"pi.latency_p50_ms": {"max": 1000}, "phone.accuracy": {"min": 0}, "phone.latency_p95_ms": {"max": 1e-6}}
    path = measured_on(write_recipe, gates, devices=devices)
    result = compress("run", path.name, cwd=tmp_path)
    assert result.returncode == 1, result.stdout + result.stderr
    report = report_of(tmp_path)
    stage = stage_of(report, "finetune")
    verdicts = {gate["metric"]: gate["verdict"] for gate in stage["gates"]}
    assert verdicts == {"pi.latency_p50_ms": "pass", "phone.accuracy": "pass", "phone.latency_p95_ms": "fail"}
    for device in devices:
        for name in ("accuracy", "latency_p50_ms", "latency_p95_ms", "peak_rss_bytes"):
            assert f"{device}.{name}" in stage["measurements"]
        assert f"{device}.size_bytes" not in stage["measurements"]
        assert stage["measurements"][f"{device}.accuracy"] == stage["measurements"]["accuracy"]
    assert set(stage["details"]["speedups"]) == set(devices)
    table = (tmp_path / "artifacts" / "tiny" / "report.md").read_text()
    assert "| pi |" in table and "| phone |" in table
    trained = list((tmp_path / "artifacts" / ".store").glob("*/entry.json"))
    kinds = [json.loads(entry.read_text())["inputs"]["kind"] for entry in trained]
    assert kinds.count("stage") == 1 and kinds.count("measure") == 3, "the stage, which is its own baseline"


def test_a_device_that_is_not_there_costs_nothing_that_was_built(write_recipe: WriteRecipe, tmp_path: Path):
    script = tmp_path / "device.py"
    path = measured_on(write_recipe, {}, device={"command": [sys.executable, str(script)]})
    for code, told in (("sys.exit('switched off')", "switched off"), ("sys.modules['onnxruntime'] = None", "lacks")):
        script.write_text(f"import sys\n{code}\nsys.argv[:] = sys.argv[1:]\nexec(sys.argv[1])\n")
        result = compress("run", path.name, cwd=tmp_path)
        assert result.returncode == 3 and told in result.stderr, result.stdout + result.stderr
        assert "Traceback" not in result.stderr and result.stderr.count("error:") == 1
    script.write_text("import sys\nsys.argv[:] = sys.argv[1:]\nexec(sys.argv[1])\n")
    result = compress("run", path.name, cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    report = report_of(tmp_path)
    assert report["measure"]["device"] == {"command": [sys.executable, str(script)], "python": None}
    there = f"command:{sys.executable}"
    verified = compress("verify", "artifacts/tiny", "--device", there, cwd=tmp_path)
    assert verified.returncode == 0, verified.stdout
    assert compress("verify", "artifacts/tiny", "--device", there, "--device", there, cwd=tmp_path).returncode == 2
    absent = compress("verify", "artifacts/tiny", "--device", "command:/no/such", cwd=tmp_path)
    assert absent.returncode == 3 and "cannot be reached" in absent.stderr
    again = compress("run", path.name, cwd=tmp_path)
    assert again.returncode == 0 and all(stage["from_cache"] for stage in report_of(tmp_path)["stages"])


SLOWER = """
import time
clock, calls = time.perf_counter, 0
def slower():
    global calls
    calls += 1
    return clock() + 1e-3 * calls * calls
time.perf_counter = slower
"""


def test_what_a_device_lacks_is_found_before_anything_is_trained(write_recipe: WriteRecipe, tmp_path: Path):
    script, found = tmp_path / "device.py", "from importlib import metadata\nknown = metadata.version\n"
    found += "def version(name):\n    if name == 'onnxruntime': raise metadata.PackageNotFoundError(name)\n"
    found += "    return known(name)\nmetadata.version = version\n"
    script.write_text(f"import sys\n{found}sys.argv[:] = sys.argv[1:]\nexec(sys.argv[1])\n")
    path = measured_on(write_recipe, {}, devices={"pi": {"command": [sys.executable, str(script)]}})
    result = compress("run", path.name, cwd=tmp_path)
    assert result.returncode == 3 and "install onnxruntime there" in result.stderr, result.stderr
    assert "training" not in result.stderr


def test_a_device_that_grows_slower_is_inconclusive_and_measured_again(write_recipe: WriteRecipe, tmp_path: Path):
    script = tmp_path / "device.py"
    start = "import sys\nsys.argv[:] = sys.argv[1:]\nexec(sys.argv[1])\n"
    gates = {"latency_p50_ms": {"max": 1e6}}
    path = measured_on(write_recipe, gates, device={"command": [sys.executable, str(script)]})
    script.write_text(SLOWER + start)
    assert compress("run", path.name, cwd=tmp_path).returncode == 4
    (gate,) = stage_of(report_of(tmp_path), "finetune")["gates"]
    assert gate["verdict"] == "inconclusive" and "grew slower" in gate["unbounded"]
    assert "grew slower" in (tmp_path / "artifacts" / "tiny" / "report.md").read_text()
    script.write_text(start)
    assert compress("run", path.name, cwd=tmp_path).returncode == 0
    stage = stage_of(report_of(tmp_path), "finetune")
    assert stage["gates"][0]["verdict"] == "pass" and stage["seconds"] > 0


@pytest.mark.parametrize(
    ("measure", "gates", "place"),
    [
        ({"devices": {"onnx_int8": THIS}}, {}, "measure.devices"),
        ({"devices": {"Pi": THIS}}, {}, "measure.devices"),
        ({"devices": {"pi": {"ssh": "-oProxyCommand=x"}}}, {}, "measure.devices.pi"),
        ({"devices": {"pi": {"command": []}}}, {}, "measure.devices.pi"),
        ({"device": "pi"}, {}, "measure.device"),
        ({"devices": {"pi": THIS}}, {"pi.size_bytes": {"max": 1}}, "stages[0] (finetune).gates.pi.size_bytes"),
        ({"devices": {"pi": THIS}}, {"pi.nothing": {"max": 1}}, "stages[0] (finetune).gates.pi.nothing"),
        ({"devices": {"pi": THIS}}, {"pi.accuracy": {"max_ratio": 1}}, "stages[0] (finetune).gates.pi.accuracy"),
        ({}, {"pi.accuracy": {"min": 0}}, "stages[0] (finetune).gates.pi.accuracy"),
    ],
)
def test_what_cannot_be_measured_so_is_refused(
    write_recipe: WriteRecipe, measure: dict[str, Any], gates: dict[str, Any], place: str
):
    path = measured_on(write_recipe, gates, **measure)
    with pytest.raises(RecipeError) as caught:
        resolve.resolve(path)
    assert [problem for problem in caught.value.problems if problem.where.startswith(place)], str(caught.value)
