"""A model's outputs by one set of names, whatever transformers calls them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from compressor.models.heads import (
    EMBEDDING,
    EMBEDDINGS,
    END,
    HEADS,
    LOGITS,
    PRETRAINING,
    SENTENCE_ORDER,
    START,
    TOKENS,
    Head,
)
from compressor.models.sentence_embedding import SentenceEmbedding

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

__all__ = [
    "EMBEDDING",
    "EMBEDDINGS",
    "END",
    "LOGITS",
    "NO_LABEL",
    "SENTENCE_ORDER",
    "START",
    "TOKENS",
    "free_axes",
    "output_names",
    "outputs_by_name",
]

NO_LABEL = -100
"""Label of a token that has none; torch's cross-entropy ignores it."""


def _head(model: PreTrainedModel) -> Head:
    """The kind of head of a model."""
    name = type(model).__name__
    return next(head for head in (*HEADS, PRETRAINING) if name.endswith(head.auto))


def output_names(model: PreTrainedModel) -> tuple[str, ...]:
    """Names of a model's outputs, in the order that traced formats give them; the main one first."""
    return (*_head(model).outputs, *_smaller(model))


def _smaller(model: PreTrainedModel) -> list[str]:
    """Names of the outputs that hold a sentence's vector in smaller precisions."""
    how = getattr(model, "embedding", None)
    return [EMBEDDINGS[kind] for kind in how.precisions] if isinstance(how, SentenceEmbedding) else []


def free_axes(model: PreTrainedModel) -> dict[str, dict[int, str]]:
    """The axes of each output, by its name, that have the size of a batch or of a sequence."""
    head = _head(model)
    batch, sequence = {0: "batch_size"}, {1: "sequence_length"}
    per_token = {name for name in head.outputs if head.per_token and name != SENTENCE_ORDER} | {TOKENS}
    return {name: batch | sequence if name in per_token else batch for name in output_names(model)}


def outputs_by_name(model: PreTrainedModel, outputs: Any) -> dict[str, torch.Tensor]:
    """A model's outputs by name.

    Args:
        model: The model, not wrapped for several processes.
        outputs: What its `forward` returned.
    """
    fields = _head(model).outputs
    found = {name: next(outputs[field] for field in names if field in outputs) for name, names in fields.items()}
    return found | {name: outputs[name] for name in _smaller(model)}
