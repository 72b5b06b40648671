"""Evidence of quality: per-row statistics, bounded by score intervals of shares or by a bootstrap.

The bootstrap is our own: `scipy.stats.bootstrap` resamples row by row, and cannot draw counts of distinct rows, nor
keep rows apart that belong together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compressor.gates import bootstrap, shares
from compressor.gates.estimate import Estimate, Evidence, Floats


@dataclass(frozen=True)
class Rows:
    """A quality metric over rows, as the sum of per-row statistics put through a formula.

    Attributes:
        statistics: What each row adds to the sums, such as 1 for a hit. `(rows, k)`, an array or, where most are 0, a
            `scipy.sparse.csr_array`.
        formula: From summed statistics `(..., k)` to the metric `(...)`.
        binomial: Whether the metric is the mean of one 0/1 statistic, so that score intervals of shares hold for it.
        groups: Which rows belong together, such as the questions about one context, and so are no independent
            observations: equal numbers for rows of one group. `(rows,)`; None where each row is independent.
    """

    statistics: Any
    formula: Callable[[Floats], Floats]
    binomial: bool = False
    groups: NDArray[np.int64] | None = None

    @property
    def n(self) -> int:
        """Number of rows."""
        return int(self.statistics.shape[0])

    @property
    def value(self) -> float:
        """The metric over all rows."""
        return float(self.formula(np.asarray(self.statistics.sum(axis=0))))

    def estimate(self, confidence: float) -> Estimate:
        """The metric over all rows; bounds by Wilson's score for a share, else by bootstrap over groups of rows."""
        if self.binomial:
            return shares.share(self._hits(), self.groups, confidence)
        return bootstrap.bounds(self.statistics, self.groups, self.formula, confidence)

    def drop(self, reference: Evidence, confidence: float) -> Estimate:
        """Reference minus this, on the same rows: Tango's score interval for shares, else a paired bootstrap."""
        assert isinstance(reference, Rows)
        if self.binomial and reference.binomial:
            return shares.drop(self._hits(), reference._hits(), self.groups, confidence)
        return self._paired(reference, confidence, lambda mine, theirs: theirs - mine, scale=1.0)

    def ratio(self, reference: Evidence, confidence: float) -> Estimate:
        """This divided by the reference, on the same rows: a score interval for shares, else a paired bootstrap.

        Without bounds unless the reference is above 0 with this confidence: a share of nothing, or of less than
        nothing, is no measure of what was kept.
        """
        assert isinstance(reference, Rows)
        if reference.value <= 0:
            return Estimate(float("nan"), None, None)
        if self.binomial and reference.binomial:
            return shares.ratio(self._hits(), reference._hits(), self.groups, confidence)
        least = reference.estimate(confidence).low
        if least is None or least <= 0:
            return Estimate(self.value / reference.value, None, None)
        return self._paired(reference, confidence, lambda mine, theirs: mine / theirs, scale=1 / reference.value)

    def _hits(self) -> Floats:
        return np.asarray(self.statistics[:, 0], dtype=np.float64)

    def _paired(
        self, reference: Rows, confidence: float, combine: Callable[[Floats, Floats], Floats], scale: float
    ) -> Estimate:
        assert reference.n == self.n, "paired rows are the same rows"
        width = self.statistics.shape[1]
        both = bootstrap.side_by_side(self.statistics, reference.statistics)
        return bootstrap.bounds(
            both,
            self.groups,
            lambda sums: combine(self.formula(sums[..., :width]), self.formula(sums[..., width:])),
            confidence,
            scale,
        )
