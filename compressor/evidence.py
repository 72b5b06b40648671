"""What was measured, and how far it can be trusted: values with confidence bounds. Pure numpy, no models.

Every bound is one-sided at its confidence: `low` lies above the true value in at most `1 - confidence` of the runs,
and so does `high` below it. A gate asks a one-sided question ("at least 0.8?"), so this is the bound that answers it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_RESAMPLES = 4000
_SEED = 0  # verdicts of the same evidence must not change from one look to the next


@dataclass(frozen=True)
class Estimate:
    """A value with its one-sided bounds; None where the evidence gives no bound."""

    value: float
    low: float | None
    high: float | None


class Evidence(Protocol):
    """Measurements of one metric for one checkpoint."""

    @property
    def n(self) -> int:
        """Number of independent observations."""

    def estimate(self, confidence: float) -> Estimate:
        """The metric's value."""

    def drop(self, reference: Evidence, confidence: float) -> Estimate:
        """Reference minus this, in the metric's unit; the reference is of the same kind and metric."""

    def ratio(self, reference: Evidence, confidence: float) -> Estimate:
        """This divided by the reference."""


@dataclass(frozen=True)
class Exact:
    """A quantity that does not vary: a size, a count, or a share of a fixed set of rows."""

    value: float
    n: int = 1

    def estimate(self, confidence: float) -> Estimate:
        """The value, known exactly."""
        return Estimate(self.value, self.value, self.value)

    def drop(self, reference: Evidence, confidence: float) -> Estimate:
        """Reference minus this."""
        assert isinstance(reference, Exact)
        difference = reference.value - self.value
        return Estimate(difference, difference, difference)

    def ratio(self, reference: Evidence, confidence: float) -> Estimate:
        """This divided by the reference; without bounds when the reference is 0."""
        assert isinstance(reference, Exact)
        if reference.value == 0:
            return Estimate(float("nan"), None, None)
        ratio = self.value / reference.value
        return Estimate(ratio, ratio, ratio)


@dataclass(frozen=True)
class Spread:
    """A quantity that hardly varies and is costly to repeat (peak memory): median, with the range as its bounds."""

    samples: tuple[float, ...]

    @property
    def n(self) -> int:
        """Number of processes measured."""
        return len(self.samples)

    def estimate(self, confidence: float) -> Estimate:
        """Median and range of the samples."""
        return Estimate(float(np.median(self.samples)), min(self.samples), max(self.samples))

    def drop(self, reference: Evidence, confidence: float) -> Estimate:
        """Difference of the medians; the bounds are the two ranges at their furthest."""
        mine, theirs = self._pair(reference, confidence)
        return Estimate(theirs[0] - mine[0], theirs[1] - mine[2], theirs[2] - mine[1])

    def ratio(self, reference: Evidence, confidence: float) -> Estimate:
        """Ratio of the medians; the bounds are the two ranges at their furthest."""
        mine, theirs = self._pair(reference, confidence)
        return Estimate(mine[0] / theirs[0], mine[1] / theirs[2], mine[2] / theirs[1])

    def _pair(self, reference: Evidence, confidence: float) -> tuple[tuple[float, float, float], ...]:
        assert isinstance(reference, Spread)
        return tuple(
            (float(np.median(spread.samples)), min(spread.samples), max(spread.samples)) for spread in (self, reference)
        )


