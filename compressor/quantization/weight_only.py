"""Weight-only int4 and int8: weights in blocks with a scale each, for products and for tables."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnx

    from compressor.runtimes.onnx.rewrite import Array

from compressor.models.block_rounding import Blocks, Floats, round_rows
from compressor.quantization.base import Ranges, Scheme, Settings

_DOMAIN = "com.microsoft"
_START, _LAST = "start", "last_axis"
"""Names of the constants 0 and -1."""

_ACCURACY_LEVEL = 4
"""Products of int8: ONNX Runtime rounds activations too, to int8 with a scale for each block of each row. On SST-2 that
moved MiniLM's accuracy by at most 2 of 872 rows, in both directions, with 4 bits and with 8."""


def write(source: Path, target: Path, settings: Settings, ranges: Ranges | None = None) -> None:
    """Stores weights as 4-bit or 8-bit integers, in blocks along a product's inputs or a table's rows.

    Products become ONNX Runtime's MatMulNBits, which never expands a weight, look-ups its GatherBlockQuantized, which
    expands only the rows that are looked up. Scales are stored in half precision; the runtime makes them floats when it
    loads the file. What is shared stays shared: a weight of several layers has one form, and so have the input and the
    output embedding of a language model that ties them.

    Args:
        source: A float .onnx file.
        target: The quantized .onnx file.
        settings: How: `bits`, `block_size`, `embeddings`, `keep_float`. A row whose width is no multiple of the block
            size is filled up, in smaller blocks where that takes less. What half precision cannot hold stays in float.
        ranges: Not needed.
    """
    import onnx

    from compressor.quantization import weight_matrices

    model, _ = weight_matrices.read(source)
    values, tied = rows(model, settings)
    rounded = {name: round_rows(value, settings.bits, settings.block_size) for name, value in values.items()}
    place(model, rounded, tied)
    target.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(target))


def rows(model: onnx.ModelProto, settings: Settings) -> tuple[dict[str, Floats], dict[str, str]]:
    """The matrices and tables to quantize.

    Args:
        model: A float graph that `onnx_sharing.merge` has been through.
        settings: How: `embeddings`, `keep_float`.

    Returns:
        By the constant's name, `(outputs, inputs)` or, of tables, `(rows, width)`; and from tables that are tied, and
        not among these, to the matrices that have their integers.
    """
    from onnx import numpy_helper

    from compressor.quantization import weight_matrices
    from compressor.runtimes.onnx import sharing

    users = {node.name: node for node in model.graph.node}
    chosen = {
        matrix.weight: matrix
        for matrix in weight_matrices.shrinkable(model, settings)
        if all(_is_plain(users[name]) for name in matrix.nodes)
    }
    ties = sharing.ties(model.graph)
    tied = {table: matrix for matrix, table in ties.items() if {matrix, table} <= chosen.keys()}
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer if tensor.name in chosen}
    whole = {name: value if chosen[name].table else value.T for name, value in values.items() if name not in tied}
    return whole, tied


def place(model: onnx.ModelProto, rounded: Mapping[str, Blocks], tied: Mapping[str, str]) -> None:
    """Stores matrices and tables as integers, in place.

    Args:
        model: A float graph that `onnx_sharing.merge` has been through.
        rounded: The integers of what `rows` gave, or of some of it.
        tied: What it gave besides.
    """
    from onnx import helper, numpy_helper

    from compressor.quantization import weight_matrices
    from compressor.runtimes.onnx import sharing
    from compressor.runtimes.onnx.rewrite import remove_unused
    from compressor.runtimes.onnxruntime import strip

    graph = model.graph
    tables = {matrix.weight for matrix in weight_matrices.find(model) if matrix.table}
    stored = {name: name for name in rounded} | {table: name for table, name in tied.items() if name in rounded}
    first, constants = _stored(rounded, rounded.keys() - tables)
    nodes = []
    for node in graph.node:
        name = next((name for name in node.input if name in stored), None)
        if name is None:
            nodes.append(node)
        elif name in tables:
            nodes.extend(_look_up(node, stored[name], rounded[stored[name]]))
        else:
            nodes.extend(_product(node, name, rounded[name]))
    del graph.node[:]
    graph.node.extend([*first, *nodes])
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    if all(entry.domain != _DOMAIN for entry in model.opset_import):
        model.opset_import.append(helper.make_opsetid(_DOMAIN, 1))
    strip(model)
    remove_unused(graph)
    sharing.share(model)  # tied tables that stay in float


