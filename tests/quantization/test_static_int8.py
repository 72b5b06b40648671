"""Static int8: QDQ graphs give what rounding by hand gives, and run as integers."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from conftest import exact_settings
from kinds import KINDS, export, make_model, rows
from onnx import TensorProto, helper, numpy_helper

from compressor.quantization import calibration, rounding, static_int8, weight_matrices
from compressor.quantization.spec import CalibrationSpec
from compressor.runtimes import RUNTIMES
from compressor.runtimes.onnx import sharing
from compressor.runtimes.onnx.coverage import quantized_coverage

MIN_MAX = CalibrationSpec()


def matmul(weight: np.ndarray, bias: np.ndarray | None = None) -> onnx.ModelProto:
    """One product, as a graph; with a bias, a Gemm."""
    inputs = ["x", "w", *(["c"] if bias is not None else [])]
    node = helper.make_node("MatMul" if bias is None else "Gemm", inputs, ["y"], name="/model/dense/MatMul")
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", weight.shape[0]])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", weight.shape[1]])],
        [numpy_helper.from_array(value, name) for name, value in (("w", weight), ("c", bias)) if value is not None],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def test_weights_round_as_by_hand():
    values = np.array([[1.0, 0.0, -5.08], [-0.5, 0.0, 2.54]], dtype=np.float32)
    integers, scales = rounding.weights(values, axis=1)
    assert np.allclose(scales, [1 / 127, 1.0, 0.04])
    assert integers.tolist() == [[127, 0, -127], [-64, 0, 64]], "63.5 rounds to the even neighbour"
    narrow, scale = rounding.weights(values, axis=None, reduce_range=True)
    assert np.isclose(scale, 5.08 / 63)
    assert np.abs(narrow).max() == 63


def test_activations_round_so_that_zero_is_exact():
    scale, zero_point = rounding.activation(-1.0, 4.1)
    assert np.isclose(scale, 0.02)
    assert zero_point == 50
    assert rounding.activation(0.5, 2.55) == (np.float32(0.01), 0), "the range reaches down to 0"
    assert rounding.activation(0.0, 0.0) == (1, 0)


@pytest.mark.parametrize("bias", [None, np.array([0.3, -0.2, 0.1], dtype=np.float32)])
@pytest.mark.parametrize("per_channel", [True, False])
def test_a_product_is_that_of_the_rounded_values(bias: np.ndarray | None, per_channel: bool, tmp_path: Path):
    random = np.random.default_rng(0)
    weight = random.normal(size=(16, 3)).astype(np.float32)
    onnx.save(matmul(weight, bias), str(tmp_path / "float.onnx"))
    settings = exact_settings(per_channel=per_channel)
    static_int8.write(tmp_path / "float.onnx", tmp_path / "q.onnx", settings, {"dense": (-2, 3)})
    x = random.normal(size=(5, 16)).astype(np.float32)
    x[0, 0], x[1, 1] = 9.0, -9.0  # outside of the range: clipped
    integers, scales = rounding.weights(weight, 1 if per_channel else None, settings.reduce_range)
    scale, zero = rounding.activation(-2, 3)
    rounded = (np.clip(np.rint(x / scale) + zero, 0, 255) - zero) * scale
    expected = rounded @ (integers * scales)
    if bias is not None:
        expected = expected + np.rint(bias / (scale * scales)) * (scale * scales)
    given = RUNTIMES["onnxruntime"].session(tmp_path / "q.onnx", 1).predict({"x": x})["y"]
    assert np.abs(given - expected).max() < 1e-5
    assert quantized_coverage(tmp_path / "q.onnx") == 1.0, "in integers, not in floats that were integers once"


@pytest.mark.parametrize("size", [0.0, 1e-12])
def test_a_bias_that_integers_cannot_hold_is_added_as_it_is(size: float, tmp_path: Path):
    """The steps of a channel without weights are too large for it, those of tiny weights too small."""
    random = np.random.default_rng(0)
    weight, bias = random.normal(size=(16, 3)).astype(np.float32), np.array([0.3, 0.0123, 0.1], dtype=np.float32)
    weight[:, 1] *= size
    onnx.save(matmul(weight, bias), str(tmp_path / "float.onnx"))
    static_int8.write(tmp_path / "float.onnx", tmp_path / "q.onnx", exact_settings(), {"dense": (-4, 4)})
    x = random.normal(size=(5, 16)).astype(np.float32)
    given = RUNTIMES["onnxruntime"].session(tmp_path / "q.onnx", 1).predict({"x": x})["y"]
    assert np.abs(given[:, 1] - 0.0123).max() < 1e-6
    assert np.abs(given - (x @ weight + bias)).max() < 0.2
    assert quantized_coverage(tmp_path / "q.onnx") == 1.0


@pytest.mark.parametrize(("family", "head"), KINDS)
def test_every_kind_of_model_runs_as_integers_and_answers_alike(family: str, head: str, tmp_path: Path):
    model = make_model(family, head)
    source, target = export(model, tmp_path), tmp_path / "q.onnx"
    static_int8.write(source, target, exact_settings(), calibration.ranges(source, rows(model), MIN_MAX))
    assert quantized_coverage(target) == 1.0
    floats, integers = (RUNTIMES["onnxruntime"].session(path, 1) for path in (source, target))
    answers = [(floats.predict(inputs)["logits"], integers.predict(inputs)["logits"]) for inputs in rows(model)]
    expected, given = (np.concatenate([pair[side].ravel() for pair in answers]) for side in (0, 1))
    assert not np.array_equal(expected, given)
    assert expected @ given > 0.97 * np.linalg.norm(expected) * np.linalg.norm(given)


@pytest.mark.parametrize("family", ["bert", "albert"])
def test_what_is_shared_stays_shared(family: str, tmp_path: Path):
    model = make_model(family, "MaskedLM")
    source, target = export(model, tmp_path), tmp_path / "q.onnx"
    static_int8.write(source, target, exact_settings(), calibration.ranges(source, rows(model), MIN_MAX))
    stored = sum(
        np.prod(tensor.dims)
        for tensor in onnx.load(str(target)).graph.initializer
        if len(tensor.dims) == 2 and tensor.data_type == TensorProto.INT8
    )
    parameters = {id(value): value.numel() for value in model.parameters() if value.ndim == 2}
    assert stored == sum(parameters.values())


def test_what_is_to_stay_float_does(tmp_path: Path):
    model = make_model("bert")
    source, target = export(model, tmp_path), tmp_path / "q.onnx"
    ranges = calibration.ranges(source, rows(model), MIN_MAX)
    settings = exact_settings(keep_float=("*.layer.1.*", "bert.embeddings.word_embeddings"))
    static_int8.write(source, target, settings, ranges)
    graph = onnx.load(str(target))
    kept = {matrix.name for matrix in weight_matrices.find(graph)}
    assert kept == {name for name in ranges if ".layer.1." in name} | {"bert.embeddings.word_embeddings"}
    every = len(ranges) + 3
    assert quantized_coverage(target) == pytest.approx(1 - len(kept) / every)


def test_without_embeddings_the_tables_stay_float(tmp_path: Path):
    model = make_model("bert")
    source, target = export(model, tmp_path), tmp_path / "q.onnx"
    static_int8.write(
        source, target, exact_settings(embeddings=False), calibration.ranges(source, rows(model), MIN_MAX)
    )
    assert {matrix.table for matrix in weight_matrices.find(onnx.load(str(target)))} == {True}


def test_writing_twice_gives_the_same_bytes(tmp_path: Path):
    model = make_model("distilbert")
    source = export(model, tmp_path)
    for name in ("a.onnx", "b.onnx"):
        static_int8.write(source, tmp_path / name, exact_settings(), calibration.ranges(source, rows(model), MIN_MAX))
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_matrices_have_the_names_of_their_modules(tmp_path: Path):
    for family, head in KINDS:
        model = make_model(family, head)
        (tmp_path / family / head).mkdir(parents=True)
        graph = onnx.load(str(export(model, tmp_path / family / head)))
        sharing.merge(graph)
        modules = dict(model.named_modules())
        found = weight_matrices.find(graph)
        assert all(matrix.name in modules for matrix in found), [matrix.name for matrix in found]
        assert Counter(matrix.name for matrix in found).most_common(1)[0][1] == 1
        for matrix in found:
            assert matrix.elements == modules[matrix.name].weight.numel()
