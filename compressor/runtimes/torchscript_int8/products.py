"""Products of integers: every spelling of one becomes a node of its own."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace

import numpy as np

from compressor.runtimes.torchscript_int8.graph import NodeGraph
from compressor.runtimes.torchscript_int8.operators import Node


@dataclass(frozen=True)
class StoredMatrix:
    """A weight of a product of integers.

    Attributes:
        weight: The constant that holds it.
        turned: Whether the constant is `(outputs, inputs)`, as a table that is also looked up in.
        scale: The constant with its scale, or that of each output.
        bias: What is added to the product, if that is the same wherever the weight is used.
    """

    weight: str
    turned: bool
    scale: str
    bias: str | None = None


@dataclass(frozen=True)
class _Product:
    """A product of integers as a graph spells it.

    Attributes:
        source: What becomes integers and is multiplied.
        bounds: Of the source, where they are known beforehand.
        matrix: The weight.
        result: The product as floats.
        summed: The same with its bias.
        bias: The constant that is the bias.
        at: The node before which everything is known.
    """

    source: str
    bounds: tuple[float, float] | None
    matrix: StoredMatrix
    result: str
    summed: str
    bias: str | None
    at: Node


def fuse_products(graph: NodeGraph) -> None:
    """One product for all matrices that the same integers are multiplied with."""
    found = [product for node in graph.nodes if (product := _product(graph, node)) is not None]
    biases, partners = defaultdict(set), defaultdict(set)
    groups: dict[tuple[str, tuple[float, float] | None], list[_Product]] = defaultdict(list)
    for product in found:
        groups[product.source, product.bounds].append(product)
        biases[product.matrix].add(product.bias)
    for group in groups.values():
        names = tuple(product.matrix for product in group)
        for matrix in names:
            partners[matrix].add(names)
    made: dict[Node, list[Node]] = defaultdict(list)
    for (source, bounds), group in groups.items():
        # Matrices that layers share are joined with those only that they always come together with.
        parts: dict[object, list[_Product]] = defaultdict(list)
        for product in group:
            matrix = product.matrix
            parts[matrix if matrix.turned else frozenset(partners[matrix])].append(product)
        for part in parts.values():
            matrices, results, sums = list[StoredMatrix](), list[str](), list[Node]()
            for product in part:
                same = len(biases[product.matrix]) == 1
                matrices.append(replace(product.matrix, bias=product.bias if same else None))
                inside = not same and product.bias is not None and product.summed == product.result
                results.append(f"{product.result}.product" if inside else product.summed if same else product.result)
                if inside:
                    sums.append(Node("Add", (results[-1], str(product.bias)), (product.result,)))
            widths = [graph.constants[matrix.weight].shape[not matrix.turned] for matrix in matrices]
            how = {"matrices": tuple(matrices), "widths": widths, "bounds": bounds}
            inputs = (source,) if bounds is None else (source, _row(graph, source, bounds, matrices[0]))
            made[part[0].at] += [Node("IntegerProduct", inputs, tuple(results), how), *sums]
    gone = {name for node_list in made.values() for node in node_list for name in node.outputs}
    graph.set(
        new
        for node in graph.nodes
        for new in (*made.get(node, ()), *(() if gone.intersection(node.outputs) else (node,)))
    )


def _product(graph: NodeGraph, node: Node) -> _Product | None:
    if node.op == "MatMulInteger":
        return _dynamic(graph, node)
    return _static(graph, node) if node.op in ("MatMul", "Gemm") else None


def _dynamic(graph: NodeGraph, node: Node) -> _Product | None:
    """DynamicQuantizeLinear, MatMulInteger, Cast, and Mul by both scales."""
    rounding, stored = graph.maker.get(node.inputs[0]), graph.stored(node.inputs[1])
    cast = graph.after(node.outputs[0], "Cast")
    scaled = graph.after(cast.outputs[0], "Mul") if cast else None
    if rounding is None or rounding.op != "DynamicQuantizeLinear" or stored is None or cast is None or not scaled:
        return None
    scales = graph.maker[graph.other(scaled, cast.outputs[0])]
    scale = graph.other(scales, rounding.outputs[1])
    return _found(graph, rounding.inputs[0], None, StoredMatrix(*stored, scale), scaled.outputs[0], None, rounding)


def _static(graph: NodeGraph, node: Node) -> _Product | None:
    """QuantizeLinear and DequantizeLinear before a product with a DequantizeLinear of a constant."""
    ends = [graph.maker.get(name) for name in node.inputs[:2]]
    if any(end is None or end.op != "DequantizeLinear" for end in ends):
        return None
    activation, weight = (end for end in ends if end is not None)
    rounding, stored = graph.maker.get(activation.inputs[0]), graph.stored(weight.inputs[0])
    if rounding is None or rounding.op != "QuantizeLinear" or stored is None:
        return None
    scale, zero_point = (graph.number(name) for name in rounding.inputs[1:3])
    assert scale is not None and zero_point is not None
    whole = np.iinfo(graph.constants[rounding.inputs[2]].dtype.name)
    bounds = (whole.min - zero_point) * scale, (whole.max - zero_point) * scale
    matrix = StoredMatrix(*stored, weight.inputs[1])
    return _found(graph, rounding.inputs[0], bounds, matrix, node.outputs[0], node, rounding)


def _found(
    graph: NodeGraph,
    source: str,
    bounds: tuple[float, float] | None,
    matrix: StoredMatrix,
    result: str,
    gemm: Node | None,
    at: Node,
) -> _Product:
    bias, summed = None, result
    if gemm is not None and len(gemm.inputs) > 2:
        bias = _float_bias(graph, gemm.inputs[2])
    elif (add := graph.after(result, "Add")) is not None:
        other = graph.other(add, result)
        if other in graph.constants and graph.constants[other].ndim == 1:
            bias, summed = other, add.outputs[0]
    return _Product(source, bounds, matrix, result, summed, bias, at)


def _float_bias(graph: NodeGraph, name: str) -> str:
    """A bias as floats, where it is stored as integers in steps of the product."""
    if name not in graph.constants:
        integers, scale = (graph.constants[part] for part in graph.maker[name].inputs[:2])
        graph.constants[name] = np.multiply(integers, scale, dtype=np.float32)
    return name


def _row(graph: NodeGraph, source: str, bounds: tuple[float, float], matrix: StoredMatrix) -> str:
    """A row of what is multiplied, that has the whole range of it."""
    row = np.zeros((1, graph.constants[matrix.weight].shape[matrix.turned]), dtype=np.float32)
    row[0, :2] = bounds
    graph.constants[f"{source}.bounds"] = row
    return f"{source}.bounds"
