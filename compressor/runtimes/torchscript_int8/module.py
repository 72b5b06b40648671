"""A quantized ONNX graph as a torch module: the same integers in torch's own kernels, where only torch runs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import onnx
import torch
from onnx import helper, numpy_helper
from torch import Tensor, nn

from compressor.errors import StageError
from compressor.runtimes.onnx.rewrite import Array
from compressor.runtimes.torchscript_int8 import fusion, operators
from compressor.runtimes.torchscript_int8.graph import NodeGraph
from compressor.runtimes.torchscript_int8.operators import Node
from compressor.runtimes.torchscript_int8.products import StoredMatrix
from compressor.runtimes.torchscript_int8.weights import ExpandedBlocks, ExpandedHalves, Int8Product

_TO_FLOATS = ("DequantizeLinear", "Cast", "Transpose", "Reshape")
"""Nodes that stand between a stored matrix and the module that uses it."""

_HOLDERS = ("IntegerProduct", "Halves", "Blocks")
"""Kinds of nodes that are modules, which hold weights."""

_SHALLOW = 20
"""Products of graphs that leave rounding to the kernel, at most: those of 4 layers. A value that is rounded the other
way moves others in every later layer: that costs 2 labels of 2,500 in 6 layers, and 1 of 4,000 in 3, where exact
rounding takes a tenth of the time of 32 tokens."""


class GraphModule(nn.Module):
    """Runs the nodes of a graph in torch.

    Constants are buffers, or parts of modules that hold weights: each once, of the type that it is stored as, under the
    name of the module that uses it.

    Args:
        path: An .onnx file that a quantize stage wrote.

    Attributes:
        input_names: Names of the inputs, in the order of `forward`'s arguments.
        output_names: Names of the outputs.

    Raises:
        StageError: It has an operator that torch has no kernel for.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        graph = onnx.load(str(path)).graph
        constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        for node in graph.node:
            if node.op_type == "Constant":
                constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
        self.input_names = tuple(entry.name for entry in graph.input)
        self.output_names = tuple(entry.name for entry in graph.output)
        plain = [_node(node) for node in graph.node if node.op_type != "Constant"]
        fused = NodeGraph(plain, constants, self.output_names)
        fusion.fuse(fused)
        if unknown := sorted({node.op for node in fused.nodes} - {*operators.SUPPORTED, *_HOLDERS}):
            what = f"{path} cannot become TorchScript, which has no kernel for its {', '.join(unknown)}"
            raise StageError(f"{what}; take torchscript out of the export stage's targets")
        self._exact = sum(node.op == "IntegerProduct" for node in fused.nodes) > _SHALLOW
        self._tensors: dict[str, Tensor] = {}
        self._paths: dict[str, str] = {}
        holders: dict[object, str] = {}
        places, self._nodes = _Places(graph.node), list[Node]()
        for node in (_with_numbers(node, constants) for node in fused.nodes):
            for name in node.inputs:
                if name in constants and name not in self._paths:
                    self._paths[name] = self._put(places.of(name), self._tensor(name, constants))
            if node.op in _HOLDERS:
                held = (node.op, *node.attributes.get("matrices", node.attributes.get("stored")))
                if held not in holders:
                    name = held[1] if isinstance(held[1], str) else held[1].weight
                    holders[held] = self._put(places.of(name), self._holder(node, constants))
                node = replace(node, attributes={**node.attributes, "module": holders[held]})
            self._nodes.append(node)

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """The only output as it is, several as a tuple, for inputs of `(batch, sequence)`."""
        values: dict[str, Tensor | None] = {"": None, **dict(zip(self.input_names, inputs, strict=True))}
        for name, path in self._paths.items():
            values[name] = self.get_buffer(path)
        for node in self._nodes:
            given = (values[name] for name in node.inputs)
            results = self._weigh(node, *given) if node.op in _HOLDERS else operators.run(node, *given)
            values.update(zip(node.outputs, results, strict=True))
        outputs = tuple(value for name in self.output_names if (value := values[name]) is not None)
        return outputs[0] if len(outputs) == 1 else outputs

    def _weigh(self, node: Node, x: Tensor | None = None, row: Tensor | None = None) -> tuple[Tensor, ...]:
        """The output of a node that is a module: a weight, or products with weights."""
        module = self.get_submodule(node.attributes["module"])
        if x is None:
            return (module(),)
        if row is None:
            product = module(x)
        else:
            # With one row more, a kernel that looks for the range finds the one that was found beforehand.
            rows = torch.cat((x.reshape(-1, x.shape[-1]), row)).clamp_(*node.attributes["bounds"])
            product = module(rows)[:-1].reshape((*x.shape[:-1], -1))
        return torch.split(product, node.attributes["widths"], -1) if len(node.outputs) > 1 else (product,)

    def _tensor(self, name: str, constants: Mapping[str, Array]) -> Tensor:
        """A constant, always the same tensor: a file holds it once, whoever uses it."""
        if name not in self._tensors:
            self._tensors[name] = torch.from_numpy(constants[name].copy())
        return self._tensors[name]

    def _put(self, place: tuple[str, ...], what: Tensor | nn.Module) -> str:
        """Adds a buffer or a module; its path."""
        owner: nn.Module = self
        for module in place[:-1]:
            if module not in owner._modules:
                owner.add_module(module, nn.Module())
            owner = owner.get_submodule(module)
        if isinstance(what, nn.Module):
            owner.add_module(place[-1], what)
        else:
            owner.register_buffer(place[-1], what)
        return ".".join(place)

    def _holder(self, node: Node, constants: Mapping[str, Array]) -> nn.Module:
        """The module that a node is, scripted."""
        if node.op == "IntegerProduct":
            holder: nn.Module = self._product(node.attributes["matrices"], constants)
        elif node.op == "Blocks":
            codes, scales = (self._tensor(name, constants) for name in node.attributes["stored"])
            holder = ExpandedBlocks(codes, scales, node.attributes["bits"], node.attributes["K"])
        else:
            holder = ExpandedHalves(self._tensor(node.attributes["stored"][0], constants))
        scripted: nn.Module = torch.jit.script(holder.eval())
        return scripted

    def _product(self, matrices: tuple[StoredMatrix, ...], constants: Mapping[str, Array]) -> Int8Product:
        """The matrices as one."""
        weights = [self._tensor(matrix.weight, constants) for matrix in matrices]
        weights = [weight if matrix.turned else weight.t() for weight, matrix in zip(weights, matrices, strict=True)]
        scales = [
            self._tensor(matrix.scale, constants).expand(len(weight))
            for weight, matrix in zip(weights, matrices, strict=True)
        ]
        biases = [
            torch.zeros(len(weight)) if matrix.bias is None else self._tensor(matrix.bias, constants)
            for weight, matrix in zip(weights, matrices, strict=True)
        ]
        bias = torch.cat(biases) if any(matrix.bias for matrix in matrices) else None
        whole = weights[0] if len(weights) == 1 else torch.cat(weights)
        return Int8Product(whole.contiguous(), torch.cat(scales), bias, matrices[0].turned, self._exact)


