"""Modules that hold small weights: in a file as integers or halves, in memory as torch's kernels take them.

They are scripted, and say what of them is stored (`__getstate__`) and what becomes of that when a file is loaded
(`__setstate__`). So one file fits every engine of integer products: each packs weights in its own way. TorchScript
reads the annotations of what it compiles, as objects: none are postponed here.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

_Method = TypeVar("_Method", bound=Callable[..., Any])
_export = cast("Callable[[_Method], _Method]", torch.jit.export)

_Int8State = tuple[Tensor, Tensor, Tensor | None, bool, bool, bool]


class Int8Product(nn.Module):
    """`x @ weight.T + bias` in integers: x becomes uint8 by its range, which all its rows share.

    Args:
        weight: `(outputs, inputs)`, int8.
        scales: Of each output, `(outputs,)`.
        bias: `(outputs,)`.
        shared: Whether something else reads the same integers, so that the file has to hold them as this very tensor.
        exact: Whether x is rounded as graphs round it, to the last value; it takes time.
    """

    weight: Tensor | None

    def __init__(self, weight: Tensor, scales: Tensor, bias: Tensor | None, shared: bool, exact: bool) -> None:
        super().__init__()
        self.__setstate__((weight, scales, bias, shared, exact, False))

    def forward(self, x: Tensor) -> Tensor:
        """`(…, outputs)` of `(…, inputs)`.

        The kernel multiplies by the inverse of a step and rounds with the zero point added; graphs divide by it and
        round before. One value in 20,000, close to the middle of two integers, becomes the other one. To be exact,
        values are rounded to steps of the range before the kernel rounds them; but not a row alone, such as the
        pooler's, which has few values.
        """
        if self.exact and x.numel() > x.size(-1):
            x = self.rounded(x)
        product: Tensor = torch.ops.quantized.linear_dynamic(x, self.packed, False)
        return product

    def rounded(self, x: Tensor) -> Tensor:
        """Values as whole numbers of steps of their range, of which there are 255."""
        low, high = torch.aminmax(x)
        if float(low) > 0.0 or float(high) < 0.0:
            low, high = low.clamp(max=0.0), high.clamp(min=0.0)
        step = (high - low) / self.steps
        return (x / step).round_().mul_(step) if float(step) > 0.0 else x

    @_export
    def __getstate__(self) -> _Int8State:
        whole, bias = torch.ops.quantized.linear_unpack(self.packed)
        own = self.weight
        integers = whole.int_repr() if own is None else own
        return (
            integers,
            whole.q_per_channel_scales().to(torch.float32),
            bias,
            own is not None,
            self.exact,
            self.training,
        )

    @_export
    def __setstate__(self, state: _Int8State) -> None:
        weight, scales, bias, shared, self.exact, self.training = state
        self.steps = torch.tensor(255.0)
        self.weight = weight if shared else None
        zeros = torch.zeros([scales.numel()], dtype=torch.int64)
        whole = torch._make_per_channel_quantized_tensor(weight, scales, zeros, 0)
        self.packed = torch.ops.quantized.linear_prepack(whole, bias)


_HalvesState = tuple[Tensor, bool]


class ExpandedHalves(nn.Module):
    """Numbers that are stored in half precision, as floats.

    Args:
        stored: Half precision.
    """

    def __init__(self, stored: Tensor) -> None:
        super().__init__()
        self.__setstate__((stored, False))

    def forward(self) -> Tensor:
        """The numbers."""
        return self.weight

    @_export
    def __getstate__(self) -> _HalvesState:
        return self.stored, self.training

    @_export
    def __setstate__(self, state: _HalvesState) -> None:
        self.stored, self.training = state
        self.weight = self.stored.to(torch.float32)


_BlocksState = tuple[Tensor, Tensor, int, int, bool]


class ExpandedBlocks(nn.Module):
    """A matrix that is stored as small integers with a scale for each block of neighbours, as floats.

    Args:
        codes: `(outputs, bytes of a row)`, uint8; of two 4-bit codes in a byte, the first is in the low half.
        scales: `(outputs, blocks)`, half precision.
        bits: Of a code.
        width: Inputs; what fills rows up to whole blocks is cut off.
    """

    def __init__(self, codes: Tensor, scales: Tensor, bits: int, width: int) -> None:
        super().__init__()
        self.__setstate__((codes, scales, bits, width, False))

    def forward(self) -> Tensor:
        """`(inputs, outputs)`."""
        return self.weight

    @_export
    def __getstate__(self) -> _BlocksState:
        return self.codes, self.scales, self.bits, self.width, self.training

    @_export
    def __setstate__(self, state: _BlocksState) -> None:
        self.codes, self.scales, self.bits, self.width, self.training = state
        rows = expanded(self.codes, self.scales.to(torch.float32), self.bits)
        self.weight = rows[:, : self.width].contiguous().t()


def expanded(codes: Tensor, scales: Tensor, bits: int) -> Tensor:
    """Rows of blocks as floats.

    Args:
        codes: `(…, bytes)`, uint8; see `ExpandedBlocks`.
        scales: `(…, blocks)`.
        bits: Of a code.

    Returns:
        `(…, codes)`.
    """
    if bits == 4:
        codes = torch.stack((codes & 15, codes >> 4), dim=-1).flatten(-2)
    centred = codes.to(torch.float32) - (1 << (bits - 1))
    return (centred.reshape(scales.numel(), -1) * scales.reshape(-1, 1)).reshape(codes.shape)
