"""Evidence of quality: per-row statistics, bounded by score intervals for shares, else by a bootstrap."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compressor.gates import shares
from compressor.gates.bootstrap import Statistics, bootstrap
from compressor.gates.estimate import Estimate, Evidence, Floats, normal_quantile, student_quantile

_PRIOR_ROWS = 4
"""Differing rows for which it is assumed that they differ group by group, until differing rows are seen."""


_NO_SHARE = "and a share of nothing is not defined; max_drop has no such limit"


@dataclass(frozen=True)
class Rows:
    """A quality metric over rows, as the sum of per-row statistics put through a formula.

    Attributes:
        statistics: The number that each row adds to the sums: 1 for a hit, or its cell of the confusion matrix.
            `(rows, k)`.
        formula: From summed statistics `(..., k)` to the metric `(...)`.
        binomial: Whether the metric is the mean of one 0/1 statistic, a share.
        groups: A number for each row, equal for rows that belong together, such as the questions of one text: they
            count as less evidence than independent rows. None where every row stands for itself. `(rows,)`.
        only_adding: Whether rows that add nothing to the sums are no evidence: rows without a label that is asked for.
    """

    statistics: Statistics
    formula: Callable[[Floats], Floats]
    binomial: bool = False
    groups: NDArray[np.int64] | None = None
    only_adding: bool = False

    @property
    def n(self) -> int:
        """Number of rows."""
        return int(self.statistics.shape[0])

    @property
    def value(self) -> float:
        """The metric over all rows."""
        return float(self.formula(self.statistics.sum(axis=0)))

    @property
    def _hits(self) -> Floats:
        """0 or 1 for each row, of a share. `(rows,)`."""
        assert self.binomial and isinstance(self.statistics, np.ndarray)
        return self.statistics[:, 0]

    def estimate(self, confidence: float) -> Estimate:
        """The metric over all rows; of a share Clopper and Pearson's bounds, else a bootstrap over groups of rows."""
        if self.binomial:
            hits = self._hits
            low, high = shares.exact(self.value, self._effective(hits, confidence, hits.var()), confidence)
            return Estimate(self.value, low, high)
        return bootstrap(self.statistics, self.groups, confidence, self.formula, only_adding=self.only_adding)

    def drop(self, reference: Evidence, confidence: float) -> Estimate:
        """Reference minus this, both on the same rows."""
        theirs = self._same_rows(reference)
        value = theirs.value - self.value
        if self.binomial:
            differing = theirs._hits - self._hits
            low, high = shares.difference(self._table(theirs, differing, confidence), confidence)
            return Estimate(value, low, high)
        return self._paired(theirs, confidence, lambda mine, other: other - mine, scale=1.0)

    def ratio(self, reference: Evidence, confidence: float) -> Estimate:
        """This divided by the reference, both on the same rows.

        There are no bounds where the reference may be 0 or less: a share of nothing is not defined.
        """
        theirs = self._same_rows(reference)
        if theirs.value <= 0:
            return Estimate(float("nan"), None, None, f"the reference is {theirs.value:.4g}, {_NO_SHARE}")
        value = self.value / theirs.value
        least = theirs.estimate(confidence).low
        if least is None or least <= 0:
            return Estimate(value, None, None, f"the reference's own bounds reach 0 or less on these rows, {_NO_SHARE}")
        if self.binomial:
            differing = self._hits - value * theirs._hits
            low, high = shares.ratio(self._table(theirs, differing, confidence), confidence)
            why = f"the reference may be 0 on rows like these, {_NO_SHARE}" if high is None else None
            return Estimate(value, low, high, why)
        return self._paired(theirs, confidence, lambda mine, other: mine / other, scale=1 / theirs.value)

    def _same_rows(self, reference: Evidence) -> Rows:
        assert isinstance(reference, Rows)
        assert reference.n == self.n, "paired rows are the same rows"
        return reference

    def _paired(
        self, reference: Rows, confidence: float, combine: Callable[[Floats, Floats], Floats], scale: float
    ) -> Estimate:
        width = self.statistics.shape[1]
        both: Statistics
        if isinstance(self.statistics, np.ndarray) and isinstance(reference.statistics, np.ndarray):
            both = np.concatenate([self.statistics, reference.statistics], axis=1)
        else:
            from scipy import sparse

            both = sparse.hstack([self.statistics, reference.statistics], format="csr")
        return bootstrap(
            both,
            self.groups,
            confidence,
            lambda sums: combine(self.formula(sums[..., :width]), reference.formula(sums[..., width:])),
            scale,
            only_adding=self.only_adding,
        )

    def _table(self, reference: Rows, differing: Floats, confidence: float) -> shares.Paired:
        """How both answer the rows, as so many rows as there are independent ones."""
        mine, theirs = self._hits > 0, reference._hits > 0
        table = shares.Paired(
            float((mine & theirs).sum()), float((mine & ~theirs).sum()), float((~mine & theirs).sum()), self.n
        )
        return table.scaled(self._effective(differing, confidence, differing.var(), seen=table.mine + table.theirs))

    def _effective(self, values: Floats, confidence: float, variance: float, seen: float | None = None) -> float:
        """Independent rows that would tell as much as these, which belong together in groups.

        Args:
            values: A number for each row, whose mean is bounded.
            confidence: Of each bound; with few groups, their variance is known badly, and Student's quantile replaces
                the normal one.
            variance: The variance of the values if all rows were independent.
            seen: Number of rows that differ; as long as it is small, nobody knows how they are grouped.

        Source: design effects, Rao & Scott 1992, "A simple method for the analysis of clustered binary data"; with
        Student's quantile, Korn & Graubard 1998.
        """
        if self.groups is None:
            return self.n
        _, index, sizes = np.unique(self.groups, return_inverse=True, return_counts=True)
        count = len(sizes)
        if count == self.n:
            return self.n
        if count == 1:
            return 1.0
        whole = float((sizes.astype(np.float64) ** 2).sum()) / self.n
        effect = 1.0 if seen is not None else whole
        if variance > 0:
            sums = np.bincount(index, values - values.mean())
            effect = float((sums**2).sum()) * count / (count - 1) / (self.n * variance)
        if seen is not None:
            effect = (seen * effect + _PRIOR_ROWS * whole) / (seen + _PRIOR_ROWS)
        quantiles = student_quantile(confidence, count - 1) / normal_quantile(confidence)
        return self.n / max(1.0, effect) / quantiles**2
