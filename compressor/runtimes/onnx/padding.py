"""Padding that moves no answers of a graph that finds the ranges of its activations as it runs."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper, shape_inference

from compressor.runtimes.onnx.rewrite import attribute, constants_of, inferred, outline, remove_unused

_MASK = "attention_mask"
_THERE = f"{_MASK}.there"
_EXAMPLE = (100_003, 7)
"""Rows and tokens of an example; no table has so many rows."""
_INTEGERS = (onnx.TensorProto.INT64, onnx.TensorProto.INT32, onnx.TensorProto.BOOL)


def keep_out(model: onnx.ModelProto) -> None:
    """Keeps padded positions out of the ranges that DynamicQuantizeLinear finds, in place.

    It takes one range over all positions of a batch, padded ones too: the longer the padding, the coarser the steps,
    and other answers. Rows without padding keep their answers. Rows of one batch still share their ranges.
    """
    if _tells_places_apart(model):
        zero_products(model)
    else:
        repeat_first_token(model)


def _tells_places_apart(model: onnx.ModelProto) -> bool:
    """Whether attention knows where a token is, besides by what was added to it before the first layer.

    Such graphs have the distance of each two tokens, as an integer, or turn queries and keys by an angle.
    """
    graph = inferred(model)
    length = next((_sizes(value)[-1] for value in graph.input if value.name == _MASK), "")
    pairs = any(
        value.type.tensor_type.elem_type in _INTEGERS and _sizes(value).count(length) > 1 for value in graph.value_info
    )
    return bool(length and pairs) or any(node.op_type == "Cos" for node in graph.node)


def _sizes(value: onnx.ValueInfoProto) -> list[str]:
    """Names of the free sizes of a tensor, empty for those that are fixed."""
    return [size.dim_param for size in value.type.tensor_type.shape.dim]


def zero_products(model: onnx.ModelProto) -> int:
    """Makes padded positions zero, which is in every range, in all that is multiplied with a weight, in place.

    All but the first of a row: where that is padding, classifiers read it all the same.

    That is a selection of floats for each input of products. Where copies of a position stay copies,
    `repeat_first_token` costs less.

    Returns:
        How many inputs there were.
    """
    graph = model.graph
    constants = constants_of(graph)
    if _MASK not in {value.name for value in graph.input}:
        return 0
    shapes = _shapes_of_example(model)
    nodes: list[onnx.NodeProto] = []
    found: dict[str, str] = {}
    for node in graph.node:
        source = node.input[0] if node.op_type in ("MatMul", "Gemm") and node.input[1] in constants else ""
        leading = shapes.get(source, ())[:-1]  # others, such as what a pooler takes, are of first tokens alone
        if leading in (_EXAMPLE, (_EXAMPLE[0] * _EXAMPLE[1],)):
            if source not in found:
                found[source] = f"{source}.there"
                inputs = [f"{_THERE}.{'tokens' if leading == _EXAMPLE else 'rows'}", source, f"{_THERE}.zero"]
                nodes.append(helper.make_node("Where", inputs, [found[source]], name=f"{source}/there"))
            node.input[0] = found[source]
        nodes.append(node)
    if found:
        constant = {"column": np.array([-1, 1]), "axis": np.array([2]), "zero": np.array(0, np.float32)}
        constant |= {"start": np.array([0]), "one": np.array([1]), "end": np.array([np.iinfo(np.int64).max])}
        graph.initializer.extend(numpy_helper.from_array(value, f"{_THERE}.{name}") for name, value in constant.items())
        start, one, end = (f"{_THERE}.{name}" for name in ("start", "one", "end"))
        steps = [
            ("Slice", [_MASK, start, one, one], "first"),
            ("Equal", [f"{_THERE}.first"] * 2, "true"),
            ("Slice", [_MASK, one, end, one], "rest"),
            ("Cast", [f"{_THERE}.rest"], "others"),
            ("Concat", [f"{_THERE}.true", f"{_THERE}.others"], "all"),
            ("Reshape", [f"{_THERE}.all", f"{_THERE}.column"], "rows"),
            ("Unsqueeze", [f"{_THERE}.all", f"{_THERE}.axis"], "tokens"),
        ]
        options: dict[str, dict[str, int]] = {"Cast": {"to": onnx.TensorProto.BOOL}, "Concat": {"axis": 1}}
        there = [
            helper.make_node(kind, inputs, [f"{_THERE}.{name}"], name=f"{_THERE}/{name}", **options.get(kind, {}))
            for kind, inputs, name in steps
        ]
        del graph.node[:]
        graph.node.extend([*there, *nodes])
        remove_unused(graph)
    return len(found)


def _shapes_of_example(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """Shapes of all tensors for inputs of `_EXAMPLE`: with free sizes, what tokens became rows of is not known."""
    example = outline(model)
    given = {value.name for value in model.graph.input}
    for value in (value for value in example.graph.input if value.name in given):
        for size, number in zip(value.type.tensor_type.shape.dim, _EXAMPLE, strict=True):
            size.dim_value = number
    for value in example.graph.output:
        value.type.tensor_type.ClearField("shape")
    del example.graph.value_info[:]
    found = shape_inference.infer_shapes(example, data_prop=True).graph.value_info
    return {value.name: tuple(size.dim_value for size in value.type.tensor_type.shape.dim) for value in found}


def repeat_first_token(model: onnx.ModelProto) -> int:
    """Makes padded positions copies of the first position of their row, in place.

    A copy is in every range already. What a padded position looks up in the tables (word, position, segment) is made
    what the first one looks up. Attention does not see padded positions and all else treats positions apart, so that
    copies stay copies through all layers: but not where attention knows the places of tokens.

    That costs a few operators on integers, once.

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
    graph = inferred(model)
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
