"""The weight matrices and embedding tables of an exported graph, by the names that the checkpoint gives them."""

from __future__ import annotations

import re
from collections.abc import Container, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
from onnx import numpy_helper

from compressor.errors import StageError
from compressor.quantization.base import Settings, unmatched
from compressor.runtimes.onnx import sharing
from compressor.runtimes.onnx.rewrite import attribute

_PRODUCTS = ("MatMul", "Gemm")

Bias = Literal["inside", "after", "none"]
"""Where a bias is; see `biases`."""


@dataclass(frozen=True)
class Matrix:
    """A constant that activations are multiplied with, or that rows are looked up in.

    Attributes:
        name: Of the module that has it, such as `bert.encoder.layer.0.attention.self.query`.
        weight: Name of the constant, `(inputs, outputs)`, of a table `(rows, width)`.
        table: Whether rows are looked up in it.
        nodes: Names of the nodes that use it; several where layers share it.
        activations: What it is multiplied with, of each node; of a table nothing.
        elements: How many numbers it has.
    """

    name: str
    weight: str
    table: bool
    nodes: tuple[str, ...]
    activations: tuple[str, ...]
    elements: int


def read(path: Path) -> tuple[onnx.ModelProto, list[Matrix]]:
    """A float .onnx file with every constant stored once, and its matrices."""
    model = onnx.load(str(path))
    sharing.merge(model)
    return model, find(model)


def check_patterns(patterns: Sequence[str], matrices: Sequence[Matrix]) -> None:
    """Refuses patterns that mean no matrix.

    Args:
        patterns: `keep_float` of the stage.
        matrices: What there is.

    Raises:
        StageError: A pattern matches no matrix.
    """
    if found := unmatched(patterns, [matrix.name for matrix in matrices]):
        raise StageError(f"keep_float: {found[0]!r} matches no matrix; {found[1]}")


def find(model: onnx.ModelProto) -> list[Matrix]:
    """All of a graph that `onnx_sharing.merge` has been through, in the order in which they are first used."""
    sizes = {
        tensor.name: tensor.dims[0] * tensor.dims[1]
        for tensor in model.graph.initializer
        if len(tensor.dims) == 2 and tensor.data_type == onnx.TensorProto.FLOAT
    }
    users: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        looks_up = node.op_type == "Gather" and attribute(node, "axis", 0) == 0
        place = 0 if looks_up else 1 if node.op_type in _PRODUCTS else None
        if place is not None and node.input[place] in sizes:
            users.setdefault(node.input[place], []).append(node)
    found = []
    for weight, nodes in users.items():
        table = nodes[0].op_type == "Gather"
        activations = () if table else tuple(node.input[0] for node in nodes)
        names = tuple(node.name for node in nodes)
        found.append(Matrix(module(names[0]), weight, table, names, activations, sizes[weight]))
    return found


def shrinkable(model: onnx.ModelProto, settings: Settings) -> list[Matrix]:
    """Those that are to be stored small and can be: numbers beyond half precision's stay in float."""
    values = {tensor.name: tensor for tensor in model.graph.initializer}
    return [
        matrix
        for matrix in find(model)
        if not settings.stays_float(matrix.name)
        and (settings.embeddings or not matrix.table)
        and np.abs(numpy_helper.to_array(values[matrix.weight])).max() <= np.finfo(np.float16).max
    ]


def biases(model: onnx.ModelProto) -> dict[str, Bias]:
    """How the product with each module's matrix gets its bias, of a graph that `onnx_sharing.merge` has been through.

    Returns:
        By module: `inside` a Gemm; in a sum `after` the product; or `none`, where there never was one, or where it has
        no effect and was dropped, or moved into another's: see `compressor.runtimes.onnx.attention_biases`.

    Raises:
        StageError: A module that several layers use gets it in several ways.
    """
    axes = {tensor.name: len(tensor.dims) for tensor in model.graph.initializer}
    summed = {
        name
        for node in model.graph.node
        if node.op_type == "Add" and any(axes.get(name) == 1 for name in node.input)
        for name in node.input
    }
    found: dict[str, Bias] = {}
    for node in model.graph.node:
        if node.op_type not in _PRODUCTS or axes.get(node.input[1]) != 2:
            continue
        bias: Bias = "inside" if len(node.input) > 2 else "after" if node.output[0] in summed else "none"
        name = called(module(node.name), found)
        if found.setdefault(name, bias) != bias:
            raise StageError(f"layers that share {name} have its bias in different places of the exported graph")
    return found


def called(name: str, known: Container[str]) -> str:
    """The module of a call: traces number all but the first call of a module that layers share, as `query_1`."""
    first = re.sub(r"_\d+$", "", name)
    return first if name not in known and first in known else name


def module(node: str) -> str:
    """The module that a node comes from: `bert.pooler.dense` of `/model/bert/pooler/dense/Gemm`.

    A compact BERT calls its blocks from layers that are no modules of their own: `layers.3.attentions.0` is
    `attentions.0`.
    """
    path = re.sub(r"^model\.", "", ".".join(node.strip("/").split("/")[:-1]))
    return re.sub(r"\.layers\.\d+\.(attentions|feed_forwards)\.", r".\1.", path)
