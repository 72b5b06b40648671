"""`compress bench` and `doctor` on real files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from compressor.commands import main
from compressor.runtimes import RUNTIMES


@pytest.fixture(scope="module")
def exported(classifier: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bench") / "model"
    shutil.copytree(classifier, folder)
    for name in ("onnxruntime", "torchscript"):
        RUNTIMES[name].export(folder, folder / RUNTIMES[name].file)
    return folder


def bench(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main.main, ["bench", *map(str, arguments), "--sequence-length", "16", "--runs", "60"])


def test_folder_onnx_and_torchscript_side_by_side(exported: Path):
    result = bench(exported, exported / "onnx/model.onnx", exported / "torchscript/model.pt", "--json")
    assert result.exit_code == 0, result.output
    folder, beside, onnx, script = json.loads(result.stdout)
    assert Path(folder["path"]) == Path(onnx["path"]) and Path(beside["path"]) == Path(script["path"]), "every file"
    assert [entry["runtime"] for entry in (folder, onnx, script)] == ["onnxruntime", "onnxruntime", "torchscript"]
    assert folder["p50"] == onnx["p50"], "the same file is timed once"
    assert {folder["speedup"][bound] for bound in ("value", "low", "high")} == {1.0}
    for entry in (onnx, script, beside):
        assert entry["p50"]["low"] <= entry["p50"]["value"] <= entry["p95"]["high"]
    assert onnx["size_bytes"] == (exported / "onnx/model.onnx").stat().st_size


def test_table_names_every_path(exported: Path):
    result = bench(exported / "onnx/model.onnx")
    assert result.exit_code == 0 and "p50 ms" in result.stdout


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda f: f / "none.onnx", "no such file or folder"),
        (lambda f: f / "config.json", "cannot be timed"),
        (lambda f: f.parent, "has no exported format"),
    ],
)
def test_what_cannot_be_timed(exported: Path, make, message: str):
    result = bench(make(exported))
    assert result.exit_code == 2 and message in result.output


def test_a_sequence_longer_than_the_position_table(exported: Path):
    result = CliRunner().invoke(main.main, ["bench", str(exported), "--sequence-length", "512"])
    assert result.exit_code == 2 and "at most 48" in result.output


def test_the_model_whose_table_ends_is_named_and_not_a_file_without_config(exported: Path, tmp_path: Path):
    alone = tmp_path / "alone.onnx"
    shutil.copy(exported / RUNTIMES["onnxruntime"].file, alone)
    result = CliRunner().invoke(main.main, ["bench", str(alone), str(exported), "--sequence-length", "512"])
    assert result.exit_code == 2
    assert f"too long for {exported}" in result.output and f"too long for {alone}" not in result.output


def test_doctor_names_versions_and_extras():
    result = CliRunner().invoke(main.main, ["doctor"])
    assert result.exit_code == 0
    for word in ("torch", "onnxruntime", "cpu_features", "cores", "extra 'demo'", "extra 'test'"):
        assert word in result.output
