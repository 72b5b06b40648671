"""Masked language modelling: guess the tokens that were hidden in raw text."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from compressor.evidence import Rows

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


def answers(outputs: Floats, labels: Ints) -> Floats:
    """Sums over a row's masked tokens; the logits themselves would take megabytes a row.

    Args:
        outputs: Logits `(batch, sequence, vocabulary)`.
        labels: The hidden tokens, -100 where nothing is hidden. `(batch, sequence)`.

    Returns:
        Cross-entropy in nats, right guesses, and masked tokens. `(batch, 3)`.
    """
    sums = np.zeros((len(labels), 3), dtype=np.float32)
    for row, position in zip(*np.nonzero(labels >= 0), strict=True):
        logits, token = outputs[row, position].astype(np.float64), labels[row, position]
        highest = logits.max()
        log_sum = highest + np.log(np.exp(logits - highest).sum())
        sums[row] += (log_sum - logits[token], logits.argmax() == token, 1)
    return sums


def compared(outputs: Floats, labels: Ints) -> Floats:
    """Logits of the first masked token of each row, or of its first token. `(batch, vocabulary)`."""
    first = (labels >= 0).argmax(axis=1)
    return np.asarray(outputs[np.arange(len(outputs)), first])


def score(answers: Floats, references: Ints) -> dict[str, Rows]:
    """Top-1 accuracy, cross-entropy and perplexity of a masked token.

    Args:
        answers: What `answers` kept. `(rows, 3)`.
        references: Unused: the answers were held against the hidden tokens already.
    """
    sums = answers.astype(np.float64)
    return {
        "accuracy": Rows(sums[:, 1:], lambda total: total[..., 0] / total[..., 1]),
        "loss": Rows(sums[:, ::2], lambda total: total[..., 0] / total[..., 1]),
        "perplexity": Rows(sums[:, ::2], lambda total: np.asarray(np.exp(total[..., 0] / total[..., 1]))),
    }
