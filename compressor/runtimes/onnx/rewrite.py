"""Rewrites of a traced encoder's graph that leave its outputs as they are and the runtime less to do."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper, shape_inference

Array = NDArray[np.generic]

_UNARY = frozenset({"Erf", "Tanh", "Relu", "Gelu", "Sqrt", "Cast", "Identity", "Sigmoid", "Neg"})
_ELEMENTWISE = frozenset({"Add", "Sub", "Mul", "Div", "Pow", "Where"})
POSITION_WISE = _UNARY | _ELEMENTWISE | {"LayerNormalization"}
"""Operators that treat tokens apart; a normalization does if it is over the last axis."""
_MOST_VALUES = 1024  # of a constant that may be sizes


def keep_leading_sizes(model: onnx.ModelProto) -> int:
    """Makes `Reshape(x, [batch, sequence, …])` copy x's first two sizes (ONNX's 0) instead of computing them.

    Holds for every Reshape whose target starts with sizes 0 and 1 of some tensor: in an encoder all of those carry the
    same batch and sequence. Parity with torch is measured on every exported file, so an exception would not go unseen.

    Returns:
        How many there were.
    """
    constants, producers = constants_of(model.graph), _producers(model.graph)
    found = 0
    for node in model.graph.node:
        if node.op_type != "Reshape":
            continue
        parts = producers.get(node.input[1])
        if parts is None or parts.op_type != "Concat" or len(parts.input) < 3:
            continue
        leading = [_size_index(name, producers, constants) for name in parts.input[:2]]
        rest = [constants[name] for name in parts.input[2:] if name in constants]
        if leading == [0, 1] and len(rest) == len(parts.input) - 2:
            target = np.array([0, 0, *(int(value.item()) for value in rest)], dtype=np.int64)
            node.input[1] = _add_constant(model.graph, f"{node.output[0]}.target", target)
            found += 1
    remove_unused(model.graph)
    return found


def compute_first_token_only(model: onnx.ModelProto) -> int:
    """Where only the first token of a layer's output is read, computes only that: the result is the same.

    A classifier reads the last layer's `[CLS]` alone, so that layer's queries, attention output and feed-forward block,
    most of its work, are needed for one position of all. The reading of position 0 is moved up through every operator
    that treats positions apart, as far as nothing else reads its result whole.

    Returns:
        How many matrix products are of the first token alone.
    """
    products = 0
    graph = model.graph
    constants, ranks = constants_of(graph), shapes_of(model)
    uses = Counter(name for node in graph.node for name in node.input)
    uses.update(output.name for output in graph.output)
    # For each tensor, who reads only its first entry, and along which axis: (node, index of the input, axis).
    readers: dict[str, list[tuple[onnx.NodeProto, int, int]]] = defaultdict(list)
    for node in graph.node:
        place = constants.get(node.input[1]) if node.op_type == "Gather" else None
        if place is not None and place.shape == () and place == 0 and attribute(node, "axis", 0) == 1:
            readers[node.input[0]].append((node, 0, 1))
    nodes: list[onnx.NodeProto] = []  # the new order, last first
    for node in reversed(graph.node):
        wanted = [entry for name in node.output for entry in readers.pop(name, [])]
        axes = {axis for _, _, axis in wanted}
        alone = len(node.output) == 1 and len(wanted) == uses[node.output[0]] and len(axes) == 1
        sources = _sources(node, axes.pop(), constants, ranks) if wanted and alone else None
        if sources is not None:
            products += node.op_type == "MatMul"
            for index, axis in sources:
                readers[node.input[index]].append((node, index, axis))
        else:
            nodes.extend(_slices(graph, wanted))
        nodes.append(node)
    for wanted in readers.values():  # of the graph's inputs and constants
        nodes.extend(_slices(graph, wanted))
    del graph.node[:]
    graph.node.extend(reversed(nodes))
    del graph.value_info[:]
    remove_unused(graph)
    return products


def _sources(
    node: onnx.NodeProto, axis: int, constants: dict[str, Array], shapes: dict[str, list[int | None]]
) -> list[tuple[int, int]] | None:
    """Which inputs of a node to cut to their first entry, and along which axis, to cut its output along `axis`.

    Returns:
        Pairs of input index and axis, or None where the node mixes entries along the axis, or where that is not known.
    """
    shape = shapes.get(node.output[0])
    if shape is None:
        return None
    rank = len(shape)
    if node.op_type in _UNARY or (node.op_type in ("LayerNormalization", "Softmax") and axis < rank - 1):
        last = attribute(node, "axis", -1) in (-1, rank - 1) or node.op_type in _UNARY
        return [(0, axis)] if last else None
    if node.op_type in _ELEMENTWISE:
        cuts = []
        for index, name in enumerate(node.input):
            given = list(constants[name].shape) if name in constants else shapes.get(name)
            if given is None:
                return None
            own = axis - (rank - len(given))
            if own >= 0 and given[own] != 1:
                cuts.append((index, own))
        return cuts
    if node.op_type == "MatMul" and axis <= rank - 2:
        left, right = (shapes.get(name) or list(constants.get(name, np.zeros(())).shape) for name in node.input)
        rows = axis == rank - 2 or len(right) == 2
        return [(0, axis)] if rows and len(left) == rank else None
    if node.op_type == "Transpose":
        return [(0, list(attribute(node, "perm", []))[axis])]
    if node.op_type == "Reshape" and axis == 1:
        target = constants.get(node.input[1])
        return [(0, 1)] if target is not None and list(target[:2]) == [0, 0] else None
    return None


def _slices(graph: onnx.GraphProto, wanted: list[tuple[onnx.NodeProto, int, int]]) -> Iterator[onnx.NodeProto]:
    """Nodes that cut a tensor to its first entry for those who read only that."""
    made: dict[tuple[str, int], str] = {}
    for reader, index, axis in wanted:
        name = reader.input[index]
        if reader.op_type == "Gather":
            continue  # reads one entry as it is
        if (name, axis) not in made:
            cut = made[name, axis] = f"{name}.first{axis}"
            bounds = [
                _add_constant(graph, f"{cut}.{kind}", np.array([value], dtype=np.int64))
                for kind, value in (("start", 0), ("end", 1), ("axis", axis))
            ]
            yield helper.make_node("Slice", [name, *bounds], [cut], name=f"{cut}/Slice")
        reader.input[index] = made[name, axis]


def constants_of(graph: onnx.GraphProto) -> dict[str, Array]:
    """Values of all that is constant, by name."""
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            constants[node.output[0]] = numpy_helper.to_array(helper.get_attribute_value(node.attribute[0]))
    return constants


def _producers(graph: onnx.GraphProto) -> dict[str, onnx.NodeProto]:
    return {name: node for node in graph.node for name in node.output}


def outline(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose large constants are inputs: what is told by shapes alone can be found without copying weights."""
    copy = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    graph, source = copy.graph, model.graph
    graph.name = source.name
    for part in ("node", "input", "output", "value_info"):
        getattr(graph, part).extend(getattr(source, part))
    for tensor in source.initializer:
        if math.prod(tensor.dims) > _MOST_VALUES:
            graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
        else:
            graph.initializer.append(tensor)
    return copy


