"""TorchScript of quantized checkpoints: the integers, and so the answers, of the quantized ONNX graph."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from conftest import MAX_POSITIONS, exact_settings, save_classifier
from exports import QUANTIZED_ONNX, record
from kinds import KINDS, export, make_model, rows
from onnx import TensorProto, helper, numpy_helper
from transformers.activations import ACT2FN

from compressor import quantization
from compressor.errors import StageError
from compressor.measure.token_rows import edge_cases
from compressor.package.inspection import inspect
from compressor.quantization import calibration, dynamic_int8
from compressor.quantization.spec import CalibrationSpec
from compressor.runtimes import RUNTIMES, torchscript
from compressor.runtimes.torchscript_int8 import operators
from compressor.runtimes.torchscript_int8.module import GraphModule
from compressor.runtimes.torchscript_int8.operators import Node

VOCABULARY = 60
SCHEMES = [name for name, scheme in quantization.SCHEMES.items() if not scheme.trained]


def quantized(folder: Path, source: Path, model: Any, scheme: str = "dynamic_int8", **settings: Any) -> Path:
    """A folder with the graph that a scheme makes of a float one, and TorchScript made of that."""
    ranges = calibration.ranges(source, rows(model), CalibrationSpec()) if scheme == "static_int8" else None
    bits = 4 if scheme.endswith("int4") else 8
    target = folder / QUANTIZED_ONNX
    target.parent.mkdir(parents=True)
    quantization.SCHEMES[scheme].write(source, target, exact_settings(bits=bits, **settings), ranges)
    record(folder)
    torchscript.export(folder, folder / "model.pt")
    return folder


def stored_bytes(path: Path) -> int:
    """Of the tensors in a TorchScript file."""
    with zipfile.ZipFile(path) as archive:
        return sum(entry.file_size for entry in archive.infolist() if "/data/" in entry.filename)


def assert_same_answers(folder: Path, batches: list[dict[str, np.ndarray]]) -> None:
    """Equal but for what rounds the other way where a value lies between two integers."""
    reference = RUNTIMES["onnxruntime"].session(folder / QUANTIZED_ONNX, 1)
    session = RUNTIMES["torchscript"].session(folder / "model.pt", 1)
    errors = []
    for inputs in batches:
        given, expected = session.predict(inputs), reference.predict(inputs)
        assert list(given) == list(expected)
        assert given["logits"].shape == expected["logits"].shape
        errors.append(np.abs(given["logits"] - expected["logits"]).max() / np.abs(expected["logits"]).max())
    assert np.median(errors) < 1e-4
    assert max(errors) < 0.1


@pytest.mark.parametrize(("family", "head"), KINDS)
def test_every_kind_and_scheme_answers_as_its_graph_and_is_as_small(family: str, head: str, tmp_path: Path):
    model = make_model(family, head)
    source = export(model, tmp_path)
    edges = edge_cases(MAX_POSITIONS, VOCABULARY, 0)
    batches = [*rows(model), *(edges.batch(batch) for batch in ([0], [3], [4], [5], [6], [0, 6, 3]))]
    for scheme in SCHEMES:
        folder = quantized(tmp_path / scheme, source, model, scheme)
        assert_same_answers(folder, batches)
        graph = onnx.load(str(folder / QUANTIZED_ONNX)).graph
        initializers = sum(len(tensor.raw_data) for tensor in graph.initializer)
        # Four bytes for the sum of each column of 32 integers come on top.
        assert stored_bytes(folder / "model.pt") < 1.3 * initializers, "what is shared is stored once, as integers"


@pytest.mark.parametrize(
    "settings",
    [{"per_channel": False}, {"reduce_range": True}, {"embeddings": False}, {"keep_float": ("*layer.0.*", "*word_*")}],
    ids=lambda settings: next(iter(settings)),
)
@pytest.mark.parametrize("scheme", ["dynamic_int8", "static_int8"])
def test_every_setting_comes_along(scheme: str, settings: dict[str, Any], tmp_path: Path):
    model = make_model("bert")
    folder = quantized(tmp_path / "q", export(model, tmp_path), model, scheme, **settings)
    assert_same_answers(folder, rows(model))


@pytest.mark.parametrize("activation", ["gelu_10", "hardswish", "leaky_relu", "mish", "silu", "sqrtsoftplus"])
def test_every_activation_has_its_operators(activation: str, tmp_path: Path):
    """An activation that only this format lacks would be found out after all the training."""
    model = make_model("bert")
    model.config.hidden_act = activation
    for layer in model.bert.encoder.layer:
        layer.intermediate.intermediate_act_fn = ACT2FN[activation]
    folder = quantized(tmp_path / "q", export(model, tmp_path), model)
    assert_same_answers(folder, rows(model))


@pytest.mark.parametrize("scheme", ["dynamic_int8", "static_int8"])
def test_products_run_as_integers(scheme: str, tmp_path: Path):
    """4 layers of 6 products, pooler and classifier; what attention multiplies has no weights."""
    model = make_model("bert")
    folder = quantized(tmp_path / "q", export(model, tmp_path), model, scheme)
    (found,) = inspect(folder / "model.pt")
    assert found.operators["aten::_int_mm"] == 4 * 6 + 2
    assert found.operators["aten::matmul"] == 4 * 2
    assert "aten::linear" not in found.operators
    matrices = [weight for weight in found.weights if len(weight.shape) == 2]
    assert {weight.type for weight in matrices} <= {"int8", "uint8"}
    assert {weight.part for weight in matrices} == {
        *("token embeddings", "other embeddings", "attention", "feed-forward", "head")
    }


def test_it_is_a_quarter_of_the_float_file(tmp_path: Path):
    save_classifier(tmp_path, vocab_size=4000, num_hidden_layers=1)
    torchscript.export(tmp_path, tmp_path / "float.pt")
    RUNTIMES["onnxruntime"].export(tmp_path, tmp_path / "float.onnx")
    dynamic_int8.write(tmp_path / "float.onnx", tmp_path / QUANTIZED_ONNX, exact_settings())
    record(tmp_path)
    torchscript.export(tmp_path, tmp_path / "int8.pt")
    assert stored_bytes(tmp_path / "int8.pt") < 0.27 * stored_bytes(tmp_path / "float.pt")
    assert (tmp_path / "int8.pt").stat().st_size < 0.4 * (tmp_path / "float.pt").stat().st_size


def test_a_fresh_process_needs_nothing_but_torch(tmp_path: Path):
    model = make_model("distilbert")
    folder = quantized(tmp_path / "q", export(model, tmp_path), model)
    (inputs, *_) = rows(model)
    given = [inputs[name].tolist() for name in ("input_ids", "attention_mask")]
    code = (
        "import json, sys, torch\n"
        "module = torch.jit.load(sys.argv[1])\n"
        "logits = module(*map(torch.tensor, json.loads(sys.argv[2])))\n"
        "assert not {'compressor', 'transformers', 'onnx', 'onnxruntime'} & set(sys.modules)\n"
        "print(json.dumps(logits.tolist()))\n"
    )
    command = [sys.executable, "-I", "-c", code, str(folder / "model.pt"), json.dumps(given)]
    result = subprocess.run(command, capture_output=True, text=True, check=True, cwd="/")
    expected = RUNTIMES["torchscript"].session(folder / "model.pt", 1).predict(inputs)["logits"]
    assert np.allclose(json.loads(result.stdout), expected, atol=1e-6)


def test_two_exports_are_byte_identical(tmp_path: Path):
    model = make_model("bert")
    folder = quantized(tmp_path / "q", export(model, tmp_path), model)
    code = "import sys, pathlib; from compressor.runtimes import torchscript; "
    code += "folder = pathlib.Path(sys.argv[1]); torchscript.export(folder, folder / 'model.pt')"
    exports = []
    for _ in range(2):
        subprocess.run([sys.executable, "-c", code, str(folder)], check=True, capture_output=True)
        exports.append((folder / "model.pt").read_bytes())
    assert exports[0] == exports[1]
    assert b"compressor/" not in exports[0].replace(b"__torch__/compressor/", b""), "no build paths"


def test_an_operator_without_a_counterpart_is_named(tmp_path: Path):
    node = helper.make_node("Attention", ["x"], ["y"], domain="com.microsoft")
    sizes = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2]) for name in "xy"]
    onnx.save(helper.make_model(helper.make_graph([node], "g", sizes[:1], sizes[1:])), str(tmp_path / "fused.onnx"))
    with pytest.raises(StageError, match=r"fused\.onnx cannot become TorchScript.* Attention; take torchscript out"):
        GraphModule(tmp_path / "fused.onnx")


def run(op: str, *inputs: torch.Tensor, **attributes: Any) -> tuple[torch.Tensor, ...]:
    return operators.floats(*operators.run(Node(op, (), (), attributes), *inputs))


def test_activations_are_rounded_as_the_standard_says():
    """The example of ONNX' DynamicQuantizeLinear; and its two corners, all positive and all zero."""
    integers, scale, zero_point = run("DynamicQuantizeLinear", torch.tensor([0, 2, -3, -2.5, 1.34, 0.5]))
    assert integers.tolist() == [153, 255, 0, 26, 221, 179]
    assert (float(scale), int(zero_point)) == (pytest.approx(5 / 255), 153)
    integers, scale, zero_point = run("DynamicQuantizeLinear", torch.tensor([1.0, 5.1]))
    assert (integers.tolist(), int(zero_point)) == ([50, 255], 0)
    integers, scale, zero_point = run("DynamicQuantizeLinear", torch.zeros(3))
    assert (integers.tolist(), float(scale), int(zero_point)) == ([0, 0, 0], 1.0, 0)


