"""Our own family, for parts that no class of transformers can hold: layers that share halves, and uneven widths."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from compressor.models.families.albert import CONFIG_NAMES, DEFAULTS, HEAD_TENSORS, OUTSIDE, with_token_types
from compressor.models.families.albert import configure as configure_albert
from compressor.models.families.base import Family, LayerBlocks
from compressor.models.heads import CLASSES, HEADS

if TYPE_CHECKING:
    from compressor.models.parts import ModelParts

NAME = "compact_bert"

_ENCODER = "albert.encoder."


def _blocks(config: Any) -> LayerBlocks:
    layers = tuple(config.attention_of_layer), tuple(config.feed_forward_of_layer)
    return LayerBlocks(*layers, config.head_size, config.pooler_activation)


def _configure(config: Any, parts: ModelParts) -> None:
    configure_albert(config, parts)
    config.attention_of_layer = list(parts.attention_of_layer)
    config.feed_forward_of_layer = list(parts.feed_forward_of_layer)
    config.heads, config.neurons, config.head_size = parts.heads, parts.neurons, parts.head_size
    config.embedding_mapping = "mapping.weight" in parts.outside
    config.pooler_activation = parts.pooler_activation


def _shared_blocks(config: Mapping[str, Any]) -> dict[str, int]:
    found: dict[str, int] = {}
    for module, key in (("attentions", "attention_of_layer"), ("feed_forwards", "feed_forward_of_layer")):
        found |= {f"{_ENCODER}{module}.{block}": count for block, count in Counter(config.get(key, ())).items()}
    return found


def _register() -> None:
    import transformers

    from compressor.models import compact_bert as classes

    transformers.AutoConfig.register(NAME, classes.CompactBertConfig, exist_ok=True)
    own = {head.auto for head in HEADS if head.own}
    for end in ("", *(end for end in CLASSES if end not in own)):
        model = getattr(classes, f"CompactBert{end or 'Model'}")
        getattr(transformers, f"AutoModel{end}").register(classes.CompactBertConfig, model, exist_ok=True)


FAMILY = Family(
    model_type=NAME,
    prefix="CompactBert",
    inputs=("input_ids", "attention_mask", "token_type_ids"),
    outside=OUTSIDE,
    inside={
        "query": "query",
        "key": "key",
        "value": "value",
        "attention_output": "dense",
        "attention_norm": "LayerNorm",
        "up": "ffn",
        "down": "ffn_output",
        "feed_forward_norm": "LayerNorm",
    },
    stacks=(f"{_ENCODER}attentions.{{}}", f"{_ENCODER}feed_forwards.{{}}"),
    head_tensors=HEAD_TENSORS,
    language_head="predictions",
    blocks=_blocks,
    holds=lambda parts: True,
    fit=with_token_types,
    configure=_configure,
    decoder_bias="predictions.bias",
    config_names=CONFIG_NAMES,
    keeps=False,
    shared_blocks=_shared_blocks,
    blocks_setting="heads",
    defaults=DEFAULTS,
    register=_register,
)
