"""`compress verify` on a folder that a run has published, and on all the ways in which it can go bad."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from problems import refused
from running import compress, compress_process
from verifying import failed, failed_of, look, look_at_files, sign

from compressor.files import file_digest
from compressor.measure import recorded_answers
from compressor.measure.client import Client
from compressor.package import manifest as manifests

FILES = [
    "README.md",
    "config.json",
    "model.safetensors",
    "onnx/model.onnx",
    "onnx/model_16.onnx",
    "onnx/model_quantized.onnx",
    "onnx/model_quantized_16.onnx",
    "ort/model.ort",
    "ort/required_operators.config",
    "quantization.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "torchscript/model.pt",
    "verification.json",
]


@pytest.fixture
def run(published: Path, tmp_path: Path) -> Path:
    """A copy of a run's folder."""
    return Path(shutil.copytree(published, tmp_path / "run"))


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def test_what_a_run_published_is_as_it_was(published: Path, tmp_path: Path):
    result = compress_process("verify", published, "--json", cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    found = json.loads(result.stdout)
    assert found["verdict"] == "pass"
    assert {gate["metric"] for gate in found["gates"]} >= {"accuracy", "quantized_coverage", "parity_max_abs_diff"}
    checks = {check["subject"]: check["message"] for check in found["checks"]}
    assert f"{len(FILES)} files" in checks["tiny"]
    assert checks["quantized_coverage"] == "1, as recorded"
    assert checks["onnx/model.onnx"].startswith("100.00% of 64 rows have the label of torch")
    quantized = "onnx/model_quantized.onnx"
    for file in ("torchscript/model.pt", "ort/model.ort"):
        assert checks[file].startswith(f"100.00% of 64 rows have the label of {quantized}")
    for file in ("torch", "onnx/model.onnx", "torchscript/model.pt", "ort/model.ort", quantized):
        assert checks[f"{file}, recorded"].startswith("100.00% of 64 rows have the recorded label")
    for file in ("torchscript/model.pt", "ort/model.ort", quantized):
        assert checks[f"{file}, padded"].startswith(f"100.00% of 64 rows have the label of {file}, unpadded")
    for file, free in (("onnx/model_16.onnx", "onnx/model.onnx"), ("onnx/model_quantized_16.onnx, padded", quantized)):
        assert checks[file].startswith("100.00% of ") and f"the label of {free}, unpadded" in checks[file]


def test_the_folder_that_ships_is_enough_and_a_table_is_for_people(published: Path, tmp_path: Path):
    shutil.copytree(published / "model", tmp_path / "elsewhere")
    result = compress("verify", "elsewhere", cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "recorded gate of finetune: accuracy: 1.0000" in result.stdout
    assert "none is missing, changed or added" in result.stdout


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("where", ["first", "middle", "last"])
def test_a_flipped_byte_is_found_in_every_file(run: Path, name: str, where: str):
    path = run / "model" / name
    flip(path, {"first": 0, "middle": path.stat().st_size // 2, "last": -1}[where])
    for folder in (run, run / "model"):
        assert "sha256" in failed(look(folder))[name]


def test_the_files_tried_are_all_there_are(published: Path):
    assert set(manifests.read(published / "model").files) == set(FILES)


def test_a_flipped_byte_is_found_wherever_it_is_in_the_manifest(run: Path):
    path = run / "model" / manifests.NAME
    content = path.read_bytes()
    for place in [*range(0, len(content), max(1, len(content) // 200)), len(content) - 1]:
        path.write_bytes(content)
        flip(path, place)
        assert "manifest.json" in failed(look(run / "model")), content[place - 20 : place + 20]


def test_another_runs_manifest_is_told_by_the_report(run: Path):
    manifests.read(run / "model").write(run / "model")
    assert "manifest.json" not in {check.subject for check in look_at_files(run)}
    replace(manifests.read(run / "model"), recipe="another").write(run / "model")
    assert "not the one in report.json" in failed_of(look_at_files(run))["manifest.json"]


def test_missing_extra_and_cut_files_are_found_at_once(run: Path):
    model = run / "model"
    (model / "tokenizer.json").unlink()
    (model / "notes.txt").write_text("mine")
    (model / "onnx" / "old").mkdir()
    (model / "onnx" / "old" / "model.onnx").write_text("mine")
    cut = model / "onnx" / "model.onnx"
    cut.write_bytes(cut.read_bytes()[:-100])
    wrong = failed(look(run))
    assert set(wrong) == {"tokenizer.json", "notes.txt", "onnx/old/model.onnx", "onnx/model.onnx", "formats"}
    assert "is missing" in wrong["tokenizer.json"]
    assert "was added" in wrong["notes.txt"]
    assert f"has {cut.stat().st_size} bytes, should have" in wrong["onnx/model.onnx"]
    assert "not loaded" in wrong["formats"]


def test_nothing_outside_of_the_folder_is_opened(run: Path, tmp_path: Path):
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    entry = {"sha256": file_digest(secret), "size_bytes": secret.stat().st_size}
    model = run / "model"
    (model / "link.txt").symlink_to(secret)
    (model / "folder").symlink_to(tmp_path)
    written = manifests.read(model)
    names = ["../../secret.txt", str(secret), "link.txt", "folder/secret.txt", "onnx/../config.json"]
    replace(written, files={**written.files, **dict.fromkeys(names, entry)}).write(model)
    wrong = failed(look(model))
    assert all("not opened" in wrong[name] for name in names)
    assert "was added" in wrong["folder"]


def test_a_manifest_outside_of_the_folder_is_found(run: Path, tmp_path: Path):
    model = run / "model"
    (model / manifests.NAME).rename(tmp_path / "elsewhere.json")
    (model / manifests.NAME).symlink_to(tmp_path / "elsewhere.json")
    assert "leaves the folder" in failed(look(model))[manifests.NAME]


def test_formats_that_cannot_be_loaded_are_failed_checks(run: Path):
    model = run / "model"
    (model / "model.safetensors").unlink()
    (model / "torchscript" / "model.pt").write_bytes(b"no zip file")
    for name in ("model.onnx", "model_quantized.onnx"):
        graph = model / "onnx" / name
        graph.write_bytes(graph.read_bytes()[:1000])
    sign(run)
    wrong = failed(look(run, Client()))
    for name in ("torch", "torchscript/model.pt", "onnx/model.onnx", "onnx/model_quantized.onnx"):
        assert "cannot be" in wrong[name] and "\n" not in wrong[name], name


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", "{"),
        ("config.json", "[]"),
        ("config.json", '{"vocab_size": -1}'),
        ("verification.json", '{"schema_version": 1, "task": "x", "rows": [{}], "answers": {}}'),
        ("verification.json", '{"schema_version": 1, "rows": 7}'),
        ("verification.json", "[" * 100_000),
    ],
)
def test_broken_json_is_a_failed_check(run: Path, name: str, content: str):
    (run / "model" / name).write_text(content)
    sign(run)
    assert "not compared" in failed(look(run))["formats"]


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "7", '{"schema_version": 2}', '{"schema_version": 1}', "[" * 100_000]
)
def test_a_broken_manifest_or_report_is_a_failed_check(run: Path, content: str):
    (run / "report.json").write_text(content)
    assert "report.json" in failed_of(look_at_files(run))
    (run / "model" / manifests.NAME).write_text(content)
    assert manifests.NAME in failed(look(run / "model"))


def test_a_missing_manifest_or_model_is_told(run: Path):
    (run / "model" / manifests.NAME).unlink()
    assert "is missing" in failed(look(run))["manifest.json"]
    shutil.rmtree(run / "model")
    assert "is missing" in failed(look(run))["manifest.json"]


def test_weights_that_were_exchanged_give_other_answers(run: Path):
    """Signed again, so only the answers tell: the graph is not of this checkpoint, nor what it was."""
    path = run / "model" / "onnx" / "model.onnx"
    graph = onnx.load(str(path))
    matrix = max(graph.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    values = onnx.numpy_helper.to_array(matrix)
    matrix.CopyFrom(onnx.numpy_helper.from_array(values * 1.5, matrix.name))
    onnx.save(graph, str(path))
    sign(run)
    wrong = failed(look(run))
    assert set(wrong) == {"onnx/model.onnx", "onnx/model.onnx, recorded", "onnx/model_16.onnx"}
    assert "logits differ" in wrong["onnx/model.onnx, recorded"]


@pytest.mark.parametrize("make", [lambda path: None, Path.mkdir, Path.touch])
def test_what_no_run_left_is_a_wrong_command_line(tmp_path: Path, make: Callable[[Path], None]):
    path = tmp_path / "other"
    make(path)
    with refused(str(path), "not_found"):
        look(path)
    assert compress("verify", path, cwd=tmp_path).returncode == 2


def test_without_rows_only_made_up_ones_are_asked(run: Path):
    (run / "model" / recorded_answers.FILE).unlink()
    sign(run)
    assert "the manifest says 64" in failed(look(run))["formats"]
    sign(run, recorded_rows=0)
    checks = {check.subject: check.message for check in look(run).checks}
    assert checks["onnx/model.onnx"].startswith("100.00% of 8 made-up rows have the label of torch")
    assert not any("recorded" in name for name in checks)
