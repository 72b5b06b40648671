"""The operators of exported encoders, in torch: what an ONNX node does with tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from numpy.typing import NDArray
from onnx import helper
from torch import Tensor


@dataclass(frozen=True)
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


@dataclass(frozen=True)
class Rounded:
    """Output of a DequantizeLinear before it is expanded to floats: value = (integer - zero point) * scale.

    Two of these are multiplied as integers.

    Attributes:
        integers: `(…)`.
        scale: `()`, or one for each entry along the axis, or of a shape that broadcasts.
        zero_point: Like `scale`; None for 0.
        axis: Where scales are.
        sums: Of a constant matrix `(inputs, outputs)`, the sum of each column, int32.
    """

    integers: Tensor
    scale: Tensor
    zero_point: Tensor | None
    axis: int
    sums: Tensor | None = None

    def expanded(self) -> Tensor:
        """As floats."""
        scale, zero_point = self.scale, self.zero_point
        if scale.ndim == 1:
            shape = [-1 if axis == self.axis % self.integers.ndim else 1 for axis in range(self.integers.ndim)]
            scale = scale.reshape(shape)
            zero_point = None if zero_point is None else zero_point.reshape(shape)
        integers = self.integers if zero_point is None else self.integers.to(torch.int32) - zero_point.to(torch.int32)
        return integers.to(scale.dtype) * scale


Value = Tensor | Rounded


def run(node: Node, *inputs: Value | None) -> tuple[Value, ...]:
    """The output of a node.

    Args:
        node: Its `op` is one of `SUPPORTED`.
        inputs: Its inputs; None where an optional one is left out.
    """
    if (whole := _ON_INTEGERS.get(node.op)) is not None:
        given: Value | tuple[Value, ...] = whole(node, *inputs)
    else:
        given = _ON_TENSORS[node.op](node, *floats(*inputs))
    return given if isinstance(given, tuple) else (given,)


def floats(*values: Any) -> tuple[Any, ...]:
    """The values as floats; quantized ones are expanded."""
    return tuple(value.expanded() if isinstance(value, Rounded) else value for value in values)


def _integer_product(a: Tensor, zero_point: Tensor | None, weight: Tensor, sums: Tensor) -> Tensor:
    """`(a - zero_point) @ weight` of integers, exactly; zero_point * sums is what the zero point adds to each output.

    On x86 processors with AVX2 alone torch 2.13 has only a plain loop for it: exact, and slow. ONNX Runtime adds pairs
    of products in 16 bits there, which can saturate: hence 7-bit weights (`reduce_range`) for those.

    Args:
        a: `(…, inputs)`, uint8 or int8.
        zero_point: `()`; None for 0.
        weight: `(inputs, outputs)`, int8.
        sums: Of the weight's columns, `(outputs,)`, int32.
    """
    product = torch._int_mm(a.flatten(0, -2), weight)
    if zero_point is not None:
        product = product - zero_point.to(torch.int32) * sums
    return product.reshape((*a.shape[:-1], -1))


def _multiply_integers(node: Node, a: Tensor, weight: Tensor, zero_point: Tensor, _: Tensor, sums: Tensor) -> Tensor:
    return _integer_product(a, zero_point, weight, sums)


def _multiply(node: Node, a: Value, b: Value) -> Tensor:
    if isinstance(a, Rounded) and isinstance(b, Rounded) and b.sums is not None and not a.scale.ndim:
        return _integer_product(a.integers, a.zero_point, b.integers, b.sums).to(b.scale.dtype) * (a.scale * b.scale)
    return torch.matmul(*floats(a, b))


def _gemm(node: Node, a: Value, b: Value, c: Value | None = None) -> Tensor:
    if node.attributes.get("transB", 0):
        b = floats(b)[0].t()
    product = _multiply(node, a, b)
    return product if c is None else product + floats(c)[0]


def _quantize_dynamically(node: Node, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Integers, scale and zero point from the range of the input; the range always holds 0."""
    low, high = torch.aminmax(x)
    low, high = low.clamp(max=0.0), high.clamp(min=0.0)
    scale = (high - low) / 255
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    zero_point = torch.round(-low / scale)
    integers = (torch.round(x / scale) + zero_point).clamp(0, 255)
    return integers.to(torch.uint8), scale, zero_point.to(torch.uint8)


