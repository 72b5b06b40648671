"""ELECTRA: a BERT whose embeddings may be narrower than its layers, with a GELU where BERT's pooler has its tanh.

Source: Clark et al. 2020, "ELECTRA: Pre-training Text Encoders as Discriminators Rather Than Generators" (arXiv
2003.10555).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from compressor.models.families.albert import with_token_types
from compressor.models.families.base import Family, LayerBlocks, every_layer
from compressor.models.families.bert import INSIDE, cannot_become

if TYPE_CHECKING:
    from compressor.models.parts import ModelParts

NAME = "electra"


def _blocks(config: Any) -> LayerBlocks:
    return replace(every_layer(config), pooler_activation="gelu")


def _holds(parts: ModelParts) -> bool:
    """Its embeddings are mapped just where they are of another width than the layers."""
    mapped = "mapping.weight" in parts.outside
    whole = parts.even and parts.separate and mapped == (parts.embedding_size != parts.hidden_size)
    return whole and "token_type.weight" in parts.outside and parts.pooler_activation == "gelu"


def _fit(parts: ModelParts) -> ModelParts:
    if not _holds(parts):
        raise cannot_become(NAME, parts)
    return with_token_types(parts)


def _configure(config: Any, parts: ModelParts) -> None:
    config.intermediate_size = max(parts.neurons)
    config.type_vocab_size = len(parts.outside["token_type.weight"])
    config.embedding_size = parts.embedding_size


FAMILY = Family(
    model_type=NAME,
    prefix="Electra",
    inputs=("input_ids", "attention_mask", "token_type_ids"),
    outside={
        "word": "electra.embeddings.word_embeddings",
        "position": "electra.embeddings.position_embeddings",
        "token_type": "electra.embeddings.token_type_embeddings",
        "embedding_norm": "electra.embeddings.LayerNorm",
        "mapping": "electra.embeddings_project",
        "pooler": "classifier.dense",
        "classifier": "classifier.out_proj",
        "span": "qa_outputs",
        "transform": "generator_predictions.dense",
        "transform_norm": "generator_predictions.LayerNorm",
        "decoder": "generator_lm_head",
    },
    of_head={"ForTokenClassification": {"classifier": "classifier"}},
    inside=INSIDE,
    stacks=("electra.encoder.layer.{}",) * 2,
    head_tensors=("classifier.", "qa_outputs.", "generator_"),
    language_head="generator_predictions",
    blocks=_blocks,
    holds=_holds,
    fit=_fit,
    configure=_configure,
    keeps_mapping=True,
    defaults={
        "vocab_size": 30522,
        "embedding_size": 128,
        "hidden_size": 256,
        "num_hidden_layers": 12,
        "num_attention_heads": 4,
        "intermediate_size": 1024,
        "max_position_embeddings": 512,
        "type_vocab_size": 2,
    },
)
