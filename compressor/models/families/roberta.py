"""RoBERTa, and XLM-RoBERTa and CamemBERT, which are RoBERTas with other tokenizers.

A BERT whose positions are counted from the row behind that of the padding token, usually with one type of tokens.

Source: Liu et al. 2019, "RoBERTa: A Robustly Optimized BERT Pretraining Approach" (arXiv 1907.11692); Conneau et al.
2020 (arXiv 1911.02116); Martin et al. 2020 (arXiv 1911.03894).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from compressor.models.families.base import Family, every_layer
from compressor.models.families.bert import DEFAULTS, INSIDE, cannot_become, configure, holds

if TYPE_CHECKING:
    from compressor.models.parts import ModelParts


def _fit(parts: ModelParts) -> ModelParts:
    if not holds(parts):
        raise cannot_become("roberta", parts)
    return parts


OF_HEADS = {
    "pooler": "classifier.dense",
    "classifier": "classifier.out_proj",
    "span": "qa_outputs",
    "transform": "lm_head.dense",
    "transform_norm": "lm_head.layer_norm",
    "decoder": "lm_head.decoder",
}
"""Modules of the parts in heads, by part."""

ROBERTA = Family(
    model_type="roberta",
    prefix="Roberta",
    inputs=("input_ids", "attention_mask"),
    outside={
        "word": "roberta.embeddings.word_embeddings",
        "position": "roberta.embeddings.position_embeddings",
        "token_type": "roberta.embeddings.token_type_embeddings",
        "embedding_norm": "roberta.embeddings.LayerNorm",
        **OF_HEADS,
    },
    of_head={"ForTokenClassification": {"classifier": "classifier"}},
    idle=("roberta.pooler.dense",),
    inside=INSIDE,
    stacks=("roberta.encoder.layer.{}",) * 2,
    head_tensors=("classifier.", "qa_outputs.", "lm_head."),
    language_head="lm_head",
    blocks=every_layer,
    holds=holds,
    fit=_fit,
    configure=configure,
    decoder_bias="lm_head.bias",
    skips_padding=True,
    defaults={**DEFAULTS, "vocab_size": 50265, "pad_token_id": 1},
)
XLM_ROBERTA = replace(
    ROBERTA, model_type="xlm-roberta", prefix="XLMRoberta", defaults={**ROBERTA.defaults, "vocab_size": 30522}
)
CAMEMBERT = replace(XLM_ROBERTA, model_type="camembert", prefix="Camembert")
