"""DistilBERT: a BERT without token types, with a ReLU layer where BERT has its tanh pooler.

Source: Sanh et al. 2019, "DistilBERT, a distilled version of BERT" (arXiv 1910.01108).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from compressor.errors import StageError
from compressor.models.families.base import Family, LayerBlocks, every_layer
from compressor.models.families.bert import can_hold, cannot_become
from compressor.models.heads import PRETRAINING

if TYPE_CHECKING:
    from compressor.models.parts import ModelParts

NAME = "distilbert"


def _blocks(config: Any) -> LayerBlocks:
    return replace(every_layer(config), pooler_activation="relu")


def _holds(parts: ModelParts) -> bool:
    return can_hold(parts) and "token_type.weight" not in parts.outside


def _fit(parts: ModelParts) -> ModelParts:
    if not can_hold(parts):
        raise cannot_become(NAME, parts)
    if parts.head == PRETRAINING.auto:
        raise StageError("a DistilBERT has no head for the order of sentences; use architecture: bert")
    # BERT's pooler becomes the pre-classifier, though that has ReLU for tanh: training has to make up for it.
    return replace(parts.without_token_types(), pooler_activation="relu")


def _configure(config: Any, parts: ModelParts) -> None:
    config.hidden_dim = max(parts.neurons)


FAMILY = Family(
    model_type=NAME,
    prefix="DistilBert",
    inputs=("input_ids", "attention_mask"),
    outside={
        "word": "distilbert.embeddings.word_embeddings",
        "position": "distilbert.embeddings.position_embeddings",
        "embedding_norm": "distilbert.embeddings.LayerNorm",
        "pooler": "pre_classifier",
        "classifier": "classifier",
        "span": "qa_outputs",
        "transform": "vocab_transform",
        "transform_norm": "vocab_layer_norm",
        "decoder": "vocab_projector",
    },
    inside={
        "query": "attention.q_lin",
        "key": "attention.k_lin",
        "value": "attention.v_lin",
        "attention_output": "attention.out_lin",
        "attention_norm": "sa_layer_norm",
        "up": "ffn.lin1",
        "down": "ffn.lin2",
        "feed_forward_norm": "output_layer_norm",
    },
    stacks=("distilbert.transformer.layer.{}",) * 2,
    head_tensors=("classifier.", "pre_classifier.", "qa_outputs.", "vocab_"),
    language_head="vocab_transform",
    blocks=_blocks,
    holds=_holds,
    fit=_fit,
    configure=_configure,
    config_names={
        "num_hidden_layers": "n_layers",
        "hidden_size": "dim",
        "num_attention_heads": "n_heads",
        "intermediate_size": "hidden_dim",
        "hidden_dropout_prob": "dropout",
        "attention_probs_dropout_prob": "attention_dropout",
        "classifier_dropout": "seq_classif_dropout",
        "hidden_act": "activation",
    },
    becomes=(NAME,),
    defaults={
        "vocab_size": 30522,
        "hidden_size": 768,
        "num_hidden_layers": 6,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "max_position_embeddings": 512,
    },
    layer_norm_epsilon=1e-12,
)