def _is_plain(node: onnx.NodeProto) -> bool:
    """Whether a node only multiplies by the weight, or looks up its rows."""
    from compressor.runtimes.onnx.rewrite import attribute

    defaults = {"Gemm": {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0}}
    return all(attribute(node, name, value) == value for name, value in defaults.get(node.op_type, {}).items())


def _stored(rounded: Mapping[str, Blocks], products: Collection[str]) -> tuple[list[onnx.NodeProto], dict[str, Array]]:
    """Stored constants of rounded weights, and the nodes that run when the graph is loaded.

    ONNX Runtime rearranges a product's codes when it loads them as a constant, and takes its scales to be constant too
    (1.31): while they are still being cast, in a session without optimisation, the product would be wrong. So the codes
    go through a node as well, and both are constants or neither is.

    Args:
        rounded: By name of the float weight.
        products: Those that are multiplied.
    """
    from onnx import TensorProto, helper

    nodes = []
    constants: dict[str, Array] = {_LAST: np.array([-1], dtype=np.int64), _START: np.array([0], dtype=np.int64)}
    for name, blocks in rounded.items():
        constants[f"{name}.codes"] = blocks.codes.reshape(len(blocks.codes), -1)
        constants[f"{name}.scales.half"] = blocks.scales
        constants[_width(blocks)] = np.array([blocks.width], dtype=np.int64)
        halves, scales = f"{name}.scales.half", f"{name}.scales"
        nodes.append(helper.make_node("Cast", [halves], [scales], name=scales, to=TensorProto.FLOAT))
        if name in products:
            shape = "shape." + ".".join(map(str, blocks.codes.shape))
            constants[shape] = np.array(blocks.codes.shape, dtype=np.int64)
            nodes.append(
                helper.make_node("Reshape", [f"{name}.codes", shape], [f"{name}.blocks"], name=f"{name}.blocks")
            )
    return nodes, constants


def _product(node: onnx.NodeProto, weight: str, blocks: Blocks) -> list[onnx.NodeProto]:
    """Nodes in place of a MatMul or Gemm."""
    from onnx import helper

    (result,), bias = node.output, list(node.input[2:])
    product = f"{result}.product" if bias else result
    nodes = [
        helper.make_node(
            "MatMulNBits",
            [node.input[0], f"{weight}.blocks", f"{weight}.scales"],
            [product],
            name=node.name,
            domain=_DOMAIN,
            K=blocks.width,
            N=len(blocks.codes),
            bits=blocks.bits,
            block_size=blocks.size,
            accuracy_level=_ACCURACY_LEVEL,
        )
    ]
    if bias:
        nodes.append(helper.make_node("Add", [product, *bias], [result], name=f"{node.name}.bias"))
    return nodes


def _look_up(node: onnx.NodeProto, weight: str, blocks: Blocks) -> list[onnx.NodeProto]:
    """Nodes in place of a Gather; the weight is the table, or the matrix that it is tied to."""
    from onnx import helper

    (result,), full = node.output, blocks.padded == blocks.width
    rows = result if full else f"{result}.padded"
    nodes = [
        helper.make_node(
            "GatherBlockQuantized",
            [f"{weight}.codes", node.input[1], f"{weight}.scales"],
            [rows],
            name=node.name,
            domain=_DOMAIN,
            gather_axis=0,
            quantize_axis=1,
            bits=blocks.bits,
            block_size=blocks.size,
        )
    ]
    if not full:
        cut = [rows, _START, _width(blocks), _LAST]
        nodes.append(helper.make_node("Slice", cut, [result], name=f"{node.name}.cut"))
    return nodes


def _width(blocks: Blocks) -> str:
    """Name of the constant that says where rows end."""
    return f"width.{blocks.width}"


INT8 = Scheme(
    name="weight_only_int8",
    help="8-bit weights with a scale for every `block_size` of them; products are of floats.",
    write=write,
    in_blocks=True,
)
INT4 = Scheme(
    name="weight_only_int4",
    help="4-bit weights with a scale for every `block_size` of them; products are of floats.",
    write=write,
    bits=4,
    in_blocks=True,
)
