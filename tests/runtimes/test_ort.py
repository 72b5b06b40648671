"""ORT format: the same answers, from a file that a build with few operators can run."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from click.testing import CliRunner
from conftest import MAX_POSITIONS, save_classifier
from exports import QUANTIZED_ONNX, quantize, run_export

from compressor.commands import main
from compressor.measure import parity
from compressor.measure.parity_inputs import Endpoint
from compressor.measure.token_rows import by_length, edge_cases
from compressor.report import model_card
from compressor.runtimes import RUNTIMES
from compressor.runtimes.ort import runtime as ort

VOCABULARY = 60


@pytest.fixture(scope="module", params=["bert", "distilbert"])
def checkpoint(request, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_classifier(tmp_path_factory.mktemp(request.param) / "model", request.param, num_hidden_layers=2)


@pytest.fixture(scope="module")
def plain(checkpoint: Path) -> Path:
    run_export(checkpoint, checkpoint.parent / "plain", targets=["onnx", "ort"])
    return checkpoint.parent / "plain"


@pytest.fixture(scope="module")
def quantized(checkpoint: Path) -> Path:
    copy = shutil.copytree(checkpoint, checkpoint.parent / "copy")
    run_export(quantize(copy, copy.parent), checkpoint.parent / "quantized", targets=["onnx", "ort"])
    return checkpoint.parent / "quantized"


def answers(runtime: str, path: Path) -> list[np.ndarray]:
    """Logits on the edges where exported graphs go wrong first, alone and together."""
    edges = edge_cases(MAX_POSITIONS, VOCABULARY, 0)
    session = RUNTIMES[runtime].session(path, 1)
    batches = [*([index] for index in range(len(edges))), *by_length(edges.lengths, 10_000)]
    return [session.predict(edges.batch(batch))["logits"] for batch in batches]


def test_a_float_file_gives_torchs_logits(plain: Path):
    for given, expected in zip(answers("ort", plain / "ort/model.ort"), answers("torch", plain), strict=True):
        assert np.abs(given - expected).max() < 1e-5


def test_a_quantized_file_gives_the_quantized_graphs_logits_exactly(quantized: Path):
    expected = answers("onnxruntime", quantized / "onnx/model_quantized.onnx")
    given = answers("ort", quantized / "ort/model.ort")
    assert all(np.array_equal(*pair) for pair in zip(given, expected, strict=True))
    floats = answers("onnxruntime", quantized / "onnx/model.onnx")
    assert not all(np.array_equal(*pair) for pair in zip(given, floats, strict=True))


def test_it_is_in_ort_format_and_small(quantized: Path, plain: Path):
    """Flatbuffers, which a minimal build reads; and of the quantized graph."""
    content = (quantized / "ort/model.ort").read_bytes()
    assert content[4:8] == b"ORTM"
    assert len(content) < (plain / "ort/model.ort").stat().st_size


def test_the_list_has_every_operator_and_its_version(quantized: Path):
    lines = (quantized / ort.OPERATORS).read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.]+;\d+;\w+(,\w+)*", rule) for rule in rules)
    listed = {name for rule in rules for name in rule.split(";")[2].split(",")}
    nodes = ort.graph_of(quantized / "ort/model.ort").node
    assert listed == {node.op_type for node in nodes} and "DynamicQuantizeMatMul" in listed


def test_nothing_is_laid_out_for_this_processor(quantized: Path):
    rules = (quantized / ort.OPERATORS).read_text(encoding="utf-8")
    assert "nchwc" not in rules.lower() and "nhwc" not in rules.lower()


def test_ort_alone_leaves_no_onnx_file(checkpoint: Path, tmp_path: Path):
    run_export(checkpoint, tmp_path / "only", targets=["ort"])
    assert not (tmp_path / "only/onnx/model.onnx").exists()
    meta = onnxruntime.InferenceSession(str(tmp_path / "only/ort/model.ort")).get_modelmeta()
    assert meta.custom_metadata_map["recipe"] == "tiny"


def test_parity_holds_it_against_what_it_was_made_of(quantized: Path, plain: Path):
    references = [
        {entry.name: entry.reference for entry in parity.present(folder)}["ort"] for folder in (quantized, plain)
    ]
    assert references == [Endpoint("onnxruntime", QUANTIZED_ONNX), parity.TORCH]


def test_inspect_and_bench_know_it(quantized: Path):
    result = CliRunner().invoke(main.main, ["inspect", str(quantized / "ort/model.ort"), "--json"])
    assert result.exit_code == 0, result.output
    (found,) = json.loads(result.stdout)
    assert found["types"]["int8"]["parameters"] > 0 and found["operators"]["DynamicQuantizeMatMul"] > 0
    path = str(quantized / "ort/model.ort")
    result = CliRunner().invoke(main.main, ["bench", path, "--sequence-length", "8", "--runs", "60", "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)[0]["runtime"] == "ort"


def test_a_damaged_file(tmp_path: Path):
    (tmp_path / "broken.ort").write_bytes(b"this is no model at all")
    result = CliRunner().invoke(main.main, ["inspect", str(tmp_path / "broken.ort")])
    assert (result.exit_code, "Traceback" in result.output) == (2, False) and "cannot be read" in result.output


def test_the_card_says_how_to_run_what_is_there_and_nothing_else(quantized: Path):
    table = model_card.files_table(quantized)
    for name in ("onnx/model.onnx", "onnx/model_quantized.onnx", "ort/model.ort", "ort/required_operators.config"):
        assert f"`{name}`" in table
    assert "torchscript" not in table and "model_with_tokenizer" not in table
