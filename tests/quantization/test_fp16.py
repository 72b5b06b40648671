"""fp16: half the file, the same answers, on any CPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from kinds import KINDS, export, make_model, rows
from onnx import TensorProto, numpy_helper

from compressor.package.inspection import inspect
from compressor.quantization import Settings, fp16, weight_matrices
from compressor.runtimes import RUNTIMES
from compressor.runtimes.onnx import sharing
from compressor.runtimes.onnx.coverage import optimized, quantized_coverage


def rounded_by_hand(source: Path, target: Path) -> Path:
    """The float graph with every weight matrix rounded to half precision and back."""
    model = onnx.load(str(source))
    sharing.merge(model)
    names = {matrix.weight for matrix in weight_matrices.find(model)}
    for tensor in model.graph.initializer:
        if tensor.name in names:
            value = numpy_helper.to_array(tensor).astype(np.float16).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    onnx.save(model, str(target))
    return target


@pytest.mark.parametrize(("family", "head"), KINDS)
def test_every_kind_of_model_gives_what_its_rounded_weights_give(family: str, head: str, tmp_path: Path):
    model = make_model(family, head)
    source, target = export(model, tmp_path), tmp_path / "half.onnx"
    fp16.write(source, target, Settings())
    paths = (source, rounded_by_hand(source, tmp_path / "rounded.onnx"), target)
    floats, expected, given = (RUNTIMES["onnxruntime"].session(path, 1) for path in paths)
    for inputs in rows(model):
        wanted, found = expected.predict(inputs)["logits"], given.predict(inputs)["logits"]
        assert found.dtype == np.float32
        assert np.abs(found - wanted).max() < 1e-5 * max(1, np.abs(wanted).max())
        assert 0 < np.abs(found - floats.predict(inputs)["logits"]).max() < 0.02 * max(1, np.abs(wanted).max())
    (inspection,) = inspect(target)
    halves = [weight for weight in inspection.weights if weight.type == "float16"]
    parameters = {id(value): value.numel() for value in model.parameters() if value.ndim == 2}
    assert sum(weight.parameters for weight in halves) == sum(parameters.values()), "each is stored once"
    assert sum(weight.size_bytes for weight in halves) == 2 * sum(parameters.values())
    assert quantized_coverage(target) == 0.0


def test_products_run_in_float_and_tables_stay_half(tmp_path: Path):
    fp16.write(export(make_model("bert"), tmp_path), tmp_path / "half.onnx", Settings())
    graph = optimized(tmp_path / "half.onnx").graph
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    products = [node.input[1] for node in graph.node if node.op_type in ("MatMul", "Gemm", "FusedMatMul", "FusedGemm")]
    assert {types[name] for name in products if name in types} == {TensorProto.FLOAT}
    tables = [node.input[0] for node in graph.node if node.op_type == "Gather" and node.input[0] in types]
    tables = [name for name in tables if types[name] != TensorProto.INT64]
    assert len(tables) == 3 and {types[name] for name in tables} == {TensorProto.FLOAT16}
    casts = [node for node in graph.node if node.op_type == "Cast" and ".half" in node.input[0]]
    assert len(casts) == 3, "of the looked-up rows; those of matrices are done when the file is loaded"


def test_what_is_to_stay_float_does(tmp_path: Path):
    source = export(make_model("bert"), tmp_path)
    fp16.write(source, tmp_path / "half.onnx", Settings(keep_float=("*.layer.1.*",), embeddings=False))
    kept = onnx.load(str(tmp_path / "half.onnx"))
    assert {m.name.split(".")[3] for m in weight_matrices.find(kept) if not m.table} == {"1"}
    assert sum(matrix.table for matrix in weight_matrices.find(kept)) == 3


def test_what_half_precision_cannot_hold_stays_float(tmp_path: Path):
    source = export(make_model("bert"), tmp_path)
    model = onnx.load(str(source))
    matrix = next(entry for entry in weight_matrices.find(model) if entry.name.endswith("layer.0.intermediate.dense"))
    tensor = next(entry for entry in model.graph.initializer if entry.name == matrix.weight)
    value = numpy_helper.to_array(tensor).copy()
    value[0, 0] = 70_000
    tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    onnx.save(model, str(source))
    fp16.write(source, tmp_path / "half.onnx", Settings())
    assert [entry.name for entry in weight_matrices.find(onnx.load(str(tmp_path / "half.onnx")))] == [matrix.name]


def test_writing_twice_gives_the_same_bytes(tmp_path: Path):
    source = export(make_model("albert", "MaskedLM"), tmp_path)
    for name in ("a.onnx", "b.onnx"):
        fp16.write(source, tmp_path / name, Settings())
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
