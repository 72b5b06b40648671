"""Masked language modelling: guess the tokens that were hidden in raw text, and whether two segments are in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compressor.gates.rows import Rows
from compressor.models import heads
from compressor.models.outputs import LOGITS, SENTENCE_ORDER

NAME = "masked-lm"
COLUMNS: tuple[str, ...] = ()
METRICS: tuple[str, ...] = ("accuracy", "loss", "perplexity", "sentence_order_accuracy")
HEAD = heads.MASKED_LM
PIPELINE_TAG = "fill-mask"

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Outputs = Mapping[str, Floats]
Batch = Mapping[str, Ints]


def positions(batch: Batch) -> NDArray[np.bool_]:
    """The masked tokens of each row, or its first token. `(batch, sequence)`."""
    hidden: NDArray[np.bool_] = batch["labels"] >= 0
    first = np.arange(hidden.shape[1]) == 0
    return np.asarray(hidden | (first & ~hidden.any(axis=1, keepdims=True)))


def answers(outputs: Outputs, batch: Batch) -> Floats:
    """Sums over a row's masked tokens; the logits themselves would take megabytes a row.

    Args:
        outputs: `logits` `(batch, sequence, vocabulary)` and, of a model with that head, `sentence_order_logits`
            `(batch, 2)`.
        batch: With `labels`: the hidden tokens, -100 where nothing is hidden. `(batch, sequence)`.

    Returns:
        Cross-entropy in nats, right guesses, and masked tokens. `(batch, 3)`; or with the order that the model
        predicts, `(batch, 4)`.
    """
    labels = batch["labels"]
    sums = np.zeros((len(labels), 3), dtype=np.float32)
    for row, position in zip(*np.nonzero(labels >= 0), strict=True):
        logits, token = outputs[LOGITS][row, position].astype(np.float64), labels[row, position]
        highest = logits.max()
        log_sum = highest + np.log(np.exp(logits - highest).sum())
        sums[row] += (log_sum - logits[token], logits.argmax() == token, 1)
    if SENTENCE_ORDER not in outputs:
        return sums
    return np.column_stack([sums, outputs[SENTENCE_ORDER].argmax(axis=1)]).astype(np.float32)


def compared(outputs: Outputs, batch: Batch) -> Floats:
    """Logits of the first masked token of each row, or of its first token. `(batch, 1, vocabulary)`."""
    first = (batch["labels"] >= 0).argmax(axis=1)
    return np.asarray(outputs[LOGITS][np.arange(len(first)), first][:, None])


def score(answers: Floats, references: Mapping[str, NDArray[Any]], labels: Sequence[str]) -> dict[str, Rows]:
    """Top-1 accuracy, cross-entropy and perplexity of a masked token, and the accuracy of the order of segments.

    Args:
        answers: What `answers` kept. `(rows, 3)` or, of a model that classifies the order, `(rows, 4)`.
        references: `order`: the right order of each row's segments; empty where there are no pairs. `(rows,)` or
            `(0,)`.
        labels: None.
    """
    sums = answers[:, :3].astype(np.float64)
    metrics = {
        "accuracy": Rows(sums[:, 1:], lambda total: total[..., 0] / total[..., 1]),
        "loss": Rows(sums[:, ::2], lambda total: total[..., 0] / total[..., 1]),
        "perplexity": Rows(sums[:, ::2], lambda total: np.asarray(np.exp(total[..., 0] / total[..., 1]))),
    }
    order = references["order"]
    if answers.shape[1] > 3 and len(order):
        hits = (answers[:, 3] == order).astype(np.float64)[:, None]
        metrics["sentence_order_accuracy"] = Rows(hits, lambda total: total[..., 0] / len(hits), binomial=True)
    return metrics
