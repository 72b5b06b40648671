"""Names of tasks, their metrics and their columns."""

from __future__ import annotations

MASKED_LM = "masked-lm"
"""The task of stages that pretrain, whatever the recipe's own is."""


QUALITY_METRICS: dict[str, tuple[str, ...]] = {
    "text-classification": ("accuracy", "f1", "matthews_correlation"),
    "text-regression": ("spearman",),
    "token-classification": ("f1", "accuracy"),
    "question-answering": ("f1", "exact_match"),
    MASKED_LM: ("accuracy", "loss", "perplexity", "sentence_order_accuracy"),
}
"""Metrics of each task, the main one first."""


COLUMNS: dict[str, tuple[str, ...]] = {
    "text-classification": ("text", "text_pair", "label"),
    "text-regression": ("text", "text_pair", "label"),
    "token-classification": ("tokens", "tags"),
    "question-answering": ("question", "context", "answers", "stride"),
    MASKED_LM: (),
}
"""Keys of `data` that say what the rows of a task look like."""
