"""Graphs of one row of a fixed length: the same answers, all sizes known, and what accelerators would take of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from conftest import MAX_POSITIONS, exact_settings
from kinds import KINDS, export, make_model, rows
from onnx import TensorProto, helper, numpy_helper

from compressor.models.outputs import output_names
from compressor.quantization import dynamic_int8
from compressor.runtimes import RUNTIMES
from compressor.runtimes.onnx import fixed, partitions
from compressor.runtimes.onnx.rewrite import shapes_of

LENGTH = 32


@pytest.mark.parametrize(("family", "head"), [*KINDS, ("bert", "QuestionAnswering"), ("roberta", "MaskedLM")])
def test_every_kind_of_graph_keeps_its_answers_and_knows_its_sizes(family: str, head: str, tmp_path: Path):
    model = make_model(family, head)
    source, names = export(model, tmp_path), output_names(model)
    dynamic_int8.write(source, tmp_path / "q.onnx", exact_settings())
    # With known sizes ONNX Runtime fuses more: a value between two integers may be rounded the other way.
    for path, tolerance in ((source, 2e-5), (tmp_path / "q.onnx", 0.02)):
        target = tmp_path / "fixed.onnx"
        fixed.write(path, target, LENGTH)
        written = onnx.load(str(target))
        onnx.checker.check_model(written)
        assert (fixed.length_of(path), fixed.length_of(target)) == (None, LENGTH)
        assert all(None not in shape for shape in shapes_of(written).values()), "no size is free"
        assert not any(node.op_type == "Shape" for node in written.graph.node)
        free, session = (RUNTIMES["onnxruntime"].session(each, 1) for each in (path, target))
        for row in rows(model):
            more = LENGTH - row["input_ids"].shape[1]
            padded = {name: np.pad(value, ((0, 0), (0, more))) for name, value in row.items()}
            given, expected = session.predict(padded), free.predict(padded)
            for name in names:
                largest = max(1, np.abs(expected[name]).max())
                assert np.abs(given[name] - expected[name]).max() < tolerance * largest


def test_the_same_graph_gives_the_same_bytes(tmp_path: Path):
    source = export(make_model("bert"), tmp_path)
    for name in ("one", "two"):
        fixed.write(source, tmp_path / name, MAX_POSITIONS)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_pieces_are_counted_as_the_checker_counts_them(tmp_path: Path):
    """Two matrices with an operator between them that neither provider has."""
    matrix = helper.make_tensor("w", TensorProto.FLOAT, [4, 4], np.ones(16))
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("Mod", ["a", "w"], ["b"], fmod=1),
        helper.make_node("MatMul", ["b", "w"], ["y"]),
    ]
    ends = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, [4, 4])] for name in "xy"]
    model = helper.make_model(
        helper.make_graph(nodes, "g", *ends, [matrix]), opset_imports=[helper.make_opsetid("", 17)]
    )
    model.ir_version = 8
    onnx.save(model, str(tmp_path / "it.onnx"))
    expected = partitions.Taken(nodes=2, every=3, partitions=2, operators=("ai.onnx:Mod",))
    assert partitions.taken(tmp_path / "it.onnx") == {"nnapi": expected, "coreml": expected}


def test_a_fixed_length_is_what_makes_providers_take_a_graph(tmp_path: Path):
    source = export(make_model("bert"), tmp_path)
    fixed.write(source, tmp_path / "fixed.onnx", LENGTH)
    free, known = (partitions.taken(path)["coreml"] for path in (source, tmp_path / "fixed.onnx"))
    assert free.nodes / free.every < 0.1
    assert known.partitions == 1 and known.operators == ("ai.onnx:Gather",)
    assert known.every - known.nodes == 2, "the look-ups of words and segments; positions are known"


def test_masks_are_numbers_in_half_precision(tmp_path: Path):
    """Accelerators compute in it: the least float is infinite there, and infinity times 0 is no number."""
    fixed.write(export(make_model("bert"), tmp_path), tmp_path / "fixed.onnx", LENGTH)
    values = [numpy_helper.to_array(tensor) for tensor in onnx.load(str(tmp_path / "fixed.onnx")).graph.initializer]
    floats = [value for value in values if value.dtype == np.float32]
    assert floats and all(np.isfinite(value.astype(np.float16)).all() for value in floats)