def _node(node: onnx.NodeProto) -> Node:
    attributes = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
    return Node(node.op_type, tuple(node.input), tuple(node.output), attributes)


def _with_numbers(node: Node, constants: Mapping[str, Array]) -> Node:
    """A node as operators take it: with constants that say how apart."""
    numbers = {
        index: constants[node.inputs[index]]
        for index in operators.NUMBERS.get(node.op, ())
        if index < len(node.inputs) and node.inputs[index] in constants
    }
    if node.op == "Gather" and 1 in numbers and numbers[1].ndim:
        numbers = {}
    inputs = tuple("" if index in numbers else name for index, name in enumerate(node.inputs))
    return replace(node, inputs=inputs, numbers=numbers)


class _Places:
    """Where constants are stored: the path of the module that uses each first, and a name there.

    Args:
        nodes: Of the graph, in the order in which they run.
    """

    def __init__(self, nodes: Iterable[onnx.NodeProto]) -> None:
        self._readers: dict[str, onnx.NodeProto] = {}
        for node in nodes:
            for name in node.input:
                self._readers.setdefault(name, node)
        self._taken: set[tuple[str, ...]] = set()

    def of(self, name: str) -> tuple[str, ...]:
        """A place that no other constant has."""
        # What a fusion adds lies beside what it is made of.
        reader = self._readers[re.sub(r"\.(bounds|float)$", "", name)]
        while not reader.name.startswith("/") and reader.op_type in _TO_FLOATS and reader.output[0] in self._readers:
            reader = self._readers[reader.output[0]]
        # An exporter names nodes by the path of their module, and constants as they are called there, or by numbers.
        path = [part for part in re.split(r"[/.]", reader.name)[:-1] if part]
        leaf = re.sub(r"^onnx::[A-Za-z]+_\d+", "weight", name.rpartition("/")[2])
        place = [re.sub(r"\W", "_", part) for part in (*path, ".".join(leaf.split(".")[-2:]))]
        while tuple(place) in self._taken:
            place[-1] += "_"
        self._taken.add(tuple(place))
        return tuple(place)
