"""What a model gives, by one set of names, whatever transformers calls it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

NO_LABEL = -100
"""Label of a token that has none; torch's cross-entropy ignores it."""

LOGITS = "logits"
"""The main output: of a classifier `(batch, labels)`, of tokens `(batch, sequence, tags)`, of a language model
`(batch, sequence, vocabulary)`."""
START, END = "start_logits", "end_logits"
"""Where an answer starts and where it ends. `(batch, sequence)` each."""
SENTENCE_ORDER = "sentence_order_logits"
"""Whether two segments are in order (0) or swapped (1). `(batch, 2)`."""

_PRETRAINING = {LOGITS: ("prediction_logits",), SENTENCE_ORDER: ("seq_relationship_logits", "sop_logits")}
_QUESTIONS: dict[str, tuple[str, ...]] = {START: (START,), END: (END,)}
_PER_TOKEN = ("ForMaskedLM", "ForPreTraining", "ForTokenClassification", "ForQuestionAnswering")


def _fields(model: PreTrainedModel) -> dict[str, tuple[str, ...]]:
    """From our names to transformers' possible ones, in a fixed order."""
    kind = type(model).__name__
    if kind.endswith("ForQuestionAnswering"):
        return _QUESTIONS
    return _PRETRAINING if kind.endswith("ForPreTraining") else {LOGITS: (LOGITS,)}


def output_names(model: PreTrainedModel) -> tuple[str, ...]:
    """Names of a model's outputs, in the order that traced formats give them; the main one first."""
    return tuple(_fields(model))


def free_axes(model: PreTrainedModel) -> dict[str, dict[int, str]]:
    """Which axes of each output have the size of a batch and of a sequence, by name."""
    per_token = type(model).__name__.endswith(_PER_TOKEN)
    batch, sequence = {0: "batch_size"}, {1: "sequence_length"}
    return {
        name: batch | sequence if per_token and name in (LOGITS, START, END) else batch for name in output_names(model)
    }


def named(model: PreTrainedModel, outputs: Any) -> dict[str, torch.Tensor]:
    """A model's outputs by name.

    Args:
        model: The model, not wrapped for several processes.
        outputs: What its `forward` returned.
    """
    return {
        name: next(outputs[field] for field in fields if field in outputs) for name, fields in _fields(model).items()
    }