def _quantize(node: Node, x: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
    """By a scale and a zero point that are known beforehand, one each."""
    bounds = torch.iinfo(zero_point.dtype)
    return (torch.round(x / scale) + zero_point).clamp(bounds.min, bounds.max).to(zero_point.dtype)


def _dequantize(
    node: Node, x: Tensor, scale: Tensor, zero_point: Tensor | None = None, sums: Tensor | None = None
) -> Rounded:
    return Rounded(x, scale, zero_point, node.attributes.get("axis", 1), sums)


def _gather(node: Node, data: Value, indices: Tensor | None) -> Tensor:
    axis = node.attributes.get("axis", 0)
    if indices is not None and isinstance(data, Rounded) and axis == 0 and (not data.scale.ndim or data.axis == 0):
        return _look_up(data, indices)
    (values,) = floats(data)
    if indices is None:
        one: Tensor = values.select(axis, int(node.numbers[1]))
        return one
    several: Tensor = values[(*(slice(None),) * axis, indices)]
    return several


def _look_up(table: Rounded, indices: Tensor) -> Tensor:
    """Rows of a table, expanded after they are looked up."""
    scale, zero_point = table.scale, table.zero_point
    if scale.ndim:
        scale = scale[indices][..., None]
        zero_point = None if zero_point is None else zero_point[indices][..., None]
    return Rounded(table.integers[indices], scale, zero_point, axis=0).expanded()


def _transpose(node: Node, x: Value) -> Value:
    order = node.attributes["perm"]
    if isinstance(x, Rounded):
        axis = order.index(x.axis % x.integers.ndim) if x.scale.ndim else x.axis
        return replace(x, integers=x.integers.permute(order), axis=axis, sums=None)
    return x.permute(order)


def _reshape(node: Node, x: Tensor, shape: Tensor | None) -> Tensor:
    """To a constant shape, where 0 stands for the size that is there, or to a computed one."""
    if shape is not None:
        sizes: tuple[Any, ...] = shape.unbind()  # a trace keeps sizes that are tensors free
        return x.reshape(sizes)
    return x.reshape([x.shape[index] if size == 0 else size for index, size in enumerate(node.ints(1))])


def _slice(node: Node, x: Tensor, starts: Tensor | None, ends: Tensor | None, *_: None) -> Tensor:
    """Along one axis; the bounds may be computed."""
    (axis,) = node.ints(3)
    (step,) = node.ints(4) if 4 in node.numbers else (1,)
    start, end = (node.ints(index)[0] if bound is None else bound[0] for index, bound in ((1, starts), (2, ends)))
    return x[(*(slice(None),) * (axis % x.ndim), slice(start, end, step))]


def _unsqueeze(node: Node, x: Tensor, _: None) -> Tensor:
    for axis in node.ints(1):
        x = x.unsqueeze(axis)
    return x


def _normalize(node: Node, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return torch.nn.functional.layer_norm(x, weight.shape, weight, bias, node.attributes.get("epsilon", 1e-5))


def _power(node: Node, x: Tensor, exponent: Tensor | None) -> Tensor:
    return torch.pow(x, float(node.numbers[1]) if exponent is None else exponent)


def _cast(node: Node, x: Tensor) -> Tensor:
    kind: torch.dtype = getattr(torch, helper.tensor_dtype_to_np_dtype(node.attributes["to"]).name)
    return x.to(kind)


def _codes(node: Node, packed: Tensor) -> Tensor:
    """Integers around zero from codes `(…, bytes)`: `(…, codes)`; the first of two 4-bit codes is in the low half."""
    if node.attributes["bits"] == 4:
        packed = torch.stack((packed & 15, packed >> 4), dim=-1).flatten(-2)
    middle: int = 1 << (node.attributes["bits"] - 1)
    return packed.to(torch.float32) - middle


def _in_blocks(x: Tensor, size: int) -> Tensor:
    return x.reshape((*x.shape[:-1], -1, size))


def _look_up_blocks(node: Node, packed: Tensor, indices: Tensor, scales: Tensor) -> Tensor:
    """Rows of a table in blocks that have a scale each."""
    rows = _in_blocks(_codes(node, packed[indices]), node.attributes["block_size"])
    return (rows * scales[indices][..., None]).flatten(-2)


def _multiply_blocks(node: Node, a: Tensor, packed: Tensor, scales: Tensor) -> Tensor:
    """`(…, K)` times a matrix `(N, blocks, bytes)`, expanded to floats for the product."""
    inputs, outputs, size = (node.attributes[name] for name in ("K", "N", "block_size"))
    if node.attributes.get("accuracy_level", 0) == 4:
        a = _round_blocks(a, inputs, size)
    weight = _codes(node, packed) * scales.reshape(outputs, -1, 1)
    return torch.nn.functional.linear(a, weight.flatten(1)[:, :inputs])


def _round_blocks(a: Tensor, width: int, size: int) -> Tensor:
    """Activations `(…, width)` rounded to int8, with a scale for each block: ONNX Runtime's accuracy level 4."""
    blocks = _in_blocks(torch.nn.functional.pad(a, (0, -width % size)), size)
    scale = blocks.abs().amax(-1, keepdim=True) / 127
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    return (torch.round(blocks / scale) * scale).flatten(-2)[..., :width]


_ELEMENTWISE: dict[str, Callable[..., Tensor]] = {
    "Add": torch.add, "Sub": torch.sub, "Mul": torch.mul, "Div": torch.div, "Equal": torch.eq, "Where": torch.where,
    "Erf": torch.erf, "Tanh": torch.tanh, "Relu": torch.relu, "Sigmoid": torch.sigmoid, "Sqrt": torch.sqrt,
    "Neg": torch.neg, "Clip": torch.clamp, "HardSwish": torch.nn.functional.hardswish,
    "Softplus": torch.nn.functional.softplus, "Mish": torch.nn.functional.mish,
}  # fmt: skip

_ON_TENSORS: dict[str, Callable[..., Value | tuple[Value, ...]]] = {
    **{op: lambda node, *inputs, function=function: function(*inputs) for op, function in _ELEMENTWISE.items()},
    "Cast": _cast,
    "Concat": lambda node, *parts: torch.cat(parts, node.attributes["axis"]),
    "DynamicQuantizeLinear": _quantize_dynamically,
    "GatherBlockQuantized": _look_up_blocks,
    "LayerNormalization": _normalize,
    "LeakyRelu": lambda node, x: torch.nn.functional.leaky_relu(x, node.attributes.get("alpha", 0.01)),
    "MatMulInteger": _multiply_integers,
    "MatMulNBits": _multiply_blocks,
    "Pow": _power,
    "QuantizeLinear": _quantize,
    "Reshape": _reshape,
    "Shape": lambda node, x: torch._shape_as_tensor(x)[node.attributes.get("start", 0) : node.attributes.get("end")],
    "Slice": _slice,
    "Softmax": lambda node, x: torch.softmax(x, node.attributes.get("axis", -1)),
    "Split": lambda node, x, _: torch.split(x, node.ints(1), node.attributes.get("axis", 0)),
    "Squeeze": lambda node, x, _: torch.squeeze(x, node.ints(1)),
    "Unsqueeze": _unsqueeze,
}
_ON_INTEGERS: dict[str, Callable[..., Value]] = {
    "DequantizeLinear": _dequantize,
    "Gather": _gather,
    "Gemm": _gemm,
    "Identity": lambda node, x: x,
    "MatMul": _multiply,
    "Transpose": _transpose,
}
"""Operators that take quantized values, not expanded to floats."""

NUMBERS = {
    "Gather": (1,),
    "Pow": (1,),
    "Reshape": (1,),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "Squeeze": (1,),
    "Unsqueeze": (1,),
}
"""Inputs that are read when the graph is built, where they are constants; of a Gather if it is one index."""

SUPPORTED = frozenset({*_ON_TENSORS, *_ON_INTEGERS})
"""Kinds of nodes that `run` knows."""
