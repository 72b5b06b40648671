"""A shallower student out of a model's own layers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from compressor.errors import StageError
from compressor.models.convert import from_parts, to_parts
from compressor.models.families import FAMILIES

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def chosen_layers(total: int, count: int | None, layers: Sequence[int] | str) -> list[int]:
    """The layers of a model that a student starts from.

    Args:
        total: Layers of the model.
        count: Layers of the student; None for as many as listed, or half of the model's.
        layers: A list, or `every_other`: evenly spaced from layer 0, so 0, 2, 4… for half of them.

    Raises:
        StageError: A layer that the model does not have.

    Source: Sanh et al. 2019, section 2, "Student initialization": one layer out of two.
    """
    chosen = list(layers) if not isinstance(layers, str) else []
    if isinstance(layers, str):
        count = count or max(1, total // 2)
        chosen = [index * total // count for index in range(count)]
    if (count or 0) > total or any(layer >= total for layer in chosen):
        raise StageError(f"the incoming checkpoint has {total} layers, 0 to {total - 1}; got {count or chosen}")
    return chosen


def least_harmful(
    model: PreTrainedModel, count: int, degradation: Callable[[PreTrainedModel], float]
) -> tuple[list[int], list[dict[str, Any]]]:
    """Which layers to keep, by dropping the one that is missed least, again and again.

    Every round tries the model without each of the layers that are left, so that n layers down to k take
    n + (n - 1) + … + (k + 1) calls of `degradation`. A first layer of a kind of its own is not tried.

    Args:
        model: The model, with any head; not changed.
        count: Layers to keep, from 1 to all.
        degradation: How bad a model is, such as its loss on held-out rows: finite, less is better. It gets a model with
            fewer layers, in eval mode and without gradients.

    Returns:
        The kept layers in ascending order, and for every round `dropped` and `degradation` by layer (six significant
        digits; the layers are strings, as they come back from JSON). Of equally harmful layers the lowest goes.

    Raises:
        StageError: A count that the model does not have, or a degradation that is not a finite number.

    Source: Peer et al. 2022, "Greedy-layer pruning" (arXiv 2105.14839), without fine-tuning every candidate; Sajjad et
        al. 2023, "On the effect of dropping layers of pre-trained transformer models" (arXiv 2004.03844), section 3,
        for the strategies without a search that it competes with.
    """
    whole, total = to_parts(model), model.config.num_hidden_layers
    if not 1 <= count <= total:
        raise StageError(f"the incoming checkpoint has {total} layers; keep 1 to {total} of them, got {count}")
    kept, rounds = list(range(total)), []
    first = int(FAMILIES[model.config.model_type].keeps_first)
    while len(kept) > count:
        degradations = {}
        for layer in kept[first:]:
            with torch.no_grad():
                value = float(degradation(from_parts(whole.with_layers([n for n in kept if n != layer])).eval()))
            if not math.isfinite(value):
                raise StageError(
                    f"without layer {layer} the degradation is {value}; list the layers, or measure on other rows"
                )
            degradations[layer] = value
        dropped = min(degradations, key=lambda layer: (degradations[layer], layer))
        kept.remove(dropped)
        rounds.append({"dropped": dropped, "degradation": {str(k): float(f"{v:.6g}") for k, v in degradations.items()}})
    return kept, rounds


def reduce_depth(model: PreTrainedModel, layers: Sequence[int], architecture: str | None = None) -> PreTrainedModel:
    """Builds a student from chosen layers; embeddings and head are carried over.

    Args:
        model: The model, with any head; not changed.
        layers: Layers to keep, in the student's order; one may occur again, and is then shared.
        architecture: `bert` or `distilbert`; None for the plainest family that holds it.

    Returns:
        A new model with copies of the weights and the same kind of head. Hidden states after layer i of a student of
        the first layers equal the model's (for DistilBERT: of a single segment, its token types folded into the
        positions).

    Raises:
        StageError: A DistilBERT cannot become a BERT: it has no token types and no pooler. Shared or factorized weights
            fit in neither. Or another kind of model.
    """
    return from_parts(to_parts(model).with_layers(layers), architecture)
