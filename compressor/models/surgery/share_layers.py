"""Layers that share their weights, which start from those of a model whose layers do not."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from compressor.errors import StageError
from compressor.models.convert import from_parts, parts_inside
from compressor.models.families import albert
from compressor.models.parts import ModelParts, State

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MEAN = "mean"

Start = int | str
"""Initial weights of a group: a layer of the incoming model, or the `mean` of those that it replaces."""


@dataclass(frozen=True)
class Sharing:
    """How layers share weights.

    Attributes:
        what: `all` of a layer, its `attention` or its `ffn`.
        groups: Layers of a group share: those with `layer * groups // depth` in common.
        depth: Layers of the student.

    Source: Lan et al. 2019, "ALBERT" (arXiv 1909.11942), section 3.1, "Cross-layer parameter sharing", and table 5.
    """

    what: str
    groups: int
    depth: int

    def of_layer(self) -> tuple[int, ...]:
        """The group of each layer."""
        return tuple(layer * self.groups // self.depth for layer in range(self.depth))

    def replaced(self, total: int) -> list[list[int]]:
        """For each group, the layers of a model with so many that it takes the place of; at least one."""
        bounds = [(g * total // self.groups, (g + 1) * total // self.groups) for g in range(self.groups)]
        return [list(range(first, max(first + 1, end))) for first, end in bounds]


def share(model: PreTrainedModel, sharing: Sharing, start: Sequence[Start]) -> PreTrainedModel:
    """Builds a model whose layers share weights.

    Args:
        model: The model, with any head; not changed.
        sharing: What is shared.
        start: What each group starts from.

    Returns:
        An ALBERT where it can hold what is shared, else a compact BERT. With as many groups as layers, each starting
        from its own, the logits are the model's (of a DistilBERT that classifies, but for the ReLU in its head, which
        is a tanh in an ALBERT).

    Raises:
        StageError: Groups, layers or starts that do not fit.
    """
    return _built(parts_inside(model), sharing, start)


def _built(whole: ModelParts, sharing: Sharing, start: Sequence[Start]) -> PreTrainedModel:
    shared = _shared(whole, sharing, start)
    return from_parts(shared, albert.NAME if albert.fits(shared) else None)


def _shared(whole: ModelParts, sharing: Sharing, start: Sequence[Start]) -> ModelParts:
    total = whole.num_hidden_layers
    if sharing.groups > sharing.depth:
        raise StageError(f"num_hidden_groups is {sharing.groups}, but there are {sharing.depth} layers to share")
    if len(start) != sharing.groups or any(isinstance(first, int) and first >= total for first in start):
        raise StageError(
            f"layers is {list(start)}; it needs one entry for each of the {sharing.groups} groups, 0 to {total - 1}"
        )
    replaced = sharing.replaced(total)
    own = tuple(layer * total // sharing.depth for layer in range(sharing.depth))
    parts: dict[str, Any] = {}
    for what, blocks, of_layer in (
        ("attention", whole.attentions, whole.attention_of_layer),
        ("feed_forward", whole.feed_forwards, whole.feed_forward_of_layer),
    ):
        if sharing.what in ("all", {"feed_forward": "ffn"}.get(what, what)):
            parts[f"{what}s"] = tuple(
                _first(blocks, of_layer, first, layers) for first, layers in zip(start, replaced, strict=True)
            )
            parts[f"{what}_of_layer"] = sharing.of_layer()
        elif sharing.depth != total:
            parts[f"{what}s"] = tuple(blocks[of_layer[layer]] for layer in own)
            parts[f"{what}_of_layer"] = tuple(range(sharing.depth))
    return replace(whole, **parts)


def _first(blocks: Sequence[State], of_layer: Sequence[int], first: Start, layers: Sequence[int]) -> State:
    """A group's block before training."""
    if isinstance(first, int):
        return blocks[of_layer[first]]
    found = [blocks[of_layer[layer]] for layer in layers]
    if not _alike(found):
        raise StageError(f"layers {list(layers)} are of different widths and have no mean; start from one of them")
    return {name: torch.stack([block[name] for block in found]).mean(dim=0) for name in found[0]}


def _alike(blocks: Sequence[State]) -> bool:
    """Whether blocks have heads and neurons in the same number, so that there is a mean of them."""
    return len({tuple(tensor.shape for tensor in block.values()) for block in blocks}) == 1


def best_start(
    model: PreTrainedModel, sharing: Sharing, degradation: Callable[[PreTrainedModel], float]
) -> tuple[list[Start], list[dict[str, float]]]:
    """Initial weights of the groups: chosen group by group, those that change the model least.

    A group that has yet to be chosen starts from the middle of the layers that it replaces.

    Args:
        model: The model, with any head; not changed.
        sharing: What is shared.
        degradation: How far a model is from `model`: finite, less is better.

    Returns:
        The choice, and for each group the degradation of every layer that it replaces and of their mean, by name.
        Layers of different widths have no mean.

    Raises:
        StageError: A degradation that is not a finite number.
    """
    whole = parts_inside(model)
    replaced = sharing.replaced(whole.num_hidden_layers)
    start: list[Start] = [layers[len(layers) // 2] for layers in replaced]
    tried: list[dict[str, float]] = []
    stacks = [(whole.attentions, whole.attention_of_layer), (whole.feed_forwards, whole.feed_forward_of_layer)]
    for group, layers in enumerate(replaced):
        candidates: list[Start] = [*layers, MEAN] if len(layers) > 1 else []
        if not all(_alike([blocks[of_layer[layer]] for layer in layers]) for blocks, of_layer in stacks):
            candidates.remove(MEAN)
        degradations: dict[Start, float] = {}
        for candidate in candidates:
            start[group] = candidate
            with torch.no_grad():
                degradations[candidate] = float(degradation(_built(whole, sharing, start).eval()))
            if not math.isfinite(degradations[candidate]):
                raise StageError(
                    f"group {group} started from {candidate} gives a degradation of {degradations[candidate]}"
                )
        start[group] = min(candidates, key=lambda candidate: degradations[candidate]) if candidates else layers[0]
        tried.append({str(candidate): float(f"{value:.6g}") for candidate, value in degradations.items()})
    return start, tried
