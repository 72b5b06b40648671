"""A quantized ONNX graph as a torch module: the same integers, so the same answers, where only torch runs."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import Tensor, nn

from compressor.errors import StageError
from compressor.runtimes.onnx.rewrite import Array
from compressor.runtimes.torchscript_int8 import operators
from compressor.runtimes.torchscript_int8.operators import Node, Value

_TO_FLOATS = ("DequantizeLinear", "Cast", "Transpose", "Reshape")
"""Nodes that stand between a stored matrix and the module that uses it."""

_SUMS_AT = {"MatMulInteger": (1, 4), "DequantizeLinear": (0, 3)}
"""Of nodes that may take column sums: at which input their matrix is, and at which the sums."""


class GraphModule(nn.Module):
    """Runs the nodes of a graph in torch.

    Constants are buffers, each once and of the type that it is stored as, in the modules that use them.

    Args:
        path: An .onnx file that a quantize stage wrote.

    Attributes:
        input_names: Names of the inputs, in the order of `forward`'s arguments.
        output_names: Names of the outputs.

    Raises:
        StageError: It has an operator that has no counterpart in `onnx_operators`.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        graph = onnx.load(str(path)).graph
        if unknown := sorted({node.op_type for node in graph.node} - {*operators.SUPPORTED, "Constant"}):
            what = f"{path} cannot become TorchScript, which has no counterpart here of {', '.join(unknown)}"
            raise StageError(f"{what}; take torchscript out of the export stage's targets")
        constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        for node in graph.node:
            if node.op_type == "Constant":
                constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
        nodes = [node for node in graph.node if node.op_type != "Constant"]
        sums = _column_sums(nodes, constants)
        self.input_names = tuple(entry.name for entry in graph.input)
        self.output_names = tuple(entry.name for entry in graph.output)
        self._nodes = [_node(node, constants, sums) for node in nodes]
        constants |= {_sums(matrix): value for matrix, value in sums.items()}
        read = dict.fromkeys(name for node in self._nodes for name in node.inputs if name in constants)
        self._places = _places(read, nodes)
        for name, (*modules, leaf) in self._places.items():
            owner: nn.Module = self
            for module in modules:
                if module not in owner._modules:
                    owner.add_module(module, nn.Module())
                owner = owner.get_submodule(module)
            owner.register_buffer(leaf, torch.from_numpy(constants[name].copy()))

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """The only output as it is, several as a tuple, for inputs of `(batch, sequence)`."""
        values: dict[str, Value | None] = {"": None, **dict(zip(self.input_names, inputs, strict=True))}
        for name, place in self._places.items():
            values[name] = self.get_buffer(".".join(place))
        for node in self._nodes:
            given = operators.run(node, *(values[name] for name in node.inputs))
            values.update(zip(node.outputs, given, strict=True))
        outputs = tuple(operators.floats(*(values[name] for name in self.output_names)))
        return outputs[0] if len(outputs) == 1 else outputs


def _node(node: onnx.NodeProto, constants: Mapping[str, Array], sums: Collection[str]) -> Node:
    """A node as operators take it: with constants that say how apart, and with column sums as one more input."""
    numbers = {
        index: constants[node.input[index]]
        for index in operators.NUMBERS.get(node.op_type, ())
        if index < len(node.input) and node.input[index] in constants
    }
    if node.op_type == "Gather" and 1 in numbers and numbers[1].ndim:
        numbers = {}
    inputs = ["" if index in numbers else name for index, name in enumerate(node.input)]
    if node.op_type in _SUMS_AT:
        matrix, at = _SUMS_AT[node.op_type]
        if node.input[matrix] in sums:
            inputs += [*[""] * (at - len(inputs)), _sums(node.input[matrix])]
    attributes = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
    return Node(node.op_type, tuple(inputs), tuple(node.output), attributes, numbers)


def _sums(matrix: str) -> str:
    """Name of the column sums of a matrix."""
    return f"{matrix}.sums"


def _column_sums(nodes: Iterable[onnx.NodeProto], constants: Mapping[str, Array]) -> dict[str, Array]:
    """Of each constant int8 matrix `(inputs, outputs)` that is multiplied, the sum of each column, by its name."""
    known, expanded, sums = dict(constants), dict[str, str](), dict[str, Array]()
    for node in nodes:
        if node.op_type == "Transpose" and node.input[0] in known:
            known[node.output[0]] = known[node.input[0]].transpose(helper.get_attribute_value(node.attribute[0]))
        elif node.op_type == "DequantizeLinear":
            expanded[node.output[0]] = node.input[0]
        elif node.op_type in ("MatMulInteger", "MatMul", "Gemm"):
            name = node.input[1] if node.op_type == "MatMulInteger" else expanded.get(node.input[1], "")
            if name in known and known[name].dtype == np.int8:
                sums[name] = known[name].sum(axis=0, dtype=np.int32)
    return sums


def _places(names: Iterable[str], nodes: Sequence[onnx.NodeProto]) -> dict[str, tuple[str, ...]]:
    """Where each constant is stored: the path of the module that uses it first, and a name there."""
    readers: dict[str, onnx.NodeProto] = {}
    for node in nodes:
        for name in node.input:
            readers.setdefault(name, node)
    places: dict[str, tuple[str, ...]] = {}
    for name in names:
        reader = readers[name.removesuffix(".sums")]
        while not reader.name.startswith("/") and reader.op_type in _TO_FLOATS and reader.output[0] in readers:
            reader = readers[reader.output[0]]
        # An exporter names nodes by the path of their module, and constants as they are called there, or by numbers.
        path = [part for part in re.split(r"[/.]", reader.name)[:-1] if part]
        leaf = re.sub(r"^onnx::[A-Za-z]+_\d+", "weight", name.rpartition("/")[2])
        place = [re.sub(r"\W", "_", part) for part in (*path, ".".join(leaf.split(".")[-2:]))]
        while tuple(place) in places.values():
            place[-1] += "_"
        places[name] = tuple(place)
    return places
