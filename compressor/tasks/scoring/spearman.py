"""Spearman's rank correlation."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from compressor.gates.estimate import Floats
from compressor.gates.rows import Rows


def spearman(
    answers: NDArray[np.float32], values: NDArray[np.float64], groups: NDArray[np.int64] | None = None
) -> Rows:
    """Pearson's correlation of ranks, where equal numbers share the mean of theirs.

    Its bounds come from rows drawn with the ranks that they have among all.

    Args:
        answers: Numbers `(rows,)`.
        values: The right ones. `(rows,)`.
        groups: A number for each row, equal for rows that belong together; None where whoever asks knows. `(rows,)`.

    Source: Spearman 1904; Fieller, Hartley & Pearson 1957 for ties.
    """
    from scipy.stats import rankdata

    n = len(answers)
    # Around 0 and below 1, so that sums of squares keep their digits.
    x, y = ((rankdata(numbers) - (n + 1) / 2) / n for numbers in (answers, values))

    def correlation(sums: Floats) -> Floats:
        count = sums[..., 0]
        mean_x, mean_y = sums[..., 1] / count, sums[..., 2] / count
        covariance = sums[..., 5] / count - mean_x * mean_y
        spread = np.sqrt((sums[..., 3] / count - mean_x**2) * (sums[..., 4] / count - mean_y**2))
        return np.asarray(np.divide(covariance, spread, out=np.zeros_like(covariance), where=spread > 0))

    return Rows(np.column_stack([np.ones(n), x, y, x * x, y * y, x * y]), correlation, groups=groups)
