"""Fake quantization: a model in training rounds what its int8 form will round, and gradients pass through."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn
from torch.nn import functional
from transformers import TrainerCallback

from compressor.models.block_rounding import round_rows
from compressor.models.convert import modules
from compressor.models.families import is_token_table
from compressor.quantization import Ranges, Settings, rounding, small_tables

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from compressor.quantization.weight_matrices import Bias

PART = "fake_quantization"
"""Name of the part of a model in training that rounds; it is not saved."""


class _Rounding(torch.autograd.Function):
    """Rounds to whole steps. Gradients pass as if it did not, but none where a value was clipped.

    Source: Jacob et al. 2018, "Quantization and training of neural networks" (arXiv 1712.05877), section 3, eq. 12;
        Bengio et al. 2013 (arXiv 1308.3432), section 4, for gradients that pass straight through.
    """

    @staticmethod
    def forward(
        ctx: Any, values: torch.Tensor, scale: torch.Tensor, zero_point: torch.Tensor | int, least: int, most: int
    ) -> torch.Tensor:
        steps = torch.round(values / scale).add_(zero_point)
        inside = steps.clamp(least, most)
        ctx.save_for_backward(steps == inside)
        return inside.sub_(zero_point).mul_(scale)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (inside,) = ctx.saved_tensors
        return gradients[0] * inside, None, None, None, None


_round = cast(Callable[..., torch.Tensor], _Rounding.apply)


def weight_scale(largest: torch.Tensor, limit: int) -> torch.Tensor:
    """The value of one integer step of a weight; see `rounding.weights`.

    Args:
        largest: Magnitude of what has one scale together.
        limit: The largest integer.
    """
    return torch.where(largest > 0, largest / limit, 1.0)


def rounded_weight(weight: torch.Tensor, scale: torch.Tensor, limit: int) -> torch.Tensor:
    """A weight rounded to its int8 form.

    Args:
        weight: Any shape.
        scale: Its steps, in a shape that broadcasts to the weight's.
        limit: The largest integer.
    """
    return _round(weight.float(), scale, 0, -limit, limit)


class RoundedInput(nn.Module):
    """Rounds the input of a matrix to uint8 in a range; see `rounding.activation`.

    Args:
        low: The least value.
        high: The greatest value.
    """

    low: torch.Tensor
    high: torch.Tensor

    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        self.register_buffer("low", torch.tensor(low))
        self.register_buffer("high", torch.tensor(high))

    @property
    def scale(self) -> torch.Tensor:
        """The value of one integer step."""
        low, high = self.low.double().clamp(max=0), self.high.double().clamp(min=0)
        return torch.where(high > low, (high - low) / 255, 1.0).float()

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Any shape in and out."""
        scale = self.scale
        zero_point = torch.round(-self.low.clamp(max=0) / scale)
        return _round(values.float(), scale, zero_point, 0, 255)


class _Part(nn.Module):
    """The rounding module of a model; a module, so that its ranges are saved in training checkpoints.

    Args:
        inputs: What rounds inputs, by the name of the matrix.
        undo: Functions that restore the model.
    """

    def __init__(self, inputs: dict[str, RoundedInput], undo: list[Callable[[], None]]) -> None:
        super().__init__()
        self.registered = nn.ModuleList(inputs.values())
        self.inputs, self.undo = inputs, undo


def insert_fake_quantization(
    model: PreTrainedModel, settings: Settings, ranges: Ranges, biases: Mapping[str, Bias]
) -> None:
    """Makes a model round in its forward pass: weights, rows of embedding tables, and inputs of weight matrices.

    Its parameters keep their names and stay floats that learn. Dropout is turned off: its noise is larger than that of
    rounding, and a model that is nearly as good as its teacher only loses by it. With dropout, a 6-layer MiniLM on
    SST-2 came out farther from its teacher than it went in.

    Args:
        model: Changed in place.
        settings: Settings of the quantized graph.
        ranges: Range of each matrix's input.
        biases: Where the graph has the bias of each matrix; see `weight_matrices.biases`.
    """
    rounded = {name: module for name, module in model.named_modules() if not settings.stays_float(name)}
    linears = {name: module for name, module in rounded.items() if isinstance(module, nn.Linear)}
    inputs = {name: RoundedInput(*bounds) for name, bounds in _together(model, linears, ranges).items()}
    limit, undo = rounding.weight_limit(settings.reduce_range), list[Callable[[], None]]()
    moved = {module for name, module in model.named_modules() if biases.get(name) == "none"}
    pairs = zip(modules(model, "attention_output"), modules(model, "value"), strict=True)
    values = {output: value for output, value in pairs if value in moved}
    for name, linear in linears.items():
        inside = biases.get(name) == "inside"
        product = _Product(linear, inputs[name], values.get(linear), inside, settings.per_channel, limit)
        setattr(linear, "forward", product)  # noqa: B010 -- mypy knows no other way to assign a method
        undo.append(partial(delattr, linear, "forward"))
    tied = {id(linear.weight) for linear in linears.values()}
    for name, module in rounded.items():
        if not isinstance(module, nn.Embedding) or not settings.embeddings:
            continue
        # A table that is an output embedding too has the integers of that; others have whole rows of 8 bits.
        how: Callable[..., torch.Tensor] = partial(_rows, True, rounding.weight_limit(False))
        if id(module.weight) in tied:
            how = partial(_rows, settings.per_channel, limit)
        elif settings.embeddings == "int4" and is_token_table(name):
            how = _rows_in_blocks
        undo.append(module.register_forward_hook(how).remove)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            undo.append(partial(setattr, module, "p", module.p))
            module.p = 0.0
    model.add_module(PART, _Part(inputs, undo))