def test_blocks_are_unpacked_low_half_first():
    """Codes 1 and 15 of one byte are -7 and 7; what fills the row up is cut off."""
    codes = torch.full((1, 1, 8), 0x88, dtype=torch.uint8)
    codes[0, 0, 0] = 0xF1
    attributes = {"K": 3, "N": 1, "bits": 4, "block_size": 16}
    (product,) = run("MatMulNBits", torch.tensor([[1.0, 10.0, 100.0]]), codes, torch.tensor([[0.5]]), **attributes)
    assert product.tolist() == [[0.5 * (-7 + 70)]]
    table = {"bits": 4, "block_size": 16, "gather_axis": 0, "quantize_axis": 1}
    (looked_up,) = run("GatherBlockQuantized", codes[:, 0], torch.tensor([0, 0]), torch.tensor([[0.5]]), **table)
    assert looked_up[1].tolist() == [-3.5, 3.5, *[0.0] * 14]


@pytest.mark.parametrize(("op", "attributes"), [("MatMulNBits", {"accuracy_level": 4}), ("MatMulNBits", {})])
def test_blocks_give_what_onnx_runtime_gives(op: str, attributes: dict[str, int], tmp_path: Path):
    random = np.random.default_rng(0)
    sizes = {"K": 32, "N": 5, "bits": 8, "block_size": 16}
    codes = random.integers(0, 256, (5, 2, 16), dtype=np.uint8)
    scales, x = random.random((5, 2), dtype=np.float32), random.normal(size=(3, 32)).astype(np.float32)
    node = helper.make_node(op, ["x", "codes", "scales"], ["y"], domain="com.microsoft", **sizes, **attributes)
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", n]) for name, n in (("x", 32), ("y", 5))]
    constants = [numpy_helper.from_array(value, name) for name, value in (("codes", codes), ("scales", scales))]
    graph = helper.make_graph([node], "g", ends[:1], ends[1:], constants)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), str(tmp_path / "g.onnx"))
    expected = RUNTIMES["onnxruntime"].session(tmp_path / "g.onnx", 1).predict({"x": x})["y"]
    (given,) = run(op, torch.from_numpy(x), torch.from_numpy(codes), torch.from_numpy(scales), **sizes, **attributes)
    assert np.abs(given.numpy() - expected).max() < 1e-4 * np.abs(expected).max()
