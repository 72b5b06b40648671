"""Products that are clipped on x86 without VNNI: found in a file, held against sums that are worked out by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from conftest import SATURATES
from onnx import TensorProto, helper, numpy_helper

from compressor.commands import main
from compressor.measure import formats
from compressor.quantization import dynamic_int8, static_int8, weight_only
from compressor.quantization.base import Settings
from compressor.runtimes import RUNTIMES
from compressor.runtimes.onnx import saturation
from compressor.runtimes.ort import runtime as ort
from compressor.runtimes.shipped import Format

INPUTS, OUTPUTS = 64, 32
TYPES = {np.dtype(np.float32): TensorProto.FLOAT, np.dtype(np.uint8): TensorProto.UINT8}
ONE, ZERO, ZERO_S = np.float32(1), np.uint8(0), np.int8(0)


def save(path: Path, x: np.ndarray, constants: dict[str, Any], *nodes: tuple[str, list[str], str], y: int) -> Path:
    """A graph from `x` to `y`; operators that ONNX lacks are ONNX Runtime's."""
    ours = ("MatMulIntegerToFloat", "DynamicQuantizeMatMul", "QGemm")
    made = [
        helper.make_node(kind, inputs, [output], domain="com.microsoft" if kind in ours else "")
        for kind, inputs, output in nodes
    ]
    graph = helper.make_graph(
        made,
        "g",
        [helper.make_tensor_value_info("x", TYPES[x.dtype], list(x.shape))],
        [helper.make_tensor_value_info("y", y, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    domains = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=domains, ir_version=8), str(path))
    return path


def matrix(largest: int, kind: type = np.int8) -> np.ndarray:
    """Small weights, but for a first column of the largest. `(INPUTS, OUTPUTS)`."""
    weights = np.random.default_rng(0).integers(-3, 4, (INPUTS, OUTPUTS)).astype(kind)
    weights[:, 0] = largest
    return weights


BRIGHT = np.full((2, INPUTS), 255, dtype=np.uint8)


@pytest.mark.parametrize(
    ("largest", "exact", "clipped"),
    [
        (63, 1_028_160, 1_028_160),  # 64 products of 255 * 63
        (64, 1_044_480, 1_044_480),  # pairs of 32,640, which fit into 16 bits
        (65, 1_060_800, 1_048_544),  # 32 pairs of 33,150, of which 32,767 are left
        (127, 2_072_640, 1_048_544),
        (-127, -2_072_640, -1_048_576),
    ],
)
def test_sums_are_exact_here_or_clipped_as_is_said_of_the_file(largest: int, exact: int, clipped: int, tmp_path: Path):
    node = ("MatMulInteger", ["x", "w"], "y")
    path = save(tmp_path / "m.onnx", BRIGHT, {"w": matrix(largest)}, node, y=TensorProto.INT32)
    given = RUNTIMES["onnxruntime"].session(path, 1).predict({"x": BRIGHT})["y"][:, 0]
    assert given.tolist() == [clipped if SATURATES else exact] * 2
    assert bool(saturation.of_file(path)) == (clipped != exact)


SCALES = {"s": ONE, "z": ZERO, "zw": ZERO_S}
PRODUCTS = {
    "MatMulInteger": (["x", "w"], np.uint8, TensorProto.INT32),
    "MatMulIntegerToFloat": (["x", "w", "s", "s"], np.uint8, TensorProto.FLOAT),
    "DynamicQuantizeMatMul": (["x", "w", "s"], np.float32, TensorProto.FLOAT),
    "QLinearMatMul": (["x", "s", "z", "w", "s", "zw", "s", "z"], np.uint8, TensorProto.UINT8),
    "QGemm": (["x", "s", "z", "w", "s", "zw"], np.uint8, TensorProto.FLOAT),
}


@pytest.mark.parametrize("kind", PRODUCTS)
def test_every_integer_product_is_found(kind: str, tmp_path: Path):
    inputs, x, y = PRODUCTS[kind]
    for largest in (64, 65):
        constants = {name: value for name, value in SCALES.items() if name in inputs}
        path = tmp_path / f"{largest}.onnx"
        save(path, BRIGHT.astype(x), {**constants, "w": matrix(largest)}, (kind, inputs, "y"), y=y)
    assert saturation.of_file(tmp_path / "64.onnx") == {}
    found = saturation.of_file(tmp_path / "65.onnx")
    assert (found["operators"], found["largest_weight"]) == ({kind: 1}, 65)
    assert "no VNNI" in found["processors"]


def test_weights_in_uint8_and_tables_are_exact(tmp_path: Path):
    constants = {"w": matrix(255, np.uint8), "zw": np.uint8(128)}
    node = ("MatMulInteger", ["x", "w", "", "zw"], "y")
    assert saturation.of_file(save(tmp_path / "m.onnx", BRIGHT, constants, node, y=TensorProto.INT32)) == {}
    rows = [("Cast", ["x"], "y")]
    graph = onnx.load(str(save(tmp_path / "t.onnx", BRIGHT, {}, *rows, y=TensorProto.INT32))).graph
    graph.initializer.append(numpy_helper.from_array(matrix(127), "table"))
    graph.node.append(helper.make_node("Gather", ["table", "y"], ["z"]))
    assert saturation.saturation(graph) == {}


def test_a_weight_that_is_turned_before_its_product_is_found():
    graph = helper.make_graph(
        [
            helper.make_node("Transpose", ["w"], ["t"]),
            *(helper.make_node("MatMulInteger", ["x", "t"], [f"y{index}"]) for index in range(2)),
        ],
        "g",
        [],
        [],
        [numpy_helper.from_array(matrix(-128).T, "w")],
    )
    found = saturation.saturation(graph)
    assert (found["operators"], found["largest_weight"]) == ({"MatMulInteger": 2}, 128)


@pytest.fixture(scope="module")
def quantized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A product of floats, quantized in every way."""
    folder = tmp_path_factory.mktemp("quantized")
    x, weight = np.ones((2, INPUTS), np.float32), np.random.default_rng(1).normal(size=(INPUTS, OUTPUTS))
    node = ("MatMul", ["x", "w"], "y")
    float_file = save(folder / "float.onnx", x, {"w": weight.astype(np.float32)}, node, y=TensorProto.FLOAT)
    model = onnx.load(str(float_file))
    model.graph.node[0].name = "/model/dense/MatMul"
    onnx.save(model, str(float_file))
    for bits, reduced in ((7, True), (8, False)):
        settings = Settings(reduce_range=reduced)
        dynamic_int8.write(float_file, folder / f"dynamic{bits}.onnx", settings)
        static_int8.write(float_file, folder / f"static{bits}.onnx", settings, {"dense": (-2, 3)})
        ort.write(folder / f"dynamic{bits}.onnx", folder / f"dynamic{bits}.ort")
    weight_only.write(float_file, folder / "blocks8.onnx", Settings(bits=8, block_size=32))
    return folder


@pytest.mark.parametrize(
    ("name", "largest"),
    [
        ("float.onnx", None),
        ("dynamic7.onnx", None),
        ("dynamic8.onnx", 127),
        ("static7.onnx", None),
        ("static8.onnx", 127),  # QuantizeLinear and DequantizeLinear around a MatMul, which ONNX Runtime fuses
        ("dynamic7.ort", None),
        ("dynamic8.ort", 127),
        ("blocks8.onnx", None),  # the kernels of MatMulNBits do not add pairs in 16 bits
    ],
)
def test_files_of_every_scheme(quantized: Path, name: str, largest: int | None):
    runtime = "ort" if name.endswith(".ort") else "onnxruntime"
    entry = formats.described(Format("it", runtime, Path(name), "int8"), quantized / name)
    assert entry["saturation"].get("largest_weight") == largest
    given = CliRunner().invoke(main.main, ["inspect", str(quantized / name), "--json"])
    assert [found["saturation"] for found in json.loads(given.stdout)] == [entry["saturation"]]
    said = CliRunner().invoke(main.main, ["inspect", str(quantized / name)]).stdout
    assert ("saturates on x86" in said) == (largest is not None)
