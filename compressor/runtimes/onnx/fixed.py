"""Graphs of one row of a fixed length, for accelerators that take no free sizes and compute in half precision."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from compressor.runtimes.onnx.rewrite import Array, attribute, constants_of, inferred, remove_unused

_UNSEEN = np.float32(-1e4)
"""What is added to the scores of padded positions: the least float is infinite in half precision, and times 0 NaN."""


def length_of(path: Path) -> int | None:
    """The length of the rows that an .onnx file takes; None where it is free."""
    shape = onnx.load(str(path), load_external_data=False).graph.input[0].type.tensor_type.shape.dim
    return shape[1].dim_value if len(shape) == 2 and shape[1].dim_value else None


def write(source: Path, target: Path, length: int) -> None:
    """Writes the graph of one row of a length: the same answers, with all sizes known.

    What Core ML's provider has no form of is put in other operators: the mask without a comparison, the reading of the
    first token as a slice. Only the look-ups of tokens stay outside, so that it takes the rest as one piece.

    Args:
        source: An .onnx file of free sizes whose inputs are `(batch, sequence)`.
        target: The file to write.
        length: Number of tokens.
    """
    model = onnx.load(str(source))
    for value in model.graph.input:
        for size, known in zip(value.type.tensor_type.shape.dim, (1, length), strict=True):
            size.Clear()
            size.dim_value = known
    _compute_sizes(model)
    _mask_by_arithmetic(model.graph)
    _slice_single_entries(model.graph)
    for value, known_value in zip(model.graph.output, inferred(model, data_prop=True).output, strict=True):
        value.CopyFrom(known_value)
    onnx.save(model, str(target))


def _compute_sizes(model: onnx.ModelProto) -> None:
    """Computes what follows from sizes alone, in place."""
    from onnx.reference import ReferenceEvaluator

    graph = model.graph
    shapes = {
        value.name: [size.dim_value for size in value.type.tensor_type.shape.dim]
        for value in inferred(model, data_prop=True).value_info
    }
    shapes |= {value.name: [size.dim_value for size in value.type.tensor_type.shape.dim] for value in graph.input}
    constants, computed = constants_of(graph), dict[str, Array]()
    kept = []
    for node in graph.node:
        value: Array | None = None
        if node.op_type == "Shape" and all(shapes.get(node.input[0], [0])):
            sizes = np.array(shapes[node.input[0]], dtype=np.int64)
            value = sizes[attribute(node, "start", 0) : attribute(node, "end", None)]
        elif any(name in computed for name in node.input) and all(name in constants for name in node.input if name):
            given = {name: constants[name] for name in node.input if name}
            (value,) = ReferenceEvaluator(node).run(None, given)
        if value is None or value.dtype != np.int64:
            kept.append(node)
        else:
            constants[node.output[0]] = computed[node.output[0]] = value
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in computed.items())
    del graph.node[:]
    graph.node.extend(kept)
    remove_unused(graph)


def _mask_by_arithmetic(graph: onnx.GraphProto) -> None:
    """Makes `Cast(mask == 0) * the least float` of a mask `(1 - mask) * -10000`, in place."""
    constants = constants_of(graph)
    unseen = {node.output[0]: node for node in graph.node if node.op_type == "Equal" and _is_zero(node, constants)}
    inverted, nodes = set[str](), list[onnx.NodeProto]()
    for node in graph.node:
        if node.op_type == "Cast" and node.input[0] in unseen and attribute(node, "to", 0) == onnx.TensorProto.FLOAT:
            (result,), mask = node.output, unseen[node.input[0]].input[0]
            parts = [f"{result}.{part}" for part in ("mask", "clipped")]
            nodes += [
                helper.make_node("Cast", [mask], [parts[0]], name=parts[0], to=onnx.TensorProto.FLOAT),
                helper.make_node("Clip", [parts[0], "mask.zero", "mask.one"], [parts[1]], name=parts[1]),
                helper.make_node("Sub", ["mask.one", parts[1]], [result], name=f"{result}/Sub"),
            ]
            inverted.add(result)
            continue
        if node.op_type == "Mul" and inverted.intersection(node.input):
            for index, name in enumerate(node.input):
                if name in constants and constants[name].size == 1 and constants[name] < _UNSEEN:
                    node.input[index] = "mask.unseen"
        nodes.append(node)
    values = {"mask.zero": np.float32(0), "mask.one": np.float32(1), "mask.unseen": _UNSEEN}
    graph.initializer.extend(numpy_helper.from_array(np.asarray(value), name) for name, value in values.items())
    del graph.node[:]
    graph.node.extend(nodes)
    remove_unused(graph)


def _is_zero(node: onnx.NodeProto, constants: dict[str, Array]) -> bool:
    value = constants.get(node.input[1])
    return value is not None and not value.any()


def _slice_single_entries(graph: onnx.GraphProto) -> None:
    """Makes the reading of one entry along an axis a slice of it, in place."""
    constants, nodes = constants_of(graph), list[onnx.NodeProto]()
    for node in graph.node:
        index = constants.get(node.input[1]) if node.op_type == "Gather" and node.input[0] not in constants else None
        if index is None or index.shape or int(index) < 0:
            nodes.append(node)
            continue
        (result,), first, axis = node.output, int(index), attribute(node, "axis", 0)
        names = [f"{result}.{name}" for name in ("start", "end", "axis")]
        graph.initializer.extend(
            numpy_helper.from_array(np.array([value], dtype=np.int64), name)
            for name, value in zip(names, (first, first + 1, axis), strict=True)
        )
        cut = f"{result}.cut"
        nodes += [
            helper.make_node("Slice", [node.input[0], *names], [cut], name=cut),
            helper.make_node("Squeeze", [cut, names[2]], [result], name=node.name),
        ]
    del graph.node[:]
    graph.node.extend(nodes)
    remove_unused(graph)
