"""Average precision of multi-label answers, with what each row adds to it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from compressor.gates.estimate import Floats
from compressor.gates.rows import Rows


def average_precision(scores: NDArray[np.float32], right: NDArray[np.bool_]) -> Rows:
    """The mean over labels of average precision, which needs no thresholds: how well scores rank the rows with a label.

    Of one label it is the mean over the rows with it of precision at the row's score: the share of rows with the label
    among those with this score or a higher one. Labels that no row has are left out; NaN where none has any. Scores
    that are not numbers rank last.

    A rank depends on all rows, so it is no sum over rows. Bounds come from its linear approximation: the derivative by
    the weight of each row.

    Args:
        scores: `(rows, labels)`.
        right: Whether each row has each label. `(rows, labels)`.

    Source: Salton & McGill 1983; Jaeckel 1972, "The infinitesimal jackknife", for the derivatives.
    """
    n = len(scores)
    found = [_of_label(scores[:, i], right[:, i]) for i in range(scores.shape[1]) if right[:, i].any()]
    if not found:
        return Rows(np.ones((n, 1)), lambda sums: np.full(sums.shape[:-1], np.nan))
    value = float(np.mean([value for value, _ in found]))
    influence = np.mean([derivative for _, derivative in found], axis=0)

    def approximated(sums: Floats) -> Floats:
        return np.asarray(value + n * sums[..., 1] / sums[..., 0])

    return Rows(np.column_stack([np.ones(n), influence]), approximated)


def _of_label(scores: NDArray[Any], right: NDArray[np.bool_]) -> tuple[float, Floats]:
    """Average precision of one label, and its derivative by the weight of each row, of sum 0. `(rows,)`.

    With weights w, labels y, and for each row i the weights A_i of the rows that score as high or higher and T_i of
    those of them with the label, it is the sum of w y T / A over the sum of w y. All w are 1.
    """
    scores = np.nan_to_num(scores.astype(np.float64), nan=-np.inf, posinf=np.inf, neginf=-np.inf)
    distinct, place = np.unique(-scores, return_inverse=True)

    def level(weights: Floats) -> Floats:
        """Sums over the rows with each score, the highest score first."""
        return np.asarray(np.bincount(place, weights, len(distinct)))

    true = right.astype(np.float64)
    above, hits = np.cumsum(level(np.ones(len(scores)))), np.cumsum(level(true))
    positives, precision = true.sum(), hits / above
    value = float((level(true) * precision).sum() / positives)

    def from_here(values: Floats) -> Floats:
        """Sums over the rows with a label that score as high or lower, at each level."""
        return np.asarray(np.cumsum((level(true) * values)[::-1])[::-1])

    of_hits, of_rank = from_here(1 / above), from_here(hits / above**2)
    return value, (true * (precision - value)[place] + true * of_hits[place] - of_rank[place]) / positives
