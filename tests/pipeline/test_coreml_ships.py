"""A run that ships a format that nothing here runs: a folder, evaluated and held to torch, and never timed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import recipe_writer, share_store
from running import compress

from compressor.measure import parity
from compressor.runtimes import coreml
from compressor.runtimes.shipped import size_bytes

pytestmark = pytest.mark.skipif(
    bool(coreml.RUNTIME.missing()), reason="needs the extra: pip install 'bert-compressor[coreml]'"
)
TRAIN = {"stage": "finetune", "epochs": 4, "batch_size": 16, "learning_rate": 3e-3, "max_sequence_length": 24}
PACKAGE = "coreml/model.mlpackage"
GATES = {
    "coreml.parity_max_abs_diff": {"max": 0.5},
    "coreml.parity_label_agreement": {"min": 0.9},
    "coreml.size_bytes": {"max": 1e6},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> tuple[Path, dict[str, Any], str]:
    folder = tmp_path_factory.mktemp("coreml")
    share_store(folder)
    export = {"stage": "export", "targets": ["onnx", "coreml"], "gates": GATES}
    path = recipe_writer(folder, encoder)(stages=[TRAIN, {"stage": "quantize"}, export])
    result = compress("run", path.name, cwd=folder)
    assert result.returncode == 0, result.stdout + result.stderr
    return folder / "artifacts/tiny", json.loads((folder / "artifacts/tiny/report.json").read_text()), result.stdout


def test_it_is_evaluated_and_not_timed(run: tuple[Path, dict[str, Any], str]):
    folder, report, _ = run
    entry = next(entry for entry in report["formats"] if entry["name"] == "coreml")
    assert (entry["ran"], entry["precision"], entry["verdict"], entry["path"]) == (False, "int8", "pass", PACKAGE)
    assert set(entry["measurements"]) == {
        "size_bytes",
        "parity_label_agreement",
        "parity_max_abs_diff",
        "parity_min_cosine",
    }
    assert entry["measurements"]["size_bytes"]["value"] == size_bytes(folder / "model" / PACKAGE)
    assert (entry["parity"]["kind"], entry["parity"]["against"], entry["parity"]["rows"]) == ("evaluated", "torch", 200)
    assert 0 < entry["parity"]["max_abs_diff"] < 0.5
    last = report["stages"][-1]
    assert last["details"]["coreml_bytes"] == size_bytes(folder / "model" / PACKAGE)
    assert last["measurements"]["parity_evaluated_label_agreement"]["n"] == 200
    gates = {gate["metric"]: gate["verdict"] for gate in last["gates"]}
    assert {"parity_evaluated_label_agreement", *GATES} <= set(gates) and "coreml.latency_p50_ms" not in gates


def test_the_report_and_the_card_say_that_no_device_has_run_it(run: tuple[Path, dict[str, Any], str]):
    folder, _, printed = run
    for page in (printed, *((folder / name).read_text() for name in ("report.md", "report.html", "model/README.md"))):
        assert "never run on a device" in " ".join(page.split())
    assert f"| `{PACKAGE}` |" in (folder / "model/README.md").read_text()


def test_each_file_of_the_folder_is_in_the_manifest_and_verified(run: tuple[Path, dict[str, Any], str], tmp_path: Path):
    folder = Path(shutil.copytree(run[0], tmp_path / "run"))
    files = [path.relative_to(folder / "model") for path in (folder / "model" / PACKAGE).rglob("*") if path.is_file()]
    manifest = json.loads((folder / "model/manifest.json").read_text())
    assert len(files) == 3 and {file.as_posix() for file in files} <= set(manifest["files"])
    good = compress("verify", folder, "--json", cwd=tmp_path)
    assert good.returncode == 0, good.stdout
    subjects = {check["subject"]: check["verdict"] for check in json.loads(good.stdout)["checks"]}
    assert subjects[PACKAGE] == subjects[f"{PACKAGE}, recorded"] == "pass"
    weights = folder / "model" / next(file for file in files if file.suffix == ".bin")
    weights.write_bytes(weights.read_bytes()[:-1])
    bad = compress("verify", folder, cwd=tmp_path)
    assert bad.returncode == 1 and "weight.bin" in bad.stdout


def test_bench_and_inspect_take_the_other_files_and_refuse_it(run: tuple[Path, dict[str, Any], str]):
    folder = run[0] / "model"
    timed = compress("bench", folder, "--sequence-length", "8", "--runs", "60", "--json", cwd=folder)
    assert {entry["runtime"] for entry in json.loads(timed.stdout)} == {"onnxruntime"}
    for command, what in (("bench", "cannot be timed"), ("inspect", "cannot be inspected")):
        refused = compress(command, folder / PACKAGE, cwd=folder)
        assert refused.returncode == 2 and what in refused.stderr + refused.stdout


def test_what_is_not_a_number_agrees_with_nothing(run: tuple[Path, dict[str, Any], str], tmp_path: Path):
    import numpy as np

    folder = run[0] / "model"
    (found,) = [entry for entry in parity.present(folder) if entry.kind == "evaluated"]
    from compressor.measure.parity_inputs import ParityInputs
    from compressor.models.checkpoint import Checkpoint

    material = ParityInputs.of(Checkpoint(folder), None, 0, tmp_path)
    right = {"edges_alone": np.array([[[1.0, 0.0]], [[0.0, 1.0]]], np.float32)}
    wrong = {"edges_alone": np.array([[[1.0, 0.0]], [[np.nan, 1.0]]], np.float32)}
    for given, agreement in ((right, 1.0), (wrong, 0.0)):
        facts = parity.compare(found, {found.candidate: given, found.reference: right}, material)
        assert facts["label_agreement"] == agreement
