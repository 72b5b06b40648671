"""A range for each row of activations, where a few tokens' are so large that one range leaves the others few steps.

DynamicQuantizeLinear takes one range over all rows, which are tokens. Some models have a neuron that is tens of times
larger than all others at one or two tokens of every text: all-mpnet-base-v2 in front of `output.dense` of layers 6 to
10, where one range leaves most tokens less than 4 bits. Each row is divided by its range before the product, and the
product's rows are multiplied by it. The product stays one of integers, and ONNX Runtime still fuses it.

Source: Sun et al. 2024, "Massive Activations in Large Language Models" (arXiv 2402.17762), for the activations; Yao et
al. 2022, "ZeroQuant" (arXiv 2206.01861), section 4.1, for a range for each token.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import onnx

from compressor.progress import Step
from compressor.runtimes import Inputs

LIMIT = 16.0
"""How many times the usual token's range the range of all may be: with 16, the usual token has 16 of 256 steps.

A range for each row costs a few passes over the activations. On STS-13 five products of all-mpnet-base-v2 have 19 to
37, and ranges for these alone undo most of the loss; its others have at most 12, MiniLM's at most 10."""
_ZERO, _LEAST = "row_ranges.zero", "row_ranges.least"


def wanted(graph: Path, sample: list[Inputs], step: Step | None = None) -> tuple[str, ...]:
    """The weight matrices whose activations need a range for each row, by name.

    Args:
        graph: A float .onnx file.
        sample: Texts to run it on, one in each.
        step: Progress, in texts.
    """
    from compressor.quantization import calibration, weight_matrices

    model, every = weight_matrices.read(graph)
    tensors = list(dict.fromkeys(name for matrix in every for name in matrix.activations))
    session = calibration.session_with(model, tensors)
    found: dict[str, list[float]] = defaultdict(list)
    for done, inputs in enumerate(sample, start=1):
        for name, values in zip(tensors, session.run(tensors, inputs), strict=True):
            found[name].append(spread(values))
        if step:
            step.update(done, len(sample))
    large = {name for name, spreads in found.items() if np.median(spreads) > LIMIT}
    return tuple(matrix.name for matrix in every if not large.isdisjoint(matrix.activations))


def spread(activations: NDArray[np.float32]) -> float:
    """Range of all activations of a text, divided by the median range of its tokens; ranges include 0.

    Args:
        activations: `(…, width)`. Tokens without any activation are left out: zeros are exact in any range.
    """
    low = np.minimum(activations.min(axis=-1), 0).reshape(-1)
    high = np.maximum(activations.max(axis=-1), 0).reshape(-1)
    rows = high - low
    return float((high.max() - low.min()) / np.median(rows[rows > 0])) if rows.any() else 1.0


def place(model: onnx.ModelProto, products: Collection[str]) -> None:
    """Divides rows by their ranges in front of products, and multiplies the results' rows by them, in place.

    Args:
        model: A float graph, as `weight_matrices.read` gives it.
        products: Names of nodes, each a MatMul, or a Gemm that only adds a bias to a product.
    """
    from onnx import helper, numpy_helper

    nodes: list[onnx.NodeProto] = []
    ranges: dict[str, str] = {}
    for node in model.graph.node:
        if node.name not in products:
            nodes.append(node)
            continue
        rows, weight, *bias = node.input
        (result,) = node.output
        if rows not in ranges:
            ranges[rows] = f"{rows}.range"
            nodes += _even(rows, ranges[rows])
        product, scaled = f"{result}.of_even", f"{result}.product" if bias else result
        nodes += [
            helper.make_node("MatMul", [f"{rows}.even", weight], [product], name=node.name),
            helper.make_node("Mul", [product, ranges[rows]], [scaled], name=f"{node.name}/rows"),
        ]
        if bias:
            nodes.append(helper.make_node("Add", [scaled, *bias], [result], name=f"{node.name}/bias"))
    if ranges:
        # Zero is in every range, and a row of zeros is divided by more than that.
        bounds = {_ZERO: np.float32(0), _LEAST: np.finfo(np.float32).tiny}
        model.graph.initializer.extend(numpy_helper.from_array(np.array(bound), name) for name, bound in bounds.items())
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _even(rows: str, result: str) -> list[onnx.NodeProto]:
    """Nodes that find the ranges of rows, and divide the rows by them."""
    from onnx import helper

    def node(operator: str, inputs: list[str], output: str, **attributes: object) -> onnx.NodeProto:
        return helper.make_node(operator, inputs, [output], name=f"{output}/{operator}", **attributes)

    # Not by the largest magnitude: all rows would reach from -1 to 1, whose middle lies between two integers.
    return [
        node("ReduceMax", [rows], f"{rows}.greatest", axes=[-1]),
        node("ReduceMin", [rows], f"{rows}.smallest", axes=[-1]),
        node("Max", [f"{rows}.greatest", _LEAST], f"{rows}.high"),
        node("Min", [f"{rows}.smallest", _ZERO], f"{rows}.low"),
        node("Sub", [f"{rows}.high", f"{rows}.low"], result),
        node("Div", [rows, result], f"{rows}.even"),
    ]
