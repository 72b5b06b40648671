"""What runs as integers, held against what real sessions compute."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from conftest import exact_settings, save_classifier
from onnx import TensorProto, helper, numpy_helper

from compressor.package.inspection import inspect
from compressor.quantization import dynamic_int8, fp16, weight_only
from compressor.runtimes import RUNTIMES
from compressor.runtimes.inspection import Inspection
from compressor.runtimes.onnx.coverage import optimized, quantized_coverage, weight_uses

WIDTH, OUTPUTS, ROWS = 64, 8, 24
RANDOM = np.random.default_rng(0)
CODES = RANDOM.integers(0, 256, (OUTPUTS, WIDTH // 32, 16)).astype(np.uint8)
SCALES = RANDOM.normal(size=(OUTPUTS, WIDTH // 32)).astype(np.float32) / 10
INT8 = RANDOM.integers(-127, 128, (WIDTH, OUTPUTS)).astype(np.int8)
X = RANDOM.normal(size=(3, WIDTH)).astype(np.float32)


@pytest.fixture(scope="module", params=["bert", "distilbert"])
def exported(request, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = save_classifier(tmp_path_factory.mktemp(request.param), request.param, num_hidden_layers=2)
    RUNTIMES["onnxruntime"].export(folder, folder / "model.onnx")
    return folder


def uses(folder: Path) -> tuple[int, int]:
    """Look-ups and products of the models here."""
    return (2 if "distilbert" in str(folder) else 3), 2 * 6 + 2


def save(path: Path, nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray], x: int = TensorProto.FLOAT) -> Path:
    given = helper.make_tensor_value_info("x", x, ["n", WIDTH] if x == TensorProto.FLOAT else ["n"])
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "g", [given], [result], initializers)
    domains = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=domains, ir_version=9), str(path))
    return path


def n_bits(inputs: list[str], level: int) -> onnx.NodeProto:
    sizes = {"K": WIDTH, "N": OUTPUTS, "bits": 4, "block_size": 32}
    return helper.make_node("MatMulNBits", inputs, ["y"], domain="com.microsoft", accuracy_level=level, **sizes)


def expanded(zero_point: float | np.ndarray = 8.0) -> np.ndarray:
    """What CODES and SCALES stand for, `(WIDTH, OUTPUTS)`."""
    codes = np.stack([CODES & 15, CODES >> 4], axis=-1).reshape(OUTPUTS, WIDTH // 32, 32).astype(np.float32)
    return ((codes - zero_point) * SCALES[..., None]).reshape(OUTPUTS, WIDTH).T


@pytest.mark.parametrize(("level", "integers"), [(0, False), (1, False), (4, True)])
def test_packed_products_are_of_integers_where_activations_may_be_rounded(level: int, integers: bool, tmp_path: Path):
    path = save(tmp_path / "m.onnx", [n_bits(["x", "b", "s"], level)], {"b": CODES, "s": SCALES})
    assert quantized_coverage(path) == float(integers)
    error = np.abs(RUNTIMES["onnxruntime"].session(path, 1).predict({"x": X})["y"] - X @ expanded()).max()
    assert (error > 1e-3) == integers, "the session rounds its input, or it does not"


def test_packed_products_with_zero_points(tmp_path: Path):
    """Packed ones run as integers; ONNX Runtime takes floats too and then expands the weight."""
    packed, floats = np.full((OUTPUTS, 1), 0x97, np.uint8), np.full(SCALES.shape, 7.5, np.float32)
    for name, zero_points, integers in (("packed", packed, True), ("floats", floats, False)):
        constants = {"b": CODES, "s": SCALES, "z": zero_points}
        path = save(tmp_path / f"{name}.onnx", [n_bits(["x", "b", "s", "z"], 4)], constants)
        assert quantized_coverage(path) == float(integers)
        expected = X @ expanded(np.array([[[7.0], [9.0]]]) if integers else 7.5)
        error = np.abs(RUNTIMES["onnxruntime"].session(path, 1).predict({"x": X})["y"] - expected).max()
        assert (error > 1e-3) == integers


def test_packed_tables_are_looked_up_as_integers(tmp_path: Path):
    named: dict[str, Any] = {"bits": 4, "block_size": 32, "gather_axis": 0, "quantize_axis": 1}
    node = helper.make_node("GatherBlockQuantized", ["t", "x", "s"], ["y"], domain="com.microsoft", **named)
    constants = {"t": CODES.reshape(OUTPUTS, -1), "s": SCALES}
    path = save(tmp_path / "m.onnx", [node], constants, TensorProto.INT64)
    assert quantized_coverage(path) == 1.0
    given = RUNTIMES["onnxruntime"].session(path, 1).predict({"x": np.arange(OUTPUTS)})["y"]
    assert np.abs(given - expanded().T).max() < 1e-6


def expanding(how: str) -> list[onnx.NodeProto]:
    """A product of an int8 weight that is expanded first."""
    rounding = [
        helper.make_node("QuantizeLinear", ["x", "xs", "xz"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "xs", "xz"], ["xf"]),
    ]
    scaling = [helper.make_node("Mul", ["wf", "ws"], ["wt"])]
    return [
        *(rounding if how == "rounded" else []),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wf"], axis=1),
        *(scaling if how == "scaled" else []),
        helper.make_node("MatMul", ["xf" if how == "rounded" else "x", "wt" if how == "scaled" else "wf"], ["y"]),
    ]


@pytest.mark.parametrize(
    ("how", "operator"), [("rounded", "MatMulIntegerToFloat"), ("plain", "MatMulNBits"), ("scaled", "MatMul")]
)
def test_expanded_weights_are_integers_only_where_the_runtime_fuses_them(how: str, operator: str, tmp_path: Path):
    """By its own rules, which know products of rounded and of float inputs, but not a weight that is scaled twice."""
    constants = {
        "w": INT8,
        "ws": np.full(OUTPUTS, 0.01, np.float32),
        "wz": np.zeros(OUTPUTS, np.int8),
    }
    if how == "rounded":
        constants |= {"xs": np.array(0.02, np.float32), "xz": np.array(128, np.uint8)}
    path = save(tmp_path / "m.onnx", expanding(how), constants)
    assert weight_uses(onnx.load(str(path))) == [False], "as it is written, it multiplies floats"
    graph = optimized(path).graph
    assert operator in {node.op_type for node in graph.node}
    integers = operator != "MatMul"
    assert quantized_coverage(path) == float(integers)
    expected = X @ (INT8 * (0.0001 if how == "scaled" else 0.01))
    error = np.abs(RUNTIMES["onnxruntime"].session(path, 1).predict({"x": X})["y"] - expected).max()
    assert (error > 1e-3) == integers


def test_of_whole_models(exported: Path, tmp_path: Path):
    tables, products = uses(exported)
    ways = {
        "int8": (dynamic_int8, exact_settings(), 1.0),
        "int8, float tables": (dynamic_int8, exact_settings(embeddings=False), products / (products + tables)),
        "int4": (weight_only, exact_settings(bits=4), 1.0),
        "int4, float tables": (weight_only, exact_settings(bits=4, embeddings=False), products / (products + tables)),
        "half": (fp16, exact_settings(), 0.0),
    }
    assert quantized_coverage(exported / "model.onnx") == 0.0
    for name, (way, settings, coverage) in ways.items():
        way.write(exported / "model.onnx", tmp_path / "q.onnx", settings)
        assert quantized_coverage(tmp_path / "q.onnx") == pytest.approx(coverage), name
        assert len(weight_uses(optimized(tmp_path / "q.onnx"))) == tables + products, name


def test_inspection_shows_packed_weights_as_what_they_are(exported: Path, tmp_path: Path):
    (floats,) = inspect(exported / "model.onnx")
    two_axes = [weight for weight in floats.weights if len(weight.shape) == 2]
    for kind, bits, way in (("int4", 4, weight_only), ("int8", 8, weight_only), ("float16", 16, fp16)):
        way.write(exported / "model.onnx", tmp_path / "q.onnx", exact_settings(bits=min(bits, 8)))
        (found,) = inspect(tmp_path / "q.onnx")
        assert isinstance(found, Inspection)
        small = [weight for weight in found.weights if weight.type == kind]
        assert sorted(weight.parameters for weight in small) == sorted(weight.parameters for weight in two_axes)
        assert found.stored == floats.stored, "scales and codes' shapes are no parameters"
        assert found.called == floats.called
        for weight in small:  # 32 codes and half a float in each block
            scales = weight.parameters // 32 * 2 if bits < 16 else 0
            assert weight.size_bytes == weight.parameters * bits // 8 + scales
        assert {entry.part for entry in found.weights} == {entry.part for entry in floats.weights}
        assert set(found.by_type()) == {kind, "float32"}
