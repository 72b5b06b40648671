"""Reading only the first token moves up through position-wise operators; it stops where something mixes or shares."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from compressor.runtimes.onnx.rewrite import (
    compute_first_token_only,
    inferred,
    keep_leading_sizes,
    outline,
    remove_unused,
    shapes_of,
)

FLOAT = TensorProto.FLOAT


def model(nodes: list[onnx.NodeProto], outputs: list[str], **constants: np.ndarray) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", FLOAT, ["b", "s", 4])],
        [helper.make_tensor_value_info(name, FLOAT, None) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def run(built: onnx.ModelProto, length: int = 5) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(built.SerializeToString())
    x = np.random.default_rng(0).normal(size=(3, length, 4)).astype(np.float32)
    return session.run(None, {"x": x})


WEIGHT = np.random.default_rng(1).normal(size=(4, 4)).astype(np.float32)
BIAS = np.arange(4, dtype=np.float32)
ZERO = np.array(0, dtype=np.int64)


def slices(built: onnx.ModelProto) -> list[str]:
    return [node.input[0] for node in built.graph.node if node.op_type == "Slice"]


def dense(source: str, target: str) -> list[onnx.NodeProto]:
    return [
        helper.make_node("MatMul", [source, "w"], [f"{target}.product"]),
        helper.make_node("Add", ["bias", f"{target}.product"], [target]),
    ]


FIRST = helper.make_node("Gather", ["y", "zero"], ["first"], axis=1)


def test_moves_up_to_the_input_through_dense_layers():
    built = model(
        [*dense("x", "h"), helper.make_node("Relu", ["h"], ["y"]), FIRST], ["first"], w=WEIGHT, bias=BIAS, zero=ZERO
    )
    before = run(built)
    compute_first_token_only(built)
    assert slices(built) == ["x"]
    assert np.array_equal(run(built)[0], before[0])


def test_stops_at_a_tensor_that_is_also_read_whole():
    nodes = [*dense("x", "h"), helper.make_node("Relu", ["h"], ["y"]), FIRST]
    built = model(
        [*nodes, helper.make_node("ReduceSum", ["h"], ["sum"])], ["first", "sum"], w=WEIGHT, bias=BIAS, zero=ZERO
    )
    before = run(built)
    compute_first_token_only(built)
    assert slices(built) == ["h"]
    assert all(np.array_equal(a, b) for a, b in zip(run(built), before, strict=True))


def test_a_graph_output_is_read_whole():
    nodes = [*dense("x", "h"), helper.make_node("Relu", ["h"], ["y"]), FIRST]
    built = model(nodes, ["first", "h"], w=WEIGHT, bias=BIAS, zero=ZERO)
    before = run(built)
    compute_first_token_only(built)
    assert slices(built) == ["h"]
    assert all(np.array_equal(a, b) for a, b in zip(run(built), before, strict=True))


@pytest.mark.parametrize(
    "mixing",
    [
        helper.make_node("Softmax", ["h"], ["y"], axis=1),
        helper.make_node("CumSum", ["h", "one"], ["y"]),
        helper.make_node("LayerNormalization", ["h", "scale"], ["y"], axis=1),
    ],
    ids=["softmax", "cumsum", "layernorm"],
)
def test_stops_at_what_mixes_positions(mixing: onnx.NodeProto):
    constants = {"w": WEIGHT, "bias": BIAS, "zero": ZERO, "one": np.array(1, np.int64)}
    if mixing.op_type == "LayerNormalization":
        constants["scale"] = np.ones((5, 4), np.float32)
    built = model([*dense("x", "h"), mixing, FIRST], ["first"], **constants)
    before = run(built)
    compute_first_token_only(built)
    assert slices(built) in ([], ["y"])
    assert np.array_equal(run(built)[0], before[0])


def test_broadcast_operands_are_left_whole():
    constants = {"w": WEIGHT, "bias": BIAS, "zero": ZERO, "row": np.ones((1, 1, 4), np.float32)}
    constants["positions"] = np.random.default_rng(2).normal(size=(1, 5, 4)).astype(np.float32)
    nodes = [
        *dense("x", "h"),
        helper.make_node("Mul", ["h", "row"], ["m"]),
        helper.make_node("Add", ["m", "positions"], ["y"]),
        FIRST,
    ]
    built = model(nodes, ["first"], **constants)
    before = run(built)
    compute_first_token_only(built)
    assert sorted(slices(built)) == ["positions", "x"]
    assert np.array_equal(run(built)[0], before[0])


def test_another_position_is_not_the_first():
    last = helper.make_node("Gather", ["y", "zero"], ["first"], axis=1)
    built = model([*dense("x", "y"), last], ["first"], w=WEIGHT, bias=BIAS, zero=np.array(2, dtype=np.int64))
    before = run(built)
    compute_first_token_only(built)
    assert not slices(built)
    assert np.array_equal(run(built)[0], before[0])


def test_reshape_copies_leading_sizes():
    nodes = [helper.make_node("Shape", ["x"], ["shape"])]
    for name, index in (("b", "zero"), ("s", "one")):
        nodes.append(helper.make_node("Gather", ["shape", index], [f"{name}0"], axis=0))
        nodes.append(helper.make_node("Unsqueeze", [f"{name}0", "axes"], [name]))
    nodes.append(helper.make_node("Concat", ["b", "s", "two", "two"], ["target"], axis=0))
    nodes.append(helper.make_node("Reshape", ["x", "target"], ["y"]))
    constants = {"zero": ZERO, "one": np.array(1, np.int64), "axes": np.array([0]), "two": np.array([2])}
    built = model(nodes, ["y"], **constants)
    before = run(built)
    keep_leading_sizes(built)
    assert [node.op_type for node in built.graph.node] == ["Reshape"]
    assert np.array_equal(run(built)[0], before[0])
    assert run(built, length=9)[0].shape == (3, 9, 2, 2)


def test_shapes_are_inferred_without_the_weights():
    large = np.random.default_rng(2).normal(size=(4, 4096)).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "large"], ["y"]),
        helper.make_node("Reshape", ["y", "sizes"], ["z"]),
    ]
    built = model(nodes, ["z"], large=large, sizes=np.array([0, 0, 64, 64]))
    before = built.SerializeToString()
    assert outline(built).ByteSize() < 1000
    found = inferred(built)
    assert [value.name for value in found.input] == ["x"]
    assert shapes_of(built)["y"] == [None, None, 4096]
    assert shapes_of(built)["z"] == [None, None, 64, 64]
    assert built.SerializeToString() == before


def test_constants_that_nothing_reads_are_dropped_and_the_others_stay_as_they_were():
    values = {name: np.full(3, number, dtype=np.float32) for number, name in enumerate("abcd")}
    built = model(
        [helper.make_node("Add", ["x", "b"], ["h"]), helper.make_node("Add", ["h", "d"], ["y"])], ["y"], **values
    )
    remove_unused(built.graph)
    kept = {tensor.name: numpy_helper.to_array(tensor).tolist() for tensor in built.graph.initializer}
    assert kept == {"b": [1.0] * 3, "d": [3.0] * 3}
