"""Evidence of quality: per-row statistics, bounded by Wilson's interval or a paired bootstrap.

The bootstrap is our own: `scipy.stats.bootstrap` resamples row by row, and cannot draw counts of distinct rows, which
makes 4,000 resamples of 10,000 hits one matrix product.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from compressor.gates.estimate import RESAMPLES, SEED, Estimate, Evidence, Floats


@dataclass(frozen=True)
class Rows:
    """A quality metric over rows, as the sum of per-row statistics put through a formula.

    Attributes:
        statistics: What each row adds to the sums: 1 for a hit, or its cell of the confusion matrix. `(rows, k)`.
        formula: From summed statistics `(..., k)` to the metric `(...)`.
        binomial: Whether the metric is the mean of one 0/1 statistic, so that Wilson's interval holds for it.
    """

    statistics: Floats
    formula: Callable[[Floats], Floats]
    binomial: bool = False

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.statistics)

    @property
    def value(self) -> float:
        """The metric over all rows."""
        return float(self.formula(self.statistics.sum(axis=0)))

    def estimate(self, confidence: float) -> Estimate:
        """The metric over all rows; bounds by Wilson's score for a share, else by bootstrap over rows."""
        value = self.value
        if self.binomial:
            from scipy.stats import binomtest

            hits = round(float(self.statistics.sum(axis=0)[0]))
            # Wilson 1927; two-sided at 2c - 1 is one-sided at c on each side.
            interval = binomtest(hits, self.n).proportion_ci(2 * confidence - 1, method="wilson")
            return Estimate(value, float(interval.low), float(interval.high))
        return self._bootstrap(self.statistics, confidence, self.formula)

    def drop(self, reference: Evidence, confidence: float) -> Estimate:
        """Reference minus this, by paired bootstrap: both are scored on the same resampled rows."""
        return self._paired(reference, confidence, lambda mine, theirs: theirs - mine, scale=1.0)

    def ratio(self, reference: Evidence, confidence: float) -> Estimate:
        """This divided by the reference, by paired bootstrap; without bounds when the reference is 0."""
        assert isinstance(reference, Rows)
        score = float(reference.formula(reference.statistics.sum(axis=0)))
        if score == 0:
            return Estimate(float("nan"), None, None)
        return self._paired(reference, confidence, lambda mine, theirs: mine / theirs, scale=1 / score)

    def _paired(
        self, reference: Evidence, confidence: float, combine: Callable[[Floats, Floats], Floats], scale: float
    ) -> Estimate:
        assert isinstance(reference, Rows)
        assert reference.n == self.n, "paired rows are the same rows"
        width = self.statistics.shape[1]
        both = np.concatenate([self.statistics, reference.statistics], axis=1)
        return self._bootstrap(
            both,
            confidence,
            lambda sums: combine(self.formula(sums[..., :width]), self.formula(sums[..., width:])),
            scale,
        )

    @staticmethod
    def _bootstrap(
        rows: Floats, confidence: float, formula: Callable[[Floats], Floats], scale: float = 1.0
    ) -> Estimate:
        """Percentile bootstrap. Source: Efron & Tibshirani 1993, chapter 13.

        Args:
            rows: Per-row statistics. `(rows, k)`.
            confidence: Of each bound.
            formula: From summed statistics `(..., k)` to the compared quantity `(...)`.
            scale: Change of the compared quantity if all rows changed.
        """
        n = len(rows)
        value = float(formula(rows.sum(axis=0)))
        # A multinomial over the distinct rows is the same draw as one row at a time, only faster.
        kinds, counts = np.unique(rows, axis=0, return_counts=True)
        draws = np.random.default_rng(SEED).multinomial(n, counts / n, size=RESAMPLES)
        with np.errstate(divide="ignore", invalid="ignore"):
            values = formula(draws @ kinds)
        values = values[np.isfinite(values)]
        if len(values) < RESAMPLES // 2:
            return Estimate(value, None, None)
        low, high = (float(bound) for bound in np.quantile(values, [1 - confidence, confidence]))
        if low == high:
            # No resample differs if no row does. The share of rows that would differ, with none seen in n, is below
            # 1 - (1 - c)^(1/n): the "rule of three". Source: Hanley & Lippman-Hand 1983.
            unseen = scale * (1 - (1 - confidence) ** (1 / n))
            low, high = value - unseen, value + unseen
        return Estimate(value, min(low, value), max(high, value))
