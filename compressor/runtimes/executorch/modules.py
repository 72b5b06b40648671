"""A model's parts in the operators that XNNPACK takes, for one row at a time.

What XNNPACK does not take runs in portable kernels, which are slow, and cuts the graph: between two of its parts
everything goes through memory, and each is compiled on its own. LayerNorm, and attention over a batch, are such cuts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers import AttentionInterface, activations
from transformers.masking_utils import AttentionMaskInterface, eager_mask

from compressor.models.block_rounding import round_rows

ATTENTION = "one_row"
"""transformers' name of the attention below, for `attn_implementation`."""

_LEAST_OF_HALVES = 1e-6
"""Added to variances in half precision, at least."""


def attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """Attention of one row, in products of three dimensions: those of four are none that XNNPACK takes.

    Args:
        module: The attention block.
        query: `(1, heads, sequence, width)`.
        key: As the query.
        value: As the query.
        attention_mask: What is added to the scores, `(1, 1, 1, sequence)`, or `(1, 1, sequence, sequence)`; None for
            nothing.
        options: `scaling`: what the scores are multiplied with. The others are of training.

    Returns:
        `(1, sequence, heads, width)`, and no probabilities.
    """
    _, heads, _, width = query.shape
    q, k, v = (tensor.transpose(1, 2).reshape(-1, heads, width).transpose(0, 1) for tensor in (query, key, value))
    scores = torch.bmm(q, k.transpose(1, 2)) * float(options.get("scaling") or width**-0.5)
    if attention_mask is not None:
        mask = attention_mask[0]
        if scores.dtype == torch.float16:  # a sum below its range is -inf, and a row of those has no softmax
            mask = mask.clamp(min=torch.finfo(torch.float16).min / 2).to(torch.float16)
        scores = scores + mask
    return torch.bmm(scores.softmax(dim=-1), v).transpose(0, 1)[None], None


AttentionInterface.register(ATTENTION, attention)
AttentionMaskInterface.register(ATTENTION, eager_mask)


class RowNorm(nn.Module):
    """LayerNorm in elementary steps; its means are products with a constant, which XNNPACK has for any shape.

    Args:
        norm: The LayerNorm, whose weights it has.
    """

    mean: Tensor

    def __init__(self, norm: nn.LayerNorm) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps
        (width,) = norm.normalized_shape
        self.register_buffer("mean", torch.full((1, width), 1 / width), persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        """`(..., width)` in and out."""
        centred = inputs - linear(inputs, self.mean)
        variance = linear(centred * centred, self.mean)
        # In half precision 1e-12 is 0, and a token whose vectors are all zero, as RoBERTa's padding is, would be NaN.
        eps = max(self.eps, _LEAST_OF_HALVES) if inputs.dtype == torch.float16 else self.eps
        scaled = centred * torch.rsqrt(variance + eps) * self.weight
        return scaled if self.bias is None else scaled + self.bias


class SmallTable(nn.Module):
    """An embedding table in 4 bits, in blocks of a row with a scale each; one operator expands the rows it looks up.

    Args:
        table: The table, in floats.
    """

    block_size = 64
    """Neighbours that share a scale."""
    codes: Tensor
    scales: Tensor

    def __init__(self, table: nn.Embedding) -> None:
        super().__init__()
        blocks = round_rows(table.weight.detach().numpy(), 4, self.block_size)
        codes = blocks.codes.reshape(len(blocks.codes), -1)
        self.width = blocks.width
        # Of two codes in a byte, this operator has the first in the high half.
        self.register_buffer("codes", torch.from_numpy(codes << 4 | codes >> 4))
        self.register_buffer("scales", torch.from_numpy(blocks.scales))

    def forward(self, ids: Tensor) -> Tensor:
        """Ids `(…)` in, rows `(…, width)` out."""
        look_up = torch.ops.quantized_decomposed.embedding_4bit.dtype
        rows: Tensor = look_up(self.codes, self.scales, None, -8, 7, ids, dtype=torch.float32)
        return rows[..., : self.width] if rows.shape[-1] > self.width else rows


class HalfGelu(nn.Module):
    """gelu by a sigmoid, for half precision, in which XNNPACK has no gelu; off by 5e-4 at most, as half precision is.

    Source: Hendrycks and Gimpel, Gaussian Error Linear Units, section 2: the approximation by tanh, written as sigmoid.
    """

    def forward(self, inputs: Tensor) -> Tensor:
        """Any shape."""
        return inputs * torch.sigmoid(inputs * (1.5957691216 + 0.0713548162 * (inputs * inputs)))


class InFloat(nn.Module):
    """A module in single precision within a model in half precision.

    Args:
        module: The module; takes floats, or ids.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, inputs: Tensor) -> Tensor:
        """As the module's, in half precision where it takes floats."""
        output: Tensor = self.module(inputs.float() if inputs.is_floating_point() else inputs)
        return output.half()


def replace(module: nn.Module, kinds: tuple[type[nn.Module], ...], make: Callable[[Any], nn.Module]) -> None:
    """Replaces all parts of some kinds, in place; one that is used in several places stays one.

    Args:
        module: The model.
        kinds: Classes of the parts.
        make: The new part for an old one.
    """
    made: dict[nn.Module, nn.Module] = {}
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, kinds):
                if child not in made:
                    made[child] = make(child)
                setattr(parent, name, made[child])


class InFloats(nn.Module):
    """A model whose outputs of numbers are single precision, whatever it computes in; integers stay.

    Args:
        module: The model.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The outputs."""
        given = self.module(*inputs)
        outputs = given if isinstance(given, tuple) else (given,)
        return tuple(output.float() if output.is_floating_point() else output for output in outputs)


def to_half(model: nn.Module, stays: Callable[[str], bool], *, tables: bool) -> None:
    """Brings a model into half precision, in place.

    Args:
        model: The model.
        stays: Whether a matrix or a table stays in float, by its name.
        tables: Whether embedding tables are brought along.
    """
    parts = [(name, part) for name, part in model.named_modules() if isinstance(part, nn.Linear | nn.Embedding)]
    named = [part for name, part in parts if stays(name) or (isinstance(part, nn.Embedding) and not tables)]
    floats = {tensor for part in named for tensor in part.parameters()}
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.is_floating_point() and tensor not in floats:
            tensor.data = tensor.data.half()
    kept = {part for _, part in parts if not floats.isdisjoint(part.parameters())}
    replace(model, (nn.Linear, nn.Embedding), lambda part: InFloat(part) if part in kept else part)
    replace(model, (activations.GELUActivation,), lambda _: HalfGelu())
