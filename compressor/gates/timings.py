"""Evidence of latency: repeated timings, bounded by order statistics and a block bootstrap."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from compressor.gates.estimate import RESAMPLES, SEED, Estimate, Evidence, Floats


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

        The number of samples below the true q-quantile is Binomial(n, q), whatever the distribution of the times. For
        q = 0.95 and 95 % confidence even the largest sample is an upper bound only from n = 59 on.
        Source: David & Nagaraja, Order Statistics (3rd ed.), section 7.1.
        """
        from scipy.stats import quantile_test

        # Two-sided at 2c - 1 is one-sided at c on each side.
        bounds = quantile_test(self.samples, p=self.quantile).confidence_interval(2 * confidence - 1)
        low, high = (None if np.isnan(bound) else float(bound) for bound in bounds)
        return Estimate(float(_quantiles(self.samples[None], self.quantile)[0]), low, high)

    def drop(self, reference: Evidence, confidence: float) -> Estimate:
        """Reference quantile minus this one, by block bootstrap over the rounds."""
        return self._paired(reference, confidence, lambda mine, theirs: theirs - mine)

    def ratio(self, reference: Evidence, confidence: float) -> Estimate:
        """This divided by the reference: for medians the median of neighbouring ratios, else the ratio of quantiles.

        Neighbouring calls meet the same load of the machine, which cancels in their ratio: the median of those ratios
        varies about half as much as the ratio of the medians (`benchmarks/gate_fidelity.py`), and successive ratios
        are independent, so that order statistics bound it. Two rounds count as one, because their orders are opposite:
        the effect of being called first cancels.
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
        # Successive rounds meet the same load of the machine: resample blocks of them, not single rounds.
        # Source: Politis & Romano 1992, circular block bootstrap; block length of the order n^(1/3).
        block = max(1, round(self.n ** (1 / 3)))
        starts = np.random.default_rng(SEED).integers(0, self.n, (RESAMPLES, -(-self.n // block)))
        drawn = (starts[:, :, None] + np.arange(block)).reshape(RESAMPLES, -1)[:, : self.n] % self.n
        mine, theirs = (_quantiles(samples[drawn], self.quantile) for samples in rounds)
        draws = combine(mine, theirs)
        low, high = np.quantile(draws, [1 - confidence, confidence])
        return Estimate(value, min(float(low), value), max(float(high), value))


def _quantiles(samples: Floats, q: float) -> Floats:
    """The q-quantile of each row of `(draws, runs)`."""
    return np.asarray(np.quantile(samples, q, axis=1), dtype=np.float64)
