"""MPNet: a BERT whose attention adds a bias for the distance of two tokens, with heads and positions as RoBERTa's.

Source: Song et al. 2020, "MPNet: Masked and Permuted Pre-training for Language Understanding" (arXiv 2004.09297).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from compressor.models.families.base import Family, Shapes, dense, norm
from compressor.models.families.bert import DEFAULTS
from compressor.models.families.roberta import OF_HEADS, ROBERTA

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

_LAYER = "mpnet.encoder.layer.{}"
_INSIDE = {
    "query": "attention.attn.q",
    "key": "attention.attn.k",
    "value": "attention.attn.v",
    "attention_output": "attention.attn.o",
    "attention_norm": "attention.LayerNorm",
    "up": "intermediate.dense",
    "down": "output.dense",
    "feed_forward_norm": "output.LayerNorm",
}
_PADDING = 1
"""The token that its classes take for padding, whatever the config says."""


def _tensors(config: Mapping[str, Any]) -> Shapes:
    hidden, inner, heads, buckets = (
        int(FAMILY.setting(config, name))
        for name in ("hidden_size", "intermediate_size", "num_attention_heads", "relative_attention_num_buckets")
    )
    found = {
        "mpnet.embeddings.word_embeddings.weight": (int(FAMILY.setting(config, "vocab_size")), hidden),
        "mpnet.embeddings.position_embeddings.weight": (int(FAMILY.setting(config, "max_position_embeddings")), hidden),
        **norm("mpnet.embeddings.LayerNorm", hidden),
        "mpnet.encoder.relative_attention_bias.weight": (buckets, heads),
    }
    for number in range(int(FAMILY.setting(config, "num_hidden_layers"))):
        layer = _LAYER.format(number)
        for part in ("query", "key", "value", "attention_output"):
            found |= dense(f"{layer}.{_INSIDE[part]}", hidden, hidden)
        found |= dense(f"{layer}.{_INSIDE['up']}", inner, hidden) | dense(f"{layer}.{_INSIDE['down']}", hidden, inner)
        for part in ("attention_norm", "feed_forward_norm"):
            found |= norm(f"{layer}.{_INSIDE[part]}", hidden)
    return found


def _unsupported(config: Mapping[str, Any]) -> str | None:
    if (padding := FAMILY.setting(config, "pad_token_id")) != _PADDING:
        return f"pad_token_id: {padding}; MPNet's classes take the token {_PADDING} for padding"
    return None


def _prepare(model: PreTrainedModel, least: float) -> None:
    """Looks the bias up by distance: its classes compute the bucket of every pair of tokens, by logarithms."""
    import torch

    encoder, longest = model.base_model.encoder, int(model.config.max_position_embeddings)
    if "compute_position_bias" in vars(encoder):  # it is prepared already
        return
    buckets = encoder.relative_position_bucket(torch.arange(-longest, longest))
    rows = encoder.relative_attention_bias.weight.detach()[buckets]
    by_distance = torch.nn.Embedding(len(rows), rows.shape[1], _weight=rows)
    encoder.relative_attention_bias = by_distance

    def bias(states: torch.Tensor) -> torch.Tensor:
        places = (states[:1, :, 0] * 0 + 1).long().cumsum(1)
        values: torch.Tensor = by_distance(places[:, None, :] - places[:, :, None] + longest)
        return values.permute(0, 3, 1, 2)

    encoder.compute_position_bias = bias


FAMILY = Family(
    model_type="mpnet",
    prefix="MPNet",
    inputs=("input_ids", "attention_mask"),
    outside={
        "word": "mpnet.embeddings.word_embeddings",
        "position": "mpnet.embeddings.position_embeddings",
        "embedding_norm": "mpnet.embeddings.LayerNorm",
        **OF_HEADS,
    },
    of_head=ROBERTA.of_head,
    idle=("mpnet.pooler.dense",),
    inside=_INSIDE,
    stacks=(_LAYER,) * 2,
    head_tensors=ROBERTA.head_tensors,
    language_head="lm_head",
    decoder_bias="lm_head.bias",
    skips_padding=True,
    defaults={**{name: size for name, size in DEFAULTS.items() if name != "type_vocab_size"}, "vocab_size": 30527}
    | {"pad_token_id": _PADDING, "relative_attention_num_buckets": 32},
    tensors=_tensors,
    matrices=tuple(module for part, module in _INSIDE.items() if not part.endswith("norm")),
    unsupported=_unsupported,
    own_attention=True,
    prepare=_prepare,
)
