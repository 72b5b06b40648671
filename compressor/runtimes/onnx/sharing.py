"""Stores shared weights once: those of layers that share, and an output embedding tied to the input's."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
import onnx
from onnx import helper, numpy_helper

from compressor.runtimes.onnx.rewrite import Array, attribute, drop, remove_unused

Key = tuple[str, tuple[int, ...], bytes]
"""Data type, shape and digest of a constant: equal keys, equal constants."""

LAST = "last_axis"
"""Name of the constant -1."""


def share(model: onnx.ModelProto) -> int:
    """Stores every matrix once, in place; one that is the transpose of a table becomes a Transpose of the table.

    Returns:
        How many transposes of tables there were.
    """
    merge(model)
    return tie(model)


def tie(model: onnx.ModelProto) -> int:
    """Makes each constant matrix that is the transpose of a table a Transpose of it, in place.

    ONNX Runtime folds that Transpose when it loads the file, so that the model runs as it did.

    Returns:
        How many there were.
    """
    graph = model.graph
    tables = ties(graph)
    drop(graph.initializer, set(tables))
    _replace(graph, [*(_transpose(table, matrix) for matrix, table in tables.items()), *graph.node])
    return len(tables)


def merge(model: onnx.ModelProto) -> None:
    """Stores equal constants once, in place, however an exporter has spread them.

    Exporters give each use of a shared weight a copy, an alias, or a Transpose of its own, and a product of two axes
    another orientation than one of three. All are brought to the orientation in which they are multiplied before they
    are compared. A table that is looked up and an equal matrix that is multiplied stay two: quantizers scale the one as
    a whole and the other by column, and cannot do both to the same constant.
    """
    graph = model.graph
    _fold(graph)
    tables, fixed = _tables(graph), _interface(graph)
    first: dict[tuple[Key, bool], str] = {}
    same: dict[str, str] = {}
    for tensor in graph.initializer:
        if tensor.name not in fixed:
            same[tensor.name] = first.setdefault(
                (_key(numpy_helper.to_array(tensor)), tensor.name in tables), tensor.name
            )
    for node in graph.node:
        _rename_inputs(node, same)
    remove_unused(graph)


def ties(graph: onnx.GraphProto) -> dict[str, str]:
    """For each constant matrix that is the transpose of a table, the table's name.

    Such are output embeddings, `(hidden, vocabulary)`, tied to the input's, `(vocabulary, hidden)`.
    """
    names = _tables(graph)
    matrices = {tensor.name: tensor for tensor in graph.initializer if len(tensor.dims) == 2}
    tables = {_key(numpy_helper.to_array(matrices[name]).T): name for name in matrices if name in names}
    shapes = {shape for _, shape, _ in tables}
    found = {}
    for name, tensor in matrices.items():
        if name not in names and tuple(tensor.dims) in shapes:
            table = tables.get(_key(numpy_helper.to_array(tensor)))
            if table is not None:
                found[name] = table
    return found


def tie_quantized(model: onnx.ModelProto, tables: dict[str, str]) -> None:
    """Lets float tables share the integers of the matrices that are their transposes, in place.

    A matrix has a scale for each output, hence for each word of the vocabulary, which is a row of the table: words are
    looked up as integers and multiplied by their scales.

    Args:
        model: A graph where quantization has left the tables in float and has made the matrices integers, with
            ONNX Runtime's names for these and for their scales.
        tables: What `ties` found before.
    """
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    made = []
    first = []  # nodes that need nothing but constants
    scales: dict[str, str] = {}
    for matrix, table in tables.items():
        scales[table] = f"{matrix}_scale"
        rows = numpy_helper.to_array(constants[f"{matrix}_quantized"]).T
        made.append(numpy_helper.from_array(rows, table))
        first.append(_transpose(table, f"{matrix}_quantized"))
    nodes = []
    for node in graph.node:
        if node.op_type == "Gather" and node.input[0] in scales:
            scale = scales[node.input[0]]
            nodes.extend(look_up(node, scale, per_row=len(constants[scale].dims) == 1))
        else:
            nodes.append(node)
    if scales:
        made.append(numpy_helper.from_array(np.array([-1], dtype=np.int64), LAST))
    drop(graph.initializer, {*tables.values(), *(f"{matrix}_quantized" for matrix in tables)})
    _replace(graph, [*first, *nodes], made)
    remove_unused(graph)


def look_up(node: onnx.NodeProto, scale: str, per_row: bool) -> list[onnx.NodeProto]:
    """Nodes in place of a Gather from a table whose rows have become integers.

    Args:
        node: The Gather.
        scale: The constant that holds the table's only scale, or each row's.
        per_row: Which of the two.
    """
    table, ids = node.input
    result = node.output[0]
    nodes = [
        helper.make_node("Gather", [table, ids], [f"{result}.rows"], name=node.name),
        helper.make_node(
            "Cast", [f"{result}.rows"], [f"{result}.cast"], name=f"{node.name}.cast", to=onnx.TensorProto.FLOAT
        ),
    ]
    if per_row:
        nodes += [
            helper.make_node("Gather", [scale, ids], [f"{result}.scale"], name=f"{node.name}.scale"),
            helper.make_node("Unsqueeze", [f"{result}.scale", LAST], [f"{result}.scales"], name=f"{node.name}.scales"),
        ]
        scale = f"{result}.scales"
    return [*nodes, helper.make_node("Mul", [f"{result}.cast", scale], [result], name=f"{node.name}.scaled")]


def _fold(graph: onnx.GraphProto) -> None:
    """Replaces aliases and transposes of constants by constants; a Gemm reads its weight as a MatMul does."""
    fixed = _interface(graph)
    constants = {tensor.name: tensor for tensor in graph.initializer}
    foldable = set(constants) - fixed
    aliases: dict[str, str] = {}
    made: dict[str, onnx.TensorProto] = {}
    nodes = []
    for node in graph.node:
        _rename_inputs(node, aliases)
        of_constant = len(node.input) == 1 and node.input[0] in foldable and node.output[0] not in fixed
        if of_constant and node.op_type == "Identity":
            aliases[node.output[0]] = node.input[0]
            continue
        if of_constant and node.op_type == "Transpose":
            value = numpy_helper.to_array(constants[node.input[0]]).transpose(attribute(node, "perm", None))
            made[node.output[0]] = constants[node.output[0]] = numpy_helper.from_array(value, node.output[0])
            foldable.add(node.output[0])
            continue
        if node.op_type == "Gemm" and attribute(node, "transB", 0) and node.input[1] in foldable:
            turned = f"{node.input[1]}.transposed"
            value = numpy_helper.to_array(constants[node.input[1]]).T
            made[turned] = constants[turned] = numpy_helper.from_array(value, turned)
            node.input[1] = turned
            next(entry for entry in node.attribute if entry.name == "transB").i = 0
        nodes.append(node)
    _replace(graph, nodes, made.values())


def _interface(graph: onnx.GraphProto) -> set[str]:
    """Names of inputs and outputs, which callers use and no rewrite may change."""
    return {value.name for value in [*graph.input, *graph.output]}


def _tables(graph: onnx.GraphProto) -> set[str]:
    """Names of the tables that rows are looked up in."""
    return {node.input[0] for node in graph.node if node.op_type == "Gather" and attribute(node, "axis", 0) == 0}


def _key(value: Array) -> Key:
    return value.dtype.name, value.shape, hashlib.sha256(value.tobytes()).digest()


def _transpose(source: str, target: str) -> onnx.NodeProto:
    return helper.make_node("Transpose", [source], [target], name=f"{target}/Transpose", perm=[1, 0])


def _rename_inputs(node: onnx.NodeProto, names: dict[str, str]) -> None:
    for index, name in enumerate(node.input):
        node.input[index] = names.get(name, name)


def _replace(graph: onnx.GraphProto, nodes: Iterable[onnx.NodeProto], made: Iterable[onnx.TensorProto] = ()) -> None:
    """Puts other nodes into a graph, and constants beside its own."""
    nodes = list(nodes)
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.extend(made)
