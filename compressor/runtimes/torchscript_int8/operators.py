"""The operators of exported encoders, in torch: what an ONNX node does with tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from numpy.typing import NDArray
from onnx import helper
from torch import Tensor

from compressor.runtimes.torchscript_int8.weights import expanded


@dataclass(frozen=True, eq=False)
class Node:
    """A node, as operators see it.

    Attributes:
        op: Its kind.
        inputs: Names; empty where an optional one is left out.
        outputs: Names.
        attributes: By name.
        numbers: Inputs that are constants which say how, by index: shapes, axes, exponents. `run` is given None for
            them.
    """

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    numbers: Mapping[int, NDArray[Any]] = field(default_factory=dict)

    def ints(self, index: int) -> list[int]:
        """A constant input as whole numbers."""
        return [int(number) for number in self.numbers[index].reshape(-1)]


def run(node: Node, *inputs: Tensor | None) -> tuple[Tensor, ...]:
    """The output of a node.

    Args:
        node: Its `op` is one of `SUPPORTED`.
        inputs: Its inputs; None where an optional one is left out.
    """
    given = _OPERATORS[node.op](node, *inputs)
    return given if isinstance(given, tuple) else (given,)


def _gemm(node: Node, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    return torch.addmm(c, a, b.t() if node.attributes.get("transB", 0) else b)


def _attend(node: Node, query: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    """`softmax(query @ keys * scale + mask) @ values`, of keys `(batch, heads, width, tokens)`."""
    return torch.nn.functional.scaled_dot_product_attention(
        query, keys.transpose(-1, -2), values, mask, scale=node.attributes["scale"]
    )


def _dequantize(node: Node, x: Tensor, scale: Tensor, zero_point: Tensor | None = None) -> Tensor:
    """With one scale for all; the zero point is a float."""
    return (x if zero_point is None else x - zero_point) * scale


def _gather(node: Node, data: Tensor, indices: Tensor | None) -> Tensor:
    axis = node.attributes.get("axis", 0)
    if indices is None:
        return data.select(axis, int(node.numbers[1]))
    if axis == 0 and data.ndim == 2:
        return torch.nn.functional.embedding(indices, data)
    several: Tensor = data[(*(slice(None),) * axis, indices)]
    return several


def _look_up_blocks(node: Node, codes: Tensor, indices: Tensor, scales: Tensor) -> Tensor:
    """Rows of a table in blocks that have a scale each."""
    look_up = torch.nn.functional.embedding
    return expanded(look_up(indices, codes), look_up(indices, scales), node.attributes["bits"])


def _reshape(node: Node, x: Tensor, *computed: Tensor | None) -> Tensor:
    """To a constant shape, where 0 stands for the size that is there, or to one of which sizes are computed."""
    if (sizes := node.attributes.get("sizes")) is None:
        return x.reshape([x.shape[index] if size == 0 else size for index, size in enumerate(node.ints(1))])
    rest = iter(computed)
    whole: tuple[Any, ...] = tuple(next(rest) if size is None else size for size in sizes)
    return x.reshape(whole)  # a trace keeps sizes that are tensors free


def _slice(node: Node, x: Tensor, starts: Tensor | None, ends: Tensor | None, *_: None) -> Tensor:
    """Along one axis; the bounds may be computed."""
    (axis,) = node.ints(3)
    (step,) = node.ints(4) if 4 in node.numbers else (1,)
    start, end = (node.ints(index)[0] if bound is None else bound for index, bound in ((1, starts), (2, ends)))
    return x[(*(slice(None),) * (axis % x.ndim), slice(start, end, step))]


def _unsqueeze(node: Node, x: Tensor, _: None) -> Tensor:
    for axis in node.ints(1):
        x = x.unsqueeze(axis)
    return x


def _normalize(node: Node, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return torch.nn.functional.layer_norm(
        x, node.attributes["shape"], weight, bias, node.attributes.get("epsilon", 1e-5)
    )


def _power(node: Node, x: Tensor, exponent: Tensor | None) -> Tensor:
    return torch.pow(x, float(node.numbers[1]) if exponent is None else exponent)


def _cast(node: Node, x: Tensor) -> Tensor:
    kind: torch.dtype = getattr(torch, helper.tensor_dtype_to_np_dtype(node.attributes["to"]).name)
    return x.to(kind)


_ELEMENTWISE: dict[str, Callable[..., Tensor]] = {
    "Add": torch.add, "Sub": torch.sub, "Mul": torch.mul, "Div": torch.div, "Equal": torch.eq, "Where": torch.where,
    "Erf": torch.erf, "Tanh": torch.tanh, "Relu": torch.relu, "Sigmoid": torch.sigmoid, "Sqrt": torch.sqrt,
    "Not": torch.logical_not, "And": torch.logical_and, "Greater": torch.gt, "Abs": torch.abs, "Cos": torch.cos,
    "Sin": torch.sin, "Neg": torch.neg, "Clip": torch.clamp, "HardSwish": torch.nn.functional.hardswish,
    "Softplus": torch.nn.functional.softplus, "Mish": torch.nn.functional.mish, "Max": torch.maximum,
    "Min": torch.minimum, "Round": torch.round,
}  # fmt: skip

_OPERATORS: dict[str, Callable[..., Tensor | tuple[Tensor, ...]]] = {
    **{op: lambda node, *inputs, function=function: function(*inputs) for op, function in _ELEMENTWISE.items()},
    "ScaledDotProductAttention": _attend,
    "Cast": _cast,
    "Concat": lambda node, *parts: torch.cat(parts, node.attributes["axis"]),
    "CumSum": lambda node, x, _: torch.cumsum(x, node.ints(1)[0], dtype=x.dtype),
    "DequantizeLinear": _dequantize,
    "Gather": _gather,
    "GatherBlockQuantized": _look_up_blocks,
    "GatherElements": lambda node, x, indices: torch.gather(x, node.attributes.get("axis", 0), indices),
    "ErfGelu": lambda node, x: torch.nn.functional.gelu(x),
    "Gemm": _gemm,
    "Identity": lambda node, x: x,
    "LayerNormalization": _normalize,
    "LeakyRelu": lambda node, x: torch.nn.functional.leaky_relu(x, node.attributes.get("alpha", 0.01)),
    "MatMul": lambda node, a, b: torch.matmul(a, b),
    "Pow": _power,
    "ReduceMax": lambda node, x: torch.amax(x, node.attributes["axes"], bool(node.attributes.get("keepdims", 1))),
    "ReduceMin": lambda node, x: torch.amin(x, node.attributes["axes"], bool(node.attributes.get("keepdims", 1))),
    "ReduceSum": lambda node, x, _: torch.sum(x, node.ints(1), keepdim=bool(node.attributes.get("keepdims", 1))),
    "Reshape": _reshape,
    "Shape": lambda node, x: torch._shape_as_tensor(x)[node.attributes.get("start", 0) : node.attributes.get("end")],
    "Size": lambda node, x: x.shape[node.attributes["axis"]],
    "Slice": _slice,
    "Softmax": lambda node, x: torch.softmax(x, node.attributes.get("axis", -1)),
    "Split": lambda node, x, _: torch.split(x, node.ints(1), node.attributes.get("axis", 0)),
    "Squeeze": lambda node, x, _: torch.squeeze(x, node.ints(1)),
    "Transpose": lambda node, x: x.permute(node.attributes["perm"]),
    "Unsqueeze": _unsqueeze,
}

NUMBERS = {
    "CumSum": (1,),
    "Gather": (1,),
    "Pow": (1,),
    "ReduceSum": (1,),
    "Reshape": (1,),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "Squeeze": (1,),
    "Unsqueeze": (1,),
}
"""Inputs that are read when the graph is built, where they are constants; of a Gather if it is one index."""

SUPPORTED = frozenset(_OPERATORS)
"""Kinds of nodes that `run` knows."""
