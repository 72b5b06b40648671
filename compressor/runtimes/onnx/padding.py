"""Padding that moves no answers of a graph that finds the ranges of its activations as it runs."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper, shape_inference

from compressor.runtimes.onnx.rewrite import attribute, constants_of

_MASK = "attention_mask"
_THERE = f"{_MASK}.there"


def repeat_first_token(model: onnx.ModelProto) -> int:
    """Makes padded positions copies of the first position of their row, in place.

    DynamicQuantizeLinear takes one range over all positions of a batch, padded ones too: the longer the padding, the
    coarser the steps, and other answers. A copy is in the range already. What a padded position looks up in the tables
    (word, position, segment) is made what the first one looks up. Attention does not see padded positions and all else
    treats positions apart, so that copies stay copies through all layers.

    That costs a few operators on integers, once; to set padded activations to zero before each range would cost a
    product of each. Rows without padding keep their answers. Rows of one batch still share their ranges.

    Returns:
        How many look-ups there were.
    """
    graph = model.graph
    inputs = {value.name for value in graph.input}
    if _MASK not in inputs:
        return 0
    constants = constants_of(graph)
    # Words and segments are inputs or computed of them; positions may be cut from a row that all rows of a batch share.
    of_tokens = _like_tokens(model) | {
        node.output[0]
        for node in graph.node
        if node.op_type == "Slice" and node.input[0] in constants and constants[node.input[0]].shape[:-1] == (1,)
    }
    nodes: list[onnx.NodeProto] = []
    chosen: dict[str, str] = {}
    found = 0
    for node in graph.node:
        looks_up = node.op_type == "Gather" and attribute(node, "axis", 0) == 0 and node.input[0] in constants
        if looks_up and node.input[1] in of_tokens:
            index = node.input[1]
            if index not in chosen:
                chosen[index] = f"{index}.unpadded"
                nodes += _selection(index, chosen[index])
            node.input[1] = chosen[index]
            found += 1
        nodes.append(node)
    if found:
        there = helper.make_node("Cast", [_MASK], [_THERE], name=_THERE, to=onnx.TensorProto.BOOL)
        bounds = {"start": 0, "end": 1, "axis": 1}
        graph.initializer.extend(
            numpy_helper.from_array(np.array([value], dtype=np.int64), f"{_THERE}.{name}")
            for name, value in bounds.items()
        )
        del graph.node[:]
        graph.node.extend([there, *nodes])
    return found


def _like_tokens(model: onnx.ModelProto) -> set[str]:
    """Names of all tensors that are `(batch, sequence)`, the inputs among them."""
    graph = shape_inference.infer_shapes(model).graph
    sizes = {
        value.name: [size.dim_param for size in value.type.tensor_type.shape.dim]
        for value in [*graph.input, *graph.value_info]
    }
    return {name for name, shape in sizes.items() if all(shape) and shape == sizes[_MASK]}


def _selection(index: str, result: str) -> list[onnx.NodeProto]:
    """Nodes that put a row's first index in the place of those that are padding."""
    bounds = [f"{_THERE}.{name}" for name in ("start", "end", "axis")]
    return [
        helper.make_node("Slice", [index, *bounds], [f"{result}.first"], name=f"{result}/Slice"),
        helper.make_node("Where", [_THERE, index, f"{result}.first"], [result], name=f"{result}/Where"),
    ]
