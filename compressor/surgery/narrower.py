"""A narrower model out of a model's own channels, heads and neurons."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch

from compressor.errors import StageError
from compressor.surgery.distilbert import State
from compressor.surgery.student import LAYER, build, head_of

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

_Kept = dict[str, torch.Tensor]
"""Indices to keep along an axis, ascending, by the axis's name."""

_HIDDEN, _HEADS, _FFN, _ALL = "hidden", "heads", "ffn", "all"

# What runs along the axes of a module's tensors, by how its name ends; the first that fits counts. A bias or a
# LayerNorm has the first axis only.
_AXES = {
    "query": (_HEADS, _HIDDEN),
    "key": (_HEADS, _HIDDEN),
    "value": (_HEADS, _HIDDEN),
    "q_lin": (_HEADS, _HIDDEN),
    "k_lin": (_HEADS, _HIDDEN),
    "v_lin": (_HEADS, _HIDDEN),
    "attention.output.dense": (_HIDDEN, _HEADS),
    "out_lin": (_HIDDEN, _HEADS),
    "intermediate.dense": (_FFN, _HIDDEN),
    "lin1": (_FFN, _HIDDEN),
    "output.dense": (_HIDDEN, _FFN),
    "lin2": (_HIDDEN, _FFN),
    "LayerNorm": (_HIDDEN,),
    "layer_norm": (_HIDDEN,),
    "embeddings": (_ALL, _HIDDEN),
    "pooler.dense": (_HIDDEN, _HIDDEN),
    "pre_classifier": (_HIDDEN, _HIDDEN),
    "classifier": (_ALL, _HIDDEN),
    "transform.dense": (_HIDDEN, _HIDDEN),
    "vocab_transform": (_HIDDEN, _HIDDEN),
    "decoder": (_ALL, _HIDDEN),
    "vocab_projector": (_ALL, _HIDDEN),
    "predictions": (_ALL,),
}


def narrower(model: PreTrainedModel, hidden_size: int) -> PreTrainedModel:
    """Builds a model with a smaller hidden size, which starts from the weights of a larger one.

    One set of channels is kept everywhere, because residual connections add them up and output embeddings are tied to
    the input's: those that are largest after the LayerNorms. Every layer then keeps the heads whose output projection
    has the largest norm, and the neurons with the largest product of in- and outgoing norms. Head size stays; heads and
    the feed-forward network shrink in proportion.

    Args:
        model: `Bert…` or `DistilBert…`, `…ForSequenceClassification` or `…ForMaskedLM`; not changed.
        hidden_size: Channels of the new model, in whole heads, at most the model's.

    Returns:
        A new model of the same class; of the full width it gives the same logits. A narrower one needs training.

    Raises:
        StageError: A hidden size that is not a whole number of heads, or another kind of model.

    Source: Samragh et al. 2023, "Weight subcloning" (arXiv 2312.09299): one ranking of channels by mean magnitude for
        the whole model; theirs is measured, ours is read off the LayerNorms, and weights are not rescaled.
    """
    head = head_of(model)
    config = _config(model.config, hidden_size)
    state: State = model.state_dict()
    everywhere = {_HIDDEN: _largest(_channel_scores(state), hidden_size)}
    layers = [
        everywhere | _kept_in_layer(state, n, everywhere[_HIDDEN], config) for n in range(config.num_hidden_layers)
    ]
    new: State = {}
    for name, tensor in state.items():
        match = LAYER.match(name)
        new[name] = _cut(tensor, _axes(name), layers[int(match[2])] if match else everywhere)
    return build(head, config, new)


def _config(config: PreTrainedConfig, hidden_size: int) -> PreTrainedConfig:
    head_size = config.hidden_size // config.num_attention_heads
    allowed = range(head_size, config.hidden_size + 1, head_size)
    if hidden_size not in allowed:
        sizes = ", ".join(map(str, allowed))
        raise StageError(f"hidden_size is {hidden_size}; heads of {head_size} channels stay whole: use one of {sizes}")
    ffn = "hidden_dim" if config.model_type == "distilbert" else "intermediate_size"
    new = copy.deepcopy(config)
    setattr(new, ffn, _ffn_size(getattr(config, ffn), hidden_size, config.hidden_size))
    new.hidden_size, new.num_attention_heads = hidden_size, hidden_size // head_size
    return new


def _ffn_size(size: int, hidden_size: int, of: int) -> int:
    """In proportion, in eights for the sake of vector units; the full width stays, eights or not."""
    return size if hidden_size == of else min(size, max(8, 8 * round(size * hidden_size / of / 8)))


def _axes(name: str) -> tuple[str, ...]:
    module = f".{name.rpartition('.')[0]}"
    for ending, axes in _AXES.items():
        if module.endswith((f".{ending}", f"_{ending}")):
            return axes
    raise AssertionError(f"{name} is not a tensor of a BERT or a DistilBERT")


def _cut(tensor: torch.Tensor, axes: tuple[str, ...], kept: _Kept) -> torch.Tensor:
    for axis, what in enumerate(axes[: tensor.ndim]):
        if what != _ALL:
            tensor = tensor.index_select(axis, kept[what])
    return tensor


def _largest(scores: torch.Tensor, count: int) -> torch.Tensor:
    """Indices of the largest scores, ascending; of equal scores the first."""
    return scores.argsort(descending=True, stable=True)[:count].sort().values


def _channel_scores(state: State) -> torch.Tensor:
    """Scores of the residual channels, (hidden,): the sum over LayerNorms of the root mean square that each gives out.

    A LayerNorm's input is standardised, so that its output's mean square is gain² + bias² for a channel like any other.
    On MiniLM that ranks channels about as well as measured activations do; the norms of the embeddings' columns, or of
    the weights that read a channel, rank no better than chance.
    """
    gains = [name for name in state if name.endswith(("LayerNorm.weight", "layer_norm.weight"))]
    squares = [state[name].float() ** 2 + state[name.replace("weight", "bias")].float() ** 2 for name in gains]
    return torch.stack(squares).sqrt().sum(dim=0)


def _kept_in_layer(state: State, layer: int, hidden: torch.Tensor, config: PreTrainedConfig) -> _Kept:
    """Heads and neurons of one layer, scored by what is left of them without the other channels."""
    weights = {}
    for name, tensor in state.items():
        match = LAYER.match(name)
        if match and int(match[2]) == layer and tensor.ndim == 2:
            weights[_axes(name)] = tensor.float()
    size = config.hidden_size // config.num_attention_heads
    projection = weights[_HIDDEN, _HEADS][hidden]
    heads = _largest(projection.reshape(len(hidden), -1, size).norm(dim=(0, 2)), config.num_attention_heads)
    neurons = weights[_FFN, _HIDDEN][:, hidden].norm(dim=1) * weights[_HIDDEN, _FFN][hidden].norm(dim=0)
    width = config.hidden_dim if config.model_type == "distilbert" else config.intermediate_size
    channels = torch.arange(size, device=heads.device)
    return {_HEADS: (heads[:, None] * size + channels).flatten(), _FFN: _largest(neurons, width)}
