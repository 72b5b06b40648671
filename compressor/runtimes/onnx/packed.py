"""Unpacks the weights of ONNX Runtime's block-wise operators."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

_WEIGHT = {"MatMulNBits": 1, "GatherBlockQuantized": 0}
"""Which input of an operator is its weight; inputs 2 and 3 are the scales and the zero points."""


@dataclass(frozen=True)
class Packed:
    """A weight of small integers.

    Attributes:
        bits: Of an integer.
        shape: `(rows, width)`, without what fills rows up.
        scales: The constants that belong to it: scales, and zero points where it has them.
    """

    bits: int
    shape: tuple[int, ...]
    scales: tuple[str, ...]


def packed(graph: onnx.GraphProto, forms: Mapping[str, str]) -> dict[str, Packed]:
    """Packed weights, by the name of the constant that stores them.

    Args:
        graph: The graph.
        forms: `onnx_coverage.forms_of_constants` of it.
    """
    from compressor.runtimes.onnx.rewrite import attribute

    found: dict[str, Packed] = {}
    for node in graph.node:
        weight = forms.get(node.input[_WEIGHT[node.op_type]]) if node.op_type in _WEIGHT else None
        if weight is None:
            continue
        bits = int(attribute(node, "bits", 4))
        scales = tuple(forms[name] for name in node.input[2:4] if name in forms)
        if node.op_type == "MatMulNBits":
            found[weight] = Packed(bits, (attribute(node, "N", 0), attribute(node, "K", 0)), scales)
        else:
            found.setdefault(weight, Packed(bits, _table(graph, node, weight, bits), scales))
    return found


def _table(graph: onnx.GraphProto, node: onnx.NodeProto, weight: str, bits: int) -> tuple[int, ...]:
    """Rows and width of a table; where the looked-up rows are cut, the cut gives the width."""
    from onnx import TensorProto, numpy_helper

    constants = {tensor.name: tensor for tensor in graph.initializer}
    rows, *stored = constants[weight].dims
    codes_in_element = 8 // bits if constants[weight].data_type == TensorProto.UINT8 else 1
    width = math.prod(stored) * codes_in_element
    for other in graph.node:
        if other.op_type == "Slice" and other.input[0] == node.output[0] and other.input[2] in constants:
            width = int(numpy_helper.to_array(constants[other.input[2]]).item())
    return rows, width
