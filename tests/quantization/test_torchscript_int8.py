"""TorchScript of quantized checkpoints: the integers, and so the answers, of the quantized ONNX graph.

The oracle is ONNX Runtime with the graph itself.
"""

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
from onnx import TensorProto, helper
from transformers.activations import ACT2FN

from compressor import quantization
from compressor.errors import StageError
from compressor.measure.token_rows import edge_cases
from compressor.package.inspection import inspect
from compressor.quantization import calibration, dynamic_int8
from compressor.quantization.spec import CalibrationSpec
from compressor.runtimes import RUNTIMES, torchscript
from compressor.runtimes.torchscript_int8 import weights
from compressor.runtimes.torchscript_int8.module import GraphModule

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


def with_float_activations(path: Path) -> Path:
    """The same graph without leave to round activations, which ONNX Runtime takes in products of blocks."""
    model = onnx.load(str(path))
    for node in model.graph.node:
        for entry in node.attribute:
            if entry.name == "accuracy_level":
                entry.i = 0
    onnx.save(model, str(path.with_name("float.onnx")))
    return path.with_name("float.onnx")


def assert_same_answers(folder: Path, batches: list[dict[str, np.ndarray]]) -> None:
    """Equal but for what rounds the other way where a value lies between two integers."""
    reference = RUNTIMES["onnxruntime"].session(with_float_activations(folder / QUANTIZED_ONNX), 1)
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
        # Products that are one have a scale and a bias for each output, where the graph may have none.
        assert stored_bytes(folder / "model.pt") < 1.2 * initializers, "what is shared is stored once, as integers"


@pytest.mark.parametrize(
    "settings",
    [
        {"per_channel": False},
        {"reduce_range": True},
        {"embeddings": False},
        {"embeddings": "int4"},
        {"keep_float": ("*layer.0.*", "*word_*")},
    ],
    ids=lambda settings: "-".join(map(str, next(iter(settings.items())))),
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
def test_what_the_graph_spells_out_is_one_kernel(scheme: str, tmp_path: Path):
    """Of 4 layers: queries, keys and values in one product, but for the last layer's queries, of one token alone."""
    model = make_model("bert")
    folder = quantized(tmp_path / "q", export(model, tmp_path), model, scheme)
    (found,) = inspect(folder / "model.pt")
    assert found.operators["quantized::linear_dynamic"] == 4 * 4 + 1 + 2
    assert found.operators["aten::scaled_dot_product_attention"] == found.operators["aten::gelu"] == 4
    assert found.operators["aten::layer_norm"] == 2 * 4 + 1
    assert not {"aten::linear", "aten::matmul", "aten::erf", "aten::softmax"} & set(found.operators)
    matrices = [weight for weight in found.weights if len(weight.shape) == 2 and weight.shape[0] > 1]
    assert {weight.type for weight in matrices} <= {"int8", "uint8"}
    assert {weight.part for weight in matrices} == {
        *("token embeddings", "other embeddings", "attention", "feed-forward", "head")
    }


def test_layers_that_share_a_weight_join_it_with_what_all_of_them_join_it_with(tmp_path: Path):
    """The last layer reads one token's queries: shared, they are no part of the product with keys and values."""
    model = make_model("albert")
    folder = quantized(tmp_path / "q", export(model, tmp_path), model)
    (found,) = inspect(folder / "model.pt")
    widths = sorted(weight.shape for weight in found.weights if weight.type == "int8" and weight.part == "attention")
    assert widths.count((64, 32)) == 1, "keys and values of the group that the last layer is in"
    assert widths.count((96, 32)) == 1, "all three of the other group"


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_engine_takes_the_file(scheme: str, tmp_path: Path):
    """Weights are packed by the engine that is there when the file is loaded, for phones too."""
    model = make_model("bert")
    folder = quantized(tmp_path / "q", export(model, tmp_path), model, scheme, reduce_range=True)
    engines = [name for name in torch.backends.quantized.supported_engines if name != "none"]
    assert {"fbgemm", "onednn", "qnnpack"} <= {*engines}
    before, answers = torch.backends.quantized.engine, []
    try:
        for torch.backends.quantized.engine in engines:
            session = RUNTIMES["torchscript"].session(folder / "model.pt", 1)
            answers.append([session.predict(inputs)["logits"] for inputs in rows(model)])
    finally:
        torch.backends.quantized.engine = before
    for given in answers[1:]:
        for logits, expected in zip(given, answers[0], strict=True):
            assert logits.argmax() == expected.argmax()
            assert np.abs(logits - expected).max() < 0.05 * np.abs(expected).max()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_loaded_file_can_be_saved_again(scheme: str, tmp_path: Path):
    model = make_model("bert", "MaskedLM")
    folder = quantized(tmp_path / "q", export(model, tmp_path), model, scheme)
    torch.jit.load(str(folder / "model.pt")).save(str(tmp_path / "again.pt"))
    assert stored_bytes(tmp_path / "again.pt") == stored_bytes(folder / "model.pt")
    given = [torch.from_numpy(value) for value in rows(model)[0].values()]
    first, again = (torch.jit.load(str(path))(*given) for path in (folder / "model.pt", tmp_path / "again.pt"))
    assert torch.equal(first, again)


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


def test_exact_products_round_as_graphs_do():
    """The kernel alone takes about 1 of 20,000 values for the integer beside."""
    torch.manual_seed(0)
    x, weight = torch.randn(400, 384), torch.randint(-63, 64, (8, 384), dtype=torch.int8)
    step = (x.max() - x.min()) / 255
    expected = (x / step).round() @ weight.t().float() * step
    given = [weights.Int8Product(weight, torch.ones(8), None, False, exact)(x) for exact in (True, False)]
    wrong, kernels_wrong = ((rows - expected).abs().amax(1) > step for rows in given)
    assert not wrong.any()
    assert 0 < kernels_wrong.sum() < 40


@pytest.mark.parametrize(("layers", "exact"), [(4, False), (5, True)])
def test_deep_graphs_are_rounded_exactly(layers: int, exact: bool, tmp_path: Path):
    save_classifier(tmp_path, num_hidden_layers=layers)
    RUNTIMES["onnxruntime"].export(tmp_path, tmp_path / "float.onnx")
    dynamic_int8.write(tmp_path / "float.onnx", tmp_path / QUANTIZED_ONNX, exact_settings())
    products = [each for each in GraphModule(tmp_path / QUANTIZED_ONNX).modules() if hasattr(each, "packed")]
    assert {product.exact for product in products} == {exact}


def test_blocks_are_unpacked_low_half_first():
    """Codes 1 and 15 of one byte are -7 and 7; what fills the row up is cut off."""
    codes = torch.full((1, 8), 0x88, dtype=torch.uint8)
    codes[0, 0] = 0xF1
    assert weights.ExpandedBlocks(codes, torch.tensor([[0.5]]).half(), 4, 3)().tolist() == [[-3.5], [3.5], [0.0]]
    assert weights.expanded(codes, torch.tensor([[0.5]]), 4).tolist() == [[-3.5, 3.5, *[0.0] * 14]]
