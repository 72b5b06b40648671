"""Widths that meet a target, and change the outputs least."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from compressor.errors import StageError
from compressor.models.convert import from_parts
from compressor.models.parts import ModelParts
from compressor.models.surgery import pruning_widths
from compressor.models.surgery.prune import Scores, choose, pruned
from compressor.models.surgery.pruning_widths import NEURON_GROUP, Widths
from compressor.training.context import Facts, Trial
from compressor.training.processes import count

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_TRIES = 6


@dataclass(frozen=True)
class Target:
    """An upper limit on a model's cost.

    Attributes:
        metric: `num_parameters`, `size_bytes` or `latency_p50_ms`.
        limit: At most.
    """

    metric: str
    limit: float


@dataclass(frozen=True)
class _Line:
    """A cost that is linear in the number of heads and of neurons: exact but for latency, where it is a guess."""

    whole: float
    head: float
    neuron: float

    @classmethod
    def through(cls, widths: Sequence[Widths], costs: Sequence[float]) -> _Line:
        """The line through a model, the same with fewer heads, and the same with fewer neurons."""
        heads, neurons = (sum(w.heads) for w in widths), (sum(w.neurons) for w in widths)
        all_heads, few_heads, _ = heads
        all_neurons, _, few_neurons = neurons
        return cls(
            costs[0],
            (costs[0] - costs[1]) / max(1, all_heads - few_heads),
            (costs[0] - costs[2]) / max(1, all_neurons - few_neurons),
        )

    def cost(self, whole: Widths, left: Widths) -> float:
        """Cost of the rest of a model."""
        heads, neurons = sum(whole.heads) - sum(left.heads), sum(whole.neurons) - sum(left.neurons)
        return self.whole - self.head * heads - self.neuron * neurons


def fit(
    whole: ModelParts,
    scores: Scores,
    scope: str,
    target: Target,
    trial: Trial,
    degradation: Callable[[PreTrainedModel], float],
) -> tuple[Widths, Facts]:
    """Finds out how many heads and how many neurons to keep.

    The cost is measured of the model as it is, with all but one of the heads of each layer gone, with all but eight of
    the neurons gone, and with both. That gives a line, and the line, for each number of heads, the most neurons that
    meet the target. Of these the one is taken that changes the outputs least, measured too; if its cost turns out to be
    above the target, the search goes on for so much less.

    Args:
        whole: The model.
        scores: What decides which heads and neurons stay.
        scope: `layer` or `global`.
        target: What it may cost.
        trial: Measures size and latency.
        degradation: How far a model is from what it was; less is better.

    Returns:
        The widths, and `target`: the `metric`, its `limit`, the value that was `reached`, and the degradation of each
        of those `tried`.

    Raises:
        StageError: The target cannot be met.
    """
    if target.metric == "latency_p50_ms" and count() > 1:
        raise StageError("a target of latency_p50_ms is measured in one process; run without torchrun")

    def model(left: Widths) -> PreTrainedModel:
        return from_parts(pruned(whole, choose(scores, left, scope)))

    def costs(tried: Sequence[Widths]) -> list[float]:
        return _costs(target.metric, [model(left) for left in tried], trial)

    corners = [_scaled(whole, heads, neurons, scope) for heads, neurons in ((0, 0), (1, 0), (0, 1), (1, 1))]
    measured = costs(corners)
    facts: Facts = {"metric": target.metric, "limit": target.limit}
    if measured[0] <= target.limit:
        return corners[0], {**facts, "reached": measured[0], "tried": []}
    if measured[-1] > target.limit:
        raise StageError(
            f"target.{target.metric} is {number(target.limit)}, but with one head and eight neurons in each layer it "
            f"is still {number(measured[-1])}; ask for that or more, or remove layers or tokens as well"
        )
    line, goal = _Line.through(corners[:3], measured[:3]), target.limit
    degradations: dict[Widths, float] = {}
    for _ in range(_TRIES):
        found = list(_candidates(whole, line, goal, scope)) or corners[-1:]
        for left in found:
            if left not in degradations:
                with torch.no_grad():
                    degradations[left] = degradation(model(left).eval())
        best = min(found, key=lambda left: degradations[left])
        (reached,) = costs([best])
        if reached <= target.limit:
            tried = [
                {"heads": sum(left.heads), "neurons": sum(left.neurons), "degradation": float(f"{value:.6g}")}
                for left, value in degradations.items()
            ]
            return best, {**facts, "reached": reached, "tried": tried}
        goal -= max(reached - target.limit, 0.01 * target.limit)
    raise StageError(
        f"target.{target.metric} is {number(target.limit)}, and the last of {_TRIES} tries came to {number(reached)}; "
        "on a busy machine latency cannot be measured well: try again, or ask for more"
    )


def number(value: float) -> str:
    """A cost as people read it."""
    return f"{value:,.10g}" if value >= 1000 else f"{value:.4g}"


def _scaled(whole: ModelParts, heads: float, neurons: float, scope: str) -> Widths:
    """Widths after removing shares of heads and neurons; each block keeps at least one head and eight neurons."""

    def left(blocks: Sequence[int], share: float, group: int) -> tuple[int, ...]:
        needed = pruning_widths.pools([min(group, count) for count in blocks], scope)
        pools = pruning_widths.pools(blocks, scope)
        return tuple(
            max(least, pruning_widths.kept(count, share, group)) for count, least in zip(pools, needed, strict=True)
        )

    return Widths(left(whole.heads, heads, 1), left(whole.neurons, neurons, NEURON_GROUP))


def _candidates(whole: ModelParts, line: _Line, goal: float, scope: str) -> Iterator[Widths]:
    """For each number of heads, the most neurons whose cost is at most the goal."""
    everything, most_heads, most_neurons = _scaled(whole, 0, 0, scope), max(whole.heads), max(whole.neurons)
    for fewer in range(most_heads):
        for gone in range(0, most_neurons, NEURON_GROUP):
            left = _scaled(whole, fewer / most_heads, gone / most_neurons, scope)
            if line.cost(everything, left) <= goal:
                yield left
                break


def _costs(metric: str, models: Sequence[PreTrainedModel], trial: Trial) -> list[float]:
    """The cost of each model."""
    if metric == "num_parameters":
        return [float(model.num_parameters()) for model in models]
    with tempfile.TemporaryDirectory(prefix="compress-") as temporary:
        folders = [Path(temporary) / str(index) for index in range(len(models))]
        for model, folder in zip(models, folders, strict=True):
            model.save_pretrained(folder)
        return trial.size_bytes(folders) if metric == "size_bytes" else trial.latency_p50_ms(folders)
