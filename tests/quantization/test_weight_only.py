"""Weight-only int4 and int8: sessions give what the stored integers give by hand, and nothing is stored twice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from kinds import KINDS, export, make_model, rows
from onnx import TensorProto, helper, numpy_helper

from compressor.models.block_rounding import block_size, round_rows
from compressor.package.inspection import inspect
from compressor.quantization import Settings, weight_matrices, weight_only
from compressor.runtimes import RUNTIMES
from compressor.runtimes.onnx import sharing
from compressor.runtimes.onnx.coverage import optimized, quantized_coverage

MINILM_WIDTH = 384


def unpacked(codes: np.ndarray, scales: np.ndarray, bits: int, size: int, width: int) -> np.ndarray:
    """Floats `(rows, width)` by the definition of the format, one code at a time."""
    codes = codes.reshape(len(codes), -1)
    found = np.zeros((len(codes), width), dtype=np.float32)
    for row in range(len(codes)):
        for place in range(width):
            byte = int(codes[row, place // 2 if bits == 4 else place])
            code = (byte >> 4 * (place % 2)) & 15 if bits == 4 else byte
            found[row, place] = (code - 2 ** (bits - 1)) * np.float32(scales[row, place // size])
    return found


def stored(path: Path, weight: str, bits: int, width: int) -> np.ndarray:
    """A weight of a file as floats, `(rows, width)`."""
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(str(path)).graph.initializer}
    codes, scales = constants[f"{weight}.codes"], constants[f"{weight}.scales.half"]
    assert (codes.dtype, scales.dtype) == (np.uint8, np.float16)
    return unpacked(codes, scales, bits, codes[0].size * 8 // bits // scales.shape[1], width)


def rounded_by_hand(source: Path, target: Path, bits: int) -> Path:
    """The float graph with the values that a quantized one has, in blocks of 16."""
    model = onnx.load(str(source))
    sharing.merge(model)
    tables = {matrix.weight: matrix.table for matrix in weight_matrices.find(model)}
    for tensor in model.graph.initializer:
        if tensor.name in tables:
            value = numpy_helper.to_array(tensor)
            found = round_rows(value if tables[tensor.name] else value.T, bits, 16)
            value = unpacked(found.codes, found.scales, bits, 16, found.width)
            value = value if tables[tensor.name] else np.ascontiguousarray(value.T)
            tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    onnx.save(model, str(target))
    return target


def rounded_activations(x: np.ndarray, size: int) -> np.ndarray:
    """What MatMulNBits makes of `(rows, width)` where it may round: int8, a scale for each block of each row."""
    blocks = np.pad(x, ((0, 0), (0, -x.shape[1] % size))).reshape(len(x), -1, size)
    scale = np.abs(blocks).max(axis=-1, keepdims=True) / 127
    rounded = np.rint(blocks / np.where(scale == 0, 1, scale)) * scale
    return rounded.reshape(len(x), -1)[:, : x.shape[1]]


def save(path: Path, nodes: list[onnx.NodeProto], sizes: dict[str, int], constants: dict[str, np.ndarray]) -> Path:
    """A graph from `x`, or from `ids`, to `y`."""
    kinds = {"ids": TensorProto.INT64}
    values = {
        name: helper.make_tensor_value_info(
            name, kinds.get(name, TensorProto.FLOAT), ["n", size][: 2 - (name in kinds)]
        )
        for name, size in sizes.items()
    }
    result = values.pop("y")
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "g", list(values.values()), [result], initializers)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(path))
    return path


def test_values_on_the_grid_are_kept_exactly():
    grid = np.arange(-8, 8, dtype=np.float32) / 2
    values = np.stack([grid, -grid, np.zeros(16, np.float32), grid / 64])
    found = round_rows(values, 4, 16)
    assert found.scales.ravel().tolist() == [0.5, -0.5, 1.0, 0.5 / 64], "the largest in magnitude is -8 scales"
    assert found.codes[0, 0].tolist() == [0x10, 0x32, 0x54, 0x76, 0x98, 0xBA, 0xDC, 0xFE], "first code in the low half"
    assert np.array_equal(unpacked(found.codes, found.scales, 4, 16, 16), values)


@pytest.mark.parametrize("bits", [4, 8])
def test_rounding_beats_round_to_nearest(bits: int):
    values = np.random.default_rng(0).normal(size=(40, 64)).astype(np.float32)
    found = round_rows(values, bits, 32)
    blocks, limit = values.reshape(40, 2, 32), 2 ** (bits - 1) - 1
    scale = np.abs(blocks).max(axis=-1, keepdims=True) / limit
    nearest = (np.rint(blocks / scale) * scale).reshape(values.shape)
    ours = unpacked(found.codes, found.scales, bits, 32, 64)
    ratio = np.square(ours - values).sum() / np.square(nearest - values).sum()
    assert ratio < (0.75 if bits == 4 else 1.0)


def test_the_extremes_of_half_precision():
    tiny, large = np.full((1, 16), 1e-9, np.float32), np.full((1, 16), -65504, np.float32)
    for values in (tiny, large):
        found = round_rows(values, 4, 16)
        assert np.abs(unpacked(found.codes, found.scales, 4, 16, 16) - values).max() <= max(1e-9, 65504 * 2e-3)


def test_blocks_are_smaller_where_that_takes_less():
    assert block_size(MINILM_WIDTH, 128, 4) == 128
    assert block_size(MINILM_WIDTH, 32, 4) == 32, "never larger than asked for"
    assert block_size(312, 128, 4) == 64, "312 is 4.875 times 64; with 128, 384 would be stored"
    assert block_size(10, 128, 8) == 16


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize(("width", "size"), [(64, 32), (64, 128), (33, 16), (200, 64), (7, 32)])
@pytest.mark.parametrize("operator", ["MatMul", "Gemm"])
def test_a_product_is_that_of_the_stored_integers(operator: str, width: int, size: int, bits: int, tmp_path: Path):
    random = np.random.default_rng(0)
    weight, bias, x = (random.normal(size=s).astype(np.float32) for s in ((width, 5), (5,), (3, width)))
    gemm = operator == "Gemm"
    node = helper.make_node(operator, ["x", "w", *["c"] * gemm], ["y"], name="/model/dense/op")
    source = save(tmp_path / "float.onnx", [node], {"x": width, "y": 5}, {"w": weight, **({"c": bias} if gemm else {})})
    weight_only.write(source, tmp_path / "q.onnx", Settings(bits=bits, block_size=size))
    given = RUNTIMES["onnxruntime"].session(tmp_path / "q.onnx", 1).predict({"x": x})["y"] - (bias if gemm else 0)
    known = stored(tmp_path / "q.onnx", "w", bits, width).T
    assert np.abs(known - weight).max() < np.abs(weight).max() * (0.08 if bits == 4 else 0.006)
    expected = rounded_activations(x, block_size(width, size, bits)) @ known
    assert np.abs(given - expected).max() < 1e-5 * np.abs(expected).max()
    assert np.abs(given - x @ known).max() > 1e-4, "the runtime multiplies integers"
    assert quantized_coverage(tmp_path / "q.onnx") == 1.0


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("width", [64, 34, 33])
def test_looked_up_rows_are_those_of_the_stored_integers(width: int, bits: int, tmp_path: Path):
    table = np.random.default_rng(0).normal(size=(50, width)).astype(np.float32)
    node = helper.make_node("Gather", ["t", "ids"], ["y"], name="/model/words/Gather")
    source = save(tmp_path / "float.onnx", [node], {"ids": 1, "y": width}, {"t": table})
    weight_only.write(source, tmp_path / "q.onnx", Settings(bits=bits))
    ids = np.array([49, 0, 7, 7])
    given = RUNTIMES["onnxruntime"].session(tmp_path / "q.onnx", 1).predict({"ids": ids})["y"]
    assert np.array_equal(given, stored(tmp_path / "q.onnx", "t", bits, width)[ids])
    assert np.abs(given - table[ids]).max() < np.abs(table).max() * (0.08 if bits == 4 else 0.006)


def test_a_product_that_is_scaled_stays_float(tmp_path: Path):
    weight = np.ones((16, 4), np.float32)
    node = helper.make_node("Gemm", ["x", "w"], ["y"], name="/model/dense/Gemm", alpha=2.0)
    source = save(tmp_path / "float.onnx", [node], {"x": 16, "y": 4}, {"w": weight})
    weight_only.write(source, tmp_path / "q.onnx", Settings())
    given = RUNTIMES["onnxruntime"].session(tmp_path / "q.onnx", 1).predict({"x": np.ones((1, 16), np.float32)})["y"]
    assert given.tolist() == [[32.0] * 4]


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize(("family", "head"), KINDS)
def test_every_kind_of_model_answers_alike_and_stores_each_weight_once(
    family: str, head: str, bits: int, tmp_path: Path
):
    model = make_model(family, head)
    source, target = export(model, tmp_path), tmp_path / "q.onnx"
    weight_only.write(source, target, Settings(bits=bits, block_size=16))
    assert quantized_coverage(target) == 1.0
    by_hand = rounded_by_hand(source, tmp_path / "rounded.onnx", bits)
    floats, integers = (RUNTIMES["onnxruntime"].session(path, 1) for path in (by_hand, target))
    answers = [(floats.predict(inputs)["logits"], integers.predict(inputs)["logits"]) for inputs in rows(model)]
    expected, given = (np.concatenate([pair[side].ravel() for pair in answers]) for side in (0, 1))
    assert expected @ given > 0.999 * np.linalg.norm(expected) * np.linalg.norm(given), "only activations differ"
    (found,) = inspect(target)
    weights = [weight for weight in found.weights if weight.type == f"int{bits}"]
    parameters = {id(value): value for value in model.parameters() if value.ndim == 2}
    assert sum(weight.parameters for weight in weights) == sum(value.numel() for value in parameters.values())
    assert not [weight for weight in found.weights if weight.type.startswith("float") and len(weight.shape) == 2]
    # 16 codes and half a float in each block
    blocks = sum(-(-value.shape[1] // 16) * value.shape[0] for value in parameters.values())
    assert sum(weight.size_bytes for weight in weights) == blocks * (2 * bits + 2)


def test_nothing_is_expanded_when_the_file_is_loaded(tmp_path: Path):
    model = make_model("bert", "MaskedLM")
    weight_only.write(export(model, tmp_path), tmp_path / "q.onnx", Settings(bits=4))
    graph = optimized(tmp_path / "q.onnx").graph
    floats = [t for t in graph.initializer if t.data_type in (TensorProto.FLOAT, TensorProto.FLOAT16)]
    assert max(int(np.prod(tensor.dims)) for tensor in floats) <= 92 * 32 / 16, "scales and biases"
    operators = {node.op_type for node in graph.node}
    assert {"MatMulNBits", "GatherBlockQuantized"} <= operators and not {"DequantizeLinear", "Gemm"} & operators


@pytest.mark.parametrize("family", ["bert", "albert"])
def test_what_is_to_stay_float_does_and_is_stored_once(family: str, tmp_path: Path):
    model = make_model(family, "MaskedLM")
    source = export(model, tmp_path)
    whole = onnx.load(str(source))
    sharing.merge(whole)
    matrix = next(entry for entry in weight_matrices.find(whole) if entry.name.endswith("query"))
    words = ("*word_embeddings", "*decoder")
    weight_only.write(source, tmp_path / "q.onnx", Settings(keep_float=(*words, matrix.name)))
    kept = onnx.load(str(tmp_path / "q.onnx"))
    two_axes = [t for t in kept.graph.initializer if len(t.dims) == 2 and t.data_type == TensorProto.FLOAT]
    table = model.get_input_embeddings().weight.numel()
    assert sorted(int(np.prod(t.dims)) for t in two_axes) == sorted([matrix.elements, table])
    assert 0 < quantized_coverage(tmp_path / "q.onnx") < 1


def test_without_embeddings_only_products_are_small(tmp_path: Path):
    weight_only.write(export(make_model("distilbert"), tmp_path), tmp_path / "q.onnx", Settings(embeddings=False))
    assert {matrix.table for matrix in weight_matrices.find(onnx.load(str(tmp_path / "q.onnx")))} == {True}


def test_writing_twice_gives_the_same_bytes(tmp_path: Path):
    source = export(make_model("albert", "MaskedLM"), tmp_path)
    for name in ("a.onnx", "b.onnx"):
        weight_only.write(source, tmp_path / name, Settings(bits=4))
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    onnx.checker.check_model(onnx.load(str(tmp_path / "a.onnx")))


def test_it_runs_without_the_runtimes_optimisation(tmp_path: Path):
    """Its products then are of floats: they read codes and scales that are no constants yet."""
    model = make_model("bert", "MaskedLM")
    weight_only.write(export(model, tmp_path), tmp_path / "q.onnx", Settings(bits=4))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    plain = onnxruntime.InferenceSession(str(tmp_path / "q.onnx"), options)
    session = RUNTIMES["onnxruntime"].session(tmp_path / "q.onnx", 1)
    for inputs in rows(model):
        (given,) = plain.run(["logits"], inputs)
        expected = session.predict(inputs)["logits"]
        assert np.abs(given - expected).max() < 0.05 * np.abs(expected).max()
