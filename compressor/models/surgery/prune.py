"""A model of fewer heads and neurons: those with the largest scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from compressor.models.parts import HEADS, NEURONS, ModelParts, State, cut
from compressor.models.surgery.pruning_widths import NEURON_GROUP, Widths
from compressor.models.surgery.reduce_width import channels_of, largest


@dataclass(frozen=True)
class Scores:
    """Scores of heads and neurons; a block that layers share has one score for all its uses.

    Attributes:
        heads: For each attention block, `(heads,)`.
        neurons: For each feed-forward block, `(neurons,)`.
    """

    heads: tuple[torch.Tensor, ...]
    neurons: tuple[torch.Tensor, ...]


def magnitudes(whole: ModelParts) -> Scores:
    """Scores by what the weights could let through: the norm of the ingoing times that of the outgoing ones.

    Of a head, the ingoing weights are those of its values.
    """

    def head_norms(block: State) -> torch.Tensor:
        values = block["value.weight"].float().reshape(-1, whole.head_size, whole.hidden_size)
        output = block["attention_output.weight"].float().reshape(whole.hidden_size, -1, whole.head_size)
        norms: torch.Tensor = values.square().sum(dim=(1, 2)).sqrt() * output.square().sum(dim=(0, 2)).sqrt()
        return norms

    def neuron_norms(block: State) -> torch.Tensor:
        up, down = block["up.weight"].float(), block["down.weight"].float()
        norms: torch.Tensor = up.square().sum(dim=1).sqrt() * down.square().sum(dim=0).sqrt()
        return norms

    return Scores(tuple(map(head_norms, whole.attentions)), tuple(map(neuron_norms, whole.feed_forwards)))


def random_scores(whole: ModelParts, seed: int) -> Scores:
    """Scores drawn at random: a baseline that any other scoring has to beat."""
    generator = torch.Generator().manual_seed(seed)
    heads = tuple(torch.rand(count, generator=generator) for count in whole.heads)
    return Scores(heads, tuple(torch.rand(count, generator=generator) for count in whole.neurons))


@dataclass(frozen=True)
class Kept:
    """Indices that stay, ascending.

    Attributes:
        heads: For each attention block.
        neurons: For each feed-forward block.
    """

    heads: tuple[torch.Tensor, ...]
    neurons: tuple[torch.Tensor, ...]


def choose(scores: Scores, widths: Widths, scope: str) -> Kept:
    """Keeps what scores highest.

    Across layers, the scores of each are divided by their norm, since gradients and weights differ in size from layer
    to layer; the best head and the best eight neurons of each block stay whatever they score.

    Args:
        scores: Of what there is.
        widths: How many stay in each pool, at least one head and eight neurons for each block.
        scope: `layer`: blocks keep what `widths` says; `global`: they compete with each other.

    Source: Michel et al. 2019, "Are Sixteen Heads Really Better than One?" (arXiv 1905.10650), section 4.1, for the
        normalisation by the layer's l2 norm, which they have from Molchanov et al. 2017.
    """
    return Kept(
        _chosen(scores.heads, widths.heads, 1, scope),
        _chosen(scores.neurons, widths.neurons, NEURON_GROUP, scope),
    )


def _chosen(scores: Sequence[torch.Tensor], counts: Sequence[int], group: int, scope: str) -> tuple[torch.Tensor, ...]:
    if scope == "global":
        norms = [score.square().sum().sqrt().clamp(min=1e-30) for score in scores]
        counts = _shared_out([score / norm for score, norm in zip(scores, norms, strict=True)], counts[0], group)
    return tuple(largest(score, count) for score, count in zip(scores, counts, strict=True))


def _shared_out(scores: Sequence[torch.Tensor], total: int, group: int) -> list[int]:
    """How many of a total each block keeps, in groups of its best, second best…, which compete by their mean."""
    counts = [0] * len(scores)
    groups: list[tuple[float, int, int]] = []
    for block, score in enumerate(scores):
        best_first = torch.split(score.sort(descending=True).values, group)
        counts[block] = len(best_first[0])
        groups += [(-float(part.mean()), block, len(part)) for part in best_first[1:]]
    left = total - sum(counts)
    for _, block, size in sorted(groups):
        if size <= left:
            counts[block] += size
            left -= size
    return counts


def pruned(whole: ModelParts, kept: Kept) -> ModelParts:
    """A model without some rows and columns of its matrices.

    Args:
        whole: The model.
        kept: What stays.

    Returns:
        A model that computes what `whole` would with the other heads and neurons silent.
    """
    attentions = tuple(
        _cut(block, HEADS, channels_of(heads, whole.head_size))
        for block, heads in zip(whole.attentions, kept.heads, strict=True)
    )
    feed_forwards = tuple(
        _cut(block, NEURONS, neurons) for block, neurons in zip(whole.feed_forwards, kept.neurons, strict=True)
    )
    return replace(whole, attentions=attentions, feed_forwards=feed_forwards)


def _cut(block: State, what: str, indices: torch.Tensor) -> State:
    return {name: cut(name, tensor, {what: indices}) for name, tensor in block.items()}


def removed_share(scores: Scores, kept: Kept) -> dict[str, float]:
    """Of all that was scored, the share that is gone: of heads and of neurons, as they stand in a report."""
    found = {}
    pairs = {"heads": (scores.heads, kept.heads), "neurons": (scores.neurons, kept.neurons)}
    for name, (given, indices) in pairs.items():
        total = sum(float(score.sum()) for score in given)
        stays = sum(float(score[index].sum()) for score, index in zip(given, indices, strict=True))
        found[name] = round(1 - stays / total, 4) if total else 0.0
    return found