def _together(model: PreTrainedModel, linears: Mapping[str, nn.Module], ranges: Ranges) -> Ranges:
    """The ranges of these matrices; one of queries, keys and values of a block, which read the same tensor.

    They differ where layers share a block and the last of them needs the queries of the first token alone.
    """
    found = {name: ranges[name] for name in linears}
    names = {module: name for name, module in linears.items()}
    for block in zip(*(modules(model, part) for part in ("query", "key", "value")), strict=True):
        same = [names[module] for module in block if module in names]
        if same:
            lows, highs = zip(*(found[name] for name in same), strict=True)
            found |= dict.fromkeys(same, (min(lows), max(highs)))
    return found


def remove_fake_quantization(model: PreTrainedModel) -> dict[str, tuple[float, float]]:
    """Undoes `insert_fake_quantization`.

    Returns:
        The range of each matrix's input.
    """
    part = getattr(model, PART)
    assert isinstance(part, _Part)
    for undo in part.undo:
        undo()
    delattr(model, PART)
    return {name: (float(rounds.low), float(rounds.high)) for name, rounds in part.inputs.items()}


@dataclass(frozen=True)
class _Product:
    """Replaces the `forward` of a matrix.

    Attributes:
        linear: The matrix.
        rounds: Rounds its input.
        values: Of the output matrix of an attention block that has taken over the bias of its values, their matrix;
            else None.
        rounds_bias: Whether its bias becomes integers too.
        per_channel: One scale per output channel.
        limit: The largest integer of a weight.
    """

    linear: nn.Linear
    rounds: RoundedInput
    values: nn.Module | None
    rounds_bias: bool
    per_channel: bool
    limit: int

    def __call__(self, given: torch.Tensor) -> torch.Tensor:
        """`(…, inputs)` in, `(…, outputs)` out."""
        weight: torch.Tensor = self.linear.weight
        bias: torch.Tensor | None = self.linear.bias
        magnitudes = weight.detach().abs()
        scale = weight_scale(magnitudes.amax(dim=1, keepdim=True) if self.per_channel else magnitudes.max(), self.limit)
        if self.values is not None:
            # The graph adds the bias of the values behind this product: see `attention_biases.fold_biases`.
            assert isinstance(self.values, nn.Linear)
            given = given - self.values.bias
            bias = functional.linear(self.values.bias, weight, bias)
        if bias is not None and self.rounds_bias:
            steps = (self.rounds.scale * scale).flatten()
            largest = (bias.detach().abs() / steps).max()
            if magnitudes.amax(dim=1).all() and largest <= rounding.LARGEST_BIAS:  # else graphs add it as it is
                bias = _round(bias.float(), steps, 0, -rounding.LARGEST_BIAS, rounding.LARGEST_BIAS)
        return functional.linear(self.rounds(given), rounded_weight(weight, scale, self.limit), bias)


def _rows(per_row: bool, limit: int, table: nn.Embedding, _: Any, rows: torch.Tensor) -> torch.Tensor:
    """Rounds the rows that were looked up: the same result as rounding the whole table, and less work."""
    largest = rows.detach().abs().amax(dim=-1, keepdim=True) if per_row else table.weight.detach().abs().max()
    return rounded_weight(rows, weight_scale(largest, limit), limit)


def _rows_in_blocks(table: nn.Embedding, inputs: tuple[torch.Tensor], rows: torch.Tensor) -> torch.Tensor:
    """The same to 4 bits, by the search that chooses a file's; gradients pass as if nothing was rounded."""
    tokens, places = torch.unique(inputs[0], return_inverse=True)
    exact = table.weight.detach()[tokens].float()
    found = round_rows(exact.cpu().numpy(), 4, small_tables.BLOCK_SIZE).floats()
    return rows + (torch.from_numpy(found).to(exact.device) - exact)[places]


class RemoveAfterTraining(TrainerCallback):  # type: ignore[misc]  # transformers is untyped here
    """Leaves a plain model when training ends.

    Attributes:
        ranges: Range of each matrix's input at the end of training.
    """

    ranges: Ranges

    def on_train_end(self, args: Any, state: Any, control: Any, model: PreTrainedModel, **_: Any) -> None:
        """Removes fake quantization."""
        self.ranges = remove_fake_quantization(model)
