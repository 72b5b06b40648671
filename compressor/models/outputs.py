"""A model's outputs by one set of names, whatever transformers calls them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from compressor.models.heads import (
    EMBEDDING,
    END,
    HEADS,
    LOGITS,
    PRETRAINING,
    SENTENCE_ORDER,
    START,
    TOKENS,
    Head,
)

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

__all__ = [
    "EMBEDDING",
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
    return tuple(_head(model).outputs)


def free_axes(model: PreTrainedModel) -> dict[str, dict[int, str]]:
    """The axes of each output, by its name, that have the size of a batch or of a sequence."""
    head = _head(model)
    batch, sequence = {0: "batch_size"}, {1: "sequence_length"}
    per_token = {name for name in head.outputs if head.per_token and name != SENTENCE_ORDER} | {TOKENS}
    return {name: batch | sequence if name in per_token else batch for name in head.outputs}


def outputs_by_name(model: PreTrainedModel, outputs: Any) -> dict[str, torch.Tensor]:
    """A model's outputs by name.

    Args:
        model: The model, not wrapped for several processes.
        outputs: What its `forward` returned.
    """
    fields = _head(model).outputs
    return {name: next(outputs[field] for field in names if field in outputs) for name, names in fields.items()}
