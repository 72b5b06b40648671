"""BERT.

Source: Devlin et al. 2019, "BERT: Pre-training of Deep Bidirectional Transformers" (arXiv 1810.04805).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from compressor.errors import StageError
from compressor.models.families.base import Family, every_layer

if TYPE_CHECKING:
    from compressor.models.parts import ModelParts

NAME = "bert"
INSIDE = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "attention_output": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "up": "intermediate.dense",
    "down": "output.dense",
    "feed_forward_norm": "output.LayerNorm",
}
DEFAULTS = {
    "vocab_size": 30522,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
}


def can_hold(parts: ModelParts) -> bool:
    """Layers of equal width that share nothing, and embeddings that go into the first layer as they are."""
    return parts.even and parts.separate and "mapping.weight" not in parts.outside


def cannot_become(name: str, parts: ModelParts) -> StageError:
    """The refusal of parts that the classes of a plain family cannot hold."""
    came_as = parts.config.model_type
    return StageError(f"a {came_as} checkpoint like this cannot become {name}; leave architecture out")


def holds(parts: ModelParts) -> bool:
    """The same with token types, and BERT's pooler."""
    return can_hold(parts) and "token_type.weight" in parts.outside and parts.pooler_activation == "tanh"


def _fit(parts: ModelParts) -> ModelParts:
    if not holds(parts):
        raise cannot_become(NAME, parts)
    return parts


def configure(config: Any, parts: ModelParts) -> None:
    """Sets the width of layers and the number of token types."""
    config.intermediate_size = max(parts.neurons)
    config.type_vocab_size = len(parts.outside["token_type.weight"])


FAMILY = Family(
    model_type=NAME,
    prefix="Bert",
    inputs=("input_ids", "attention_mask", "token_type_ids"),
    outside={
        "word": "bert.embeddings.word_embeddings",
        "position": "bert.embeddings.position_embeddings",
        "token_type": "bert.embeddings.token_type_embeddings",
        "embedding_norm": "bert.embeddings.LayerNorm",
        "pooler": "bert.pooler.dense",
        "classifier": "classifier",
        "span": "qa_outputs",
        "order": "cls.seq_relationship",
        "transform": "cls.predictions.transform.dense",
        "transform_norm": "cls.predictions.transform.LayerNorm",
        "decoder": "cls.predictions.decoder",
    },
    inside=INSIDE,
    stacks=("bert.encoder.layer.{}",) * 2,
    head_tensors=("classifier.", "bert.pooler.", "qa_outputs.", "cls."),
    language_head="cls.predictions",
    blocks=every_layer,
    holds=holds,
    fit=_fit,
    configure=configure,
    decoder_bias="cls.predictions.bias",
    becomes=("distilbert", "bert"),
    defaults=DEFAULTS,
)
