"""Chooses the thresholds of a multi-label model: on training rows that it was not trained on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from compressor.models.checkpoint import Checkpoint
from compressor.models.outputs import LOGITS
from compressor.models.thresholds import DEFAULT, KEY
from compressor.training import devices
from compressor.training.batches import RowBatches
from compressor.training.context import Facts

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LEAST, MOST = 0.05, 0.95
"""Thresholds that are chosen: beyond them a threshold is of a few rows' noise."""
LEAST_ROWS = 10
"""Rows with a label below which its threshold stays `DEFAULT`: nothing could be learned from so few."""
_DIGITS = 4
_ROWS_AT_ONCE = 32


def choose(model: PreTrainedModel, rows: RowBatches, labels: Sequence[str]) -> Facts:
    """Chooses the thresholds of a trained model and writes them into its config.

    Args:
        model: The model.
        rows: The rows to choose on.
        labels: Names of its outputs.

    Returns:
        `thresholds` by label, and `threshold_rows`, the number of the rows.
    """
    scores, right = _answers(model, rows)
    found = {name: best(scores[:, index], right[:, index]) for index, name in enumerate(labels)}
    setattr(model.config, KEY, found)
    return {"thresholds": found, "threshold_rows": len(rows)}


def follow(model: PreTrainedModel, teacher: Checkpoint | None) -> None:
    """Gives a model the thresholds of its teacher, whose probabilities it learns; of labels alone, 0.5 everywhere.

    Args:
        model: The model, whose config is changed.
        teacher: The teacher; None for a model that learns from labels.
    """
    given = teacher.config.get(KEY) if teacher is not None else None
    if given:
        setattr(model.config, KEY, given)
    elif hasattr(model.config, KEY):
        delattr(model.config, KEY)


def best(scores: NDArray[np.float64], right: NDArray[np.bool_]) -> float:
    """The threshold of one label with the highest F1, in the middle between two rows; of equal ones that next to 0.5.

    Args:
        scores: Probabilities `(rows,)`.
        right: Whether each row has the label. `(rows,)`.

    Source: Lipton, Elkan & Narayanaswamy 2014, "Thresholding classifiers to maximize F1 score".
    """
    if right.sum() < LEAST_ROWS:
        return DEFAULT
    levels = np.unique(scores)
    between = np.round((levels[1:] + levels[:-1]) / 2, _DIGITS)
    tried = np.unique([DEFAULT, *between[(between >= LEAST) & (between <= MOST)]])
    order = np.argsort(scores, kind="stable")
    above = np.searchsorted(scores[order], tried, side="right")
    given = len(scores) - above
    hits = np.concatenate([np.cumsum(right[order][::-1])[::-1], [0]])[above]
    f1 = 2 * hits / (given + right.sum())
    highest = tried[f1 >= f1.max() - 1e-12]
    return float(highest[np.abs(highest - DEFAULT).argmin()])


def _answers(model: PreTrainedModel, batches: RowBatches) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Probabilities and true labels of rows, `(rows, labels)` each."""
    scores, right = [], []
    model.eval()
    with torch.no_grad(), devices.moved(model) as device:
        for start in range(0, len(batches), _ROWS_AT_ONCE):
            rows = list(range(start, min(start + _ROWS_AT_ONCE, len(batches))))
            (batch,) = devices.batches_on(device, [batches.batch(rows)])
            labels = batch.pop("labels")
            scores.append(model(**batch)[LOGITS].double().sigmoid().cpu().numpy())
            right.append(labels.bool().cpu().numpy())
    return np.concatenate(scores), np.concatenate(right)