def inferred(model: onnx.ModelProto, *, data_prop: bool = False) -> onnx.GraphProto:
    """The graph with all shapes that ONNX infers, and without the values of large constants.

    Args:
        model: The model.
        data_prop: Whether sizes are computed with, too.
    """
    own = {value.name for value in model.graph.input}
    graph = shape_inference.infer_shapes(outline(model), data_prop=data_prop).graph
    drop(graph.input, {value.name for value in graph.input} - own)
    return graph


def shapes_of(model: onnx.ModelProto) -> dict[str, list[int | None]]:
    """Shapes of all tensors that are not constants; None for a free size."""
    graph = inferred(model)
    return {
        value.name: [
            size.dim_value if size.HasField("dim_value") else None for size in value.type.tensor_type.shape.dim
        ]
        for value in [*graph.value_info, *graph.input, *graph.output]
        if value.type.tensor_type.HasField("shape")
    }


def _size_index(name: str, producers: dict[str, onnx.NodeProto], constants: dict[str, Array]) -> int | None:
    """The axis whose size a 1-element tensor holds: `Unsqueeze(Gather(Shape(x), index))`."""
    unsqueeze = producers.get(name)
    gather = producers.get(unsqueeze.input[0]) if unsqueeze and unsqueeze.op_type == "Unsqueeze" else None
    if gather is None or gather.op_type != "Gather":
        return None
    shape, index = producers.get(gather.input[0]), constants.get(gather.input[1])
    return int(index) if shape is not None and shape.op_type == "Shape" and index is not None else None


def attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    """The value of a node's attribute, or a default where it has none."""
    return next((helper.get_attribute_value(entry) for entry in node.attribute if entry.name == name), default)


def _add_constant(graph: onnx.GraphProto, name: str, value: Array) -> str:
    graph.initializer.append(numpy_helper.from_array(value, name))
    return name


def remove_unused(graph: onnx.GraphProto) -> None:
    """Drops nodes and constants that nothing reads any more, in place."""
    wanted = {output.name for output in graph.output}
    kept = []
    for node in reversed(graph.node):
        if any(name in wanted for name in node.output):
            kept.append(node)
            wanted.update(node.input)
    del graph.node[:]
    graph.node.extend(reversed(kept))
    drop(graph.initializer, {tensor.name for tensor in graph.initializer} - wanted)


def drop(parts: Any, names: set[str]) -> None:
    """Removes those of a graph's constants, inputs or outputs that have these names, in place.

    What is put into a graph is copied, and no memory of a message is free before all of it is: a list that is filled
    anew with what stays would take the weights' memory again.
    """
    for index in reversed([index for index, part in enumerate(parts) if part.name in names]):
        del parts[index]