@dataclass(frozen=True)
class Timings:
    """Repeated timings; a reference must come from the same process, timed in turn with these.

    Attributes:
        samples: Milliseconds, in the order measured. Shape `(runs,)`.
        quantile: Which quantile the metric is, such as 0.5.
    """

    samples: Floats
    quantile: float

    @property
    def n(self) -> int:
        """Number of timed calls."""
        return len(self.samples)

    def estimate(self, confidence: float) -> Estimate:
        """The sample quantile; bounds are order statistics.

        The number of samples below the true q-quantile is Binomial(n, q), whatever the distribution of the times.
        Source: David & Nagaraja, Order Statistics (3rd ed.), section 7.1.
        """
        from scipy.stats import binom

        ordered, n, q = np.sort(self.samples), self.n, self.quantile
        # The r-th smallest is an upper bound when P(Binomial <= r - 1) >= confidence; for q = 0.95 and 95 % even the
        # largest is one only from n = 59 on.
        upper = int(binom.ppf(confidence, n, q)) + 1
        lower = int(binom.ppf(1 - confidence, n, q))
        return Estimate(
            float(_quantiles(self.samples[None], q)[0]),
            float(ordered[lower - 1]) if lower >= 1 else None,
            float(ordered[upper - 1]) if upper <= n else None,
        )

    def drop(self, reference: Evidence, confidence: float) -> Estimate:
        """Reference quantile minus this one, by bootstrap over the rounds."""
        return self._paired(reference, confidence, lambda mine, theirs: theirs - mine)

    def ratio(self, reference: Evidence, confidence: float) -> Estimate:
        """How many times as long this takes: of medians the median of neighbouring ratios, else a ratio of quantiles.

        Calls next to each other share the machine's mood, which their ratio is rid of: the median of those ratios
        varies about half as much as the ratio of the medians (`benchmarks/gate_fidelity.py`), and ratios that follow
        each other are independent, so that order statistics bound it. Two rounds count as one: in one of them this
        came first, in the other the reference, so that what the order does cancels.
        """
        if self.quantile != 0.5:
            return self._paired(reference, confidence, lambda mine, theirs: mine / theirs)
        rounds = self._rounds(reference)
        pairs = self.n // 2
        if pairs == 0:
            return Estimate(float(rounds[0, 0] / rounds[1, 0]), None, None)
        mine, theirs = rounds[:, : 2 * pairs].reshape(2, pairs, 2).prod(axis=2)
        return Timings(np.sqrt(mine / theirs), 0.5).estimate(confidence)

    def _rounds(self, reference: Evidence) -> Floats:
        """Both samples. `(2, runs)`."""
        assert isinstance(reference, Timings)
        assert reference.n == self.n, "timings of one round belong together"
        return np.stack([self.samples, reference.samples])

    def _paired(self, reference: Evidence, confidence: float, combine: Callable[[Floats, Floats], Floats]) -> Estimate:
        rounds = self._rounds(reference)
        value = float(combine(*_quantiles(rounds, self.quantile)))
        own, other = self.estimate(confidence), reference.estimate(confidence)
        if None in (own.low, own.high, other.low, other.high):
            return Estimate(value, None, None)
        # Rounds that follow each other share the machine's mood: resample blocks of them, not single rounds.
        # Source: Politis & Romano 1992, circular block bootstrap; block length of the order n^(1/3).
        block = max(1, round(self.n ** (1 / 3)))
        starts = np.random.default_rng(_SEED).integers(0, self.n, (_RESAMPLES, -(-self.n // block)))
        drawn = (starts[:, :, None] + np.arange(block)).reshape(_RESAMPLES, -1)[:, : self.n] % self.n
        mine, theirs = (_quantiles(samples[drawn], self.quantile) for samples in rounds)
        draws = combine(mine, theirs)
        low, high = np.quantile(draws, [1 - confidence, confidence])
        return Estimate(value, min(float(low), value), max(float(high), value))


@dataclass(frozen=True)
class Rows:
    """A quality metric over rows, as the sum of per-row statistics put through a formula.

    Attributes:
        statistics: What each row adds, such as 1 for a hit, or the row's cell of the confusion matrix. `(rows, k)`.
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
        """Percentile bootstrap; `scale` is what one row's share weighs. Source: Efron & Tibshirani 1993, chapter 13."""
        n = len(rows)
        value = float(formula(rows.sum(axis=0)))
        # Equal rows are drawn together: as a multinomial over the distinct ones, which is the same draw, only faster.
        kinds, counts = np.unique(rows, axis=0, return_counts=True)
        draws = np.random.default_rng(_SEED).multinomial(n, counts / n, size=_RESAMPLES)
        with np.errstate(divide="ignore", invalid="ignore"):
            values = formula(draws @ kinds)
        values = values[np.isfinite(values)]
        if len(values) < _RESAMPLES // 2:
            return Estimate(value, None, None)
        low, high = (float(bound) for bound in np.quantile(values, [1 - confidence, confidence]))
        if low == high:
            # Rows that all agree say nothing of those that would not: with none in n, their share is bounded by
            # 1 - (1 - c)^(1/n), the "rule of three". Source: Hanley & Lippman-Hand 1983.
            unseen = scale * (1 - (1 - confidence) ** (1 / n))
            low, high = value - unseen, value + unseen
        return Estimate(value, min(low, value), max(high, value))


def _quantiles(samples: Floats, q: float) -> Floats:
    """The q-quantile of each row of `(draws, runs)`."""
    return np.asarray(np.quantile(samples, q, axis=1), dtype=np.float64)
