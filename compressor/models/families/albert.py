"""ALBERT: layers in groups that share weights, and embeddings of a width of their own.

Source: Lan et al. 2019, "ALBERT: A Lite BERT" (arXiv 1909.11942).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from compressor.errors import StageError
from compressor.models.families.base import Family, LayerBlocks

if TYPE_CHECKING:
    from compressor.models.parts import ModelParts

NAME = "albert"

OUTSIDE = {
    "word": "albert.embeddings.word_embeddings",
    "position": "albert.embeddings.position_embeddings",
    "token_type": "albert.embeddings.token_type_embeddings",
    "embedding_norm": "albert.embeddings.LayerNorm",
    "mapping": "albert.encoder.embedding_hidden_mapping_in",
    "pooler": "albert.pooler",
    "classifier": "classifier",
    "span": "qa_outputs",
    "order": "sop_classifier.classifier",
    "transform": "predictions.dense",
    "transform_norm": "predictions.LayerNorm",
    "decoder": "predictions.decoder",
}
HEAD_TENSORS = ("classifier.", "albert.pooler.", "qa_outputs.", "predictions.", "sop_classifier.")
CONFIG_NAMES = {"classifier_dropout": "classifier_dropout_prob"}
DEFAULTS = {
    "vocab_size": 30000,
    "embedding_size": 128,
    "hidden_size": 4096,
    "num_hidden_layers": 12,
    "num_hidden_groups": 1,
    "num_attention_heads": 64,
    "intermediate_size": 16384,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
}


def published_groups(layers: int, groups: int) -> tuple[int, ...]:
    """The group of each layer as transformers' ALBERT computes it, off by one for some depths."""
    return tuple(int(layer / (layers / groups)) for layer in range(layers))


def fits(parts: ModelParts) -> bool:
    """Whether an ALBERT can hold the parts: layers of equal width that share whole, in its own groups."""
    groups = published_groups(parts.num_hidden_layers, len(parts.attentions))
    return parts.even and parts.attention_of_layer == groups and parts.feed_forward_of_layer == groups


def with_token_types(parts: ModelParts) -> ModelParts:
    """The parts with two token types: of zeros where there are none, alike where there is one."""
    import torch

    types = parts.outside.get("token_type.weight")
    if types is None:
        types = torch.zeros_like(parts.outside["position.weight"][:2])
    elif len(types) == 1:
        types = types.repeat(2, 1)
    else:
        return parts
    return replace(parts, outside={**parts.outside, "token_type.weight": types})


def configure(config: Any, parts: ModelParts) -> None:
    """Sets the widths of layers and embeddings, and the number of groups."""
    config.intermediate_size = max(parts.neurons)
    config.type_vocab_size = len(parts.outside["token_type.weight"])
    config.embedding_size = parts.embedding_size
    config.num_hidden_groups = len(parts.attentions)


def _blocks(config: Any) -> LayerBlocks:
    groups = published_groups(int(config.num_hidden_layers), int(config.num_hidden_groups))
    return LayerBlocks(groups, groups, config.hidden_size // config.num_attention_heads)


def _holds(parts: ModelParts) -> bool:
    return fits(parts) and not (parts.separate and "mapping.weight" not in parts.outside)


def _fit(parts: ModelParts) -> ModelParts:
    import torch

    if not fits(parts):
        raise StageError("an ALBERT shares whole layers of equal width, in its own groups; use compact_bert")
    parts = with_token_types(parts)
    outside = dict(parts.outside)
    if "mapping.weight" not in outside:
        outside["mapping.weight"] = torch.eye(parts.hidden_size)
        outside["mapping.bias"] = torch.zeros(parts.hidden_size)
    return replace(parts, outside=outside, pooler_activation="tanh")


def _shared_blocks(config: Mapping[str, Any]) -> dict[str, int]:
    groups = published_groups(int(config["num_hidden_layers"]), int(config["num_hidden_groups"]))
    return {f"albert.encoder.albert_layer_groups.{group}": count for group, count in Counter(groups).items()}


FAMILY = Family(
    model_type=NAME,
    prefix="Albert",
    inputs=("input_ids", "attention_mask", "token_type_ids"),
    outside=OUTSIDE,
    inside={
        "query": "attention.query",
        "key": "attention.key",
        "value": "attention.value",
        "attention_output": "attention.dense",
        "attention_norm": "attention.LayerNorm",
        "up": "ffn",
        "down": "ffn_output",
        "feed_forward_norm": "full_layer_layer_norm",
    },
    stacks=("albert.encoder.albert_layer_groups.{}.albert_layers.0",) * 2,
    head_tensors=HEAD_TENSORS,
    language_head="predictions",
    blocks=_blocks,
    holds=_holds,
    fit=_fit,
    configure=configure,
    decoder_bias="predictions.bias",
    config_names=CONFIG_NAMES,
    keeps=False,
    shared_blocks=_shared_blocks,
    blocks_setting="num_hidden_groups",
    defaults=DEFAULTS,
)
