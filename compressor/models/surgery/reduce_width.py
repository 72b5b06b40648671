"""A narrower model out of a model's own channels, heads and neurons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from compressor.errors import StageError
from compressor.models.convert import from_parts, parts_inside
from compressor.models.families import FAMILIES
from compressor.models.parts import EMBEDDING, HEADS, HIDDEN, NEURONS, ModelParts, State, cut

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def reduce_width(model: PreTrainedModel, hidden_size: int) -> PreTrainedModel:
    """Builds a model with a smaller hidden size, which starts from the weights of a larger one.

    One set of channels is kept everywhere, because residual connections add them up and output embeddings are tied to
    the input's: those that are largest after the LayerNorms. Every layer then keeps the heads whose output projection
    has the largest norm, and the neurons with the largest product of in- and outgoing norms. Head size stays; heads and
    the feed-forward network shrink in proportion. Factorized embeddings keep their width.

    Args:
        model: The model, with any head; not changed.
        hidden_size: Channels of the new model, in whole heads, at most the model's.

    Returns:
        A new model of the same class, unless that cannot map embeddings of this width; of the full width it gives the
        same logits. A narrower one needs training.

    Raises:
        StageError: A hidden size that is not a whole number of heads, or another kind of model.

    Source: Samragh et al. 2023, "Weight subcloning" (arXiv 2312.09299): one ranking of channels by mean magnitude for
        the whole model; theirs is measured, ours is read off the LayerNorms, and weights are not rescaled.
    """
    whole = parts_inside(model)
    _check(whole, hidden_size)
    channels = largest(_channel_scores(whole), hidden_size)
    everywhere = {HIDDEN: channels}
    if "mapping.weight" not in whole.outside:
        everywhere[EMBEDDING] = channels
    attentions = tuple(_narrower_attention(block, channels, whole) for block in whole.attentions)
    feed_forwards = tuple(_narrower_feed_forward(block, channels, whole) for block in whole.feed_forwards)
    outside = _cut_all(whole.outside, everywhere)
    small = replace(whole, outside=outside, attentions=attentions, feed_forwards=feed_forwards)
    family = FAMILIES[model.config.model_type]
    return from_parts(small, None if family.keeps_mapping and not family.holds(small) else family.model_type)


def largest(scores: torch.Tensor, count: int) -> torch.Tensor:
    """Indices of the largest scores, ascending; of equal scores the first."""
    return scores.argsort(descending=True, stable=True)[:count].sort().values


def _check(whole: ModelParts, hidden_size: int) -> None:
    allowed = range(whole.head_size, whole.hidden_size + 1, whole.head_size)
    if hidden_size not in allowed:
        sizes = ", ".join(map(str, allowed))
        raise StageError(
            f"hidden_size is {hidden_size}; heads of {whole.head_size} channels stay whole: use one of {sizes}"
        )


def _in_proportion(size: int, hidden_size: int, of: int) -> int:
    """In eights for the sake of vector units; the full width stays, eights or not."""
    return size if hidden_size == of else min(size, max(8, 8 * round(size * hidden_size / of / 8)))


def _cut_all(parts: State, kept: Mapping[str, torch.Tensor]) -> State:
    return {name: cut(name, tensor, kept) for name, tensor in parts.items()}


def _channel_scores(whole: ModelParts) -> torch.Tensor:
    """Scores of the residual channels, (hidden,): the sum over LayerNorms of the root mean square that each gives out.

    A LayerNorm's input is standardised, so that its output's mean square is gain² + bias² for a channel like any other.
    On MiniLM that ranks channels about as well as measured activations do; the norms of the embeddings' columns, or of
    the weights that read a channel, rank no better than chance.
    """
    norms = [(block, "attention_norm") for block in whole.attentions]
    norms += [(block, "feed_forward_norm") for block in whole.feed_forwards]
    if "mapping.weight" not in whole.outside:
        outside = [part for part in ("embedding_norm", "transform_norm") if f"{part}.weight" in whole.outside]
        norms += [(whole.outside, part) for part in outside]
    squares = [block[f"{part}.weight"].float() ** 2 + block[f"{part}.bias"].float() ** 2 for block, part in norms]
    return torch.stack(squares).sqrt().sum(dim=0)


def _narrower_attention(block: State, channels: torch.Tensor, whole: ModelParts) -> State:
    """Keeps the heads with the largest output weights among the channels that stay."""
    size = whole.head_size
    projection = block["attention_output.weight"].float()[channels].reshape(len(channels), -1, size)
    count = max(1, round(projection.shape[1] * len(channels) / whole.hidden_size))
    heads = largest(projection.norm(dim=(0, 2)), count)
    return _cut_all(block, {HIDDEN: channels, HEADS: channels_of(heads, size)})


def channels_of(heads: torch.Tensor, size: int) -> torch.Tensor:
    """The channels of heads of a size. `(heads,)` to `(heads * size,)`."""
    return (heads[:, None] * size + torch.arange(size, device=heads.device)).flatten()


def _narrower_feed_forward(block: State, channels: torch.Tensor, whole: ModelParts) -> State:
    """Keeps the neurons with the largest weights among the channels that stay."""
    up, down = block["up.weight"].float()[:, channels], block["down.weight"].float()[channels]
    count = _in_proportion(len(up), len(channels), whole.hidden_size)
    return _cut_all(block, {HIDDEN: channels, NEURONS: largest(up.norm(dim=1) * down.norm(dim=0), count)})
