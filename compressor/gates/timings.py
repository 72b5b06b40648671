"""Evidence of latency: repeated timings in several processes.

The times of one process vary little, and all of them differ from those of the next process, for as long as both live:
more calls in one process only measure that process more precisely. So bounds come from the differences between
processes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from compressor.gates.estimate import RESAMPLES, SEED, Estimate, Evidence, Floats, normal_quantile, student_quantile

PROCESS_EFFECT = 0.01
"""Standard deviation between processes that is assumed where there was only one: the most that equal files differed by
(`benchmarks/gate_fidelity.py`)."""


@dataclass(frozen=True)
class Timings:
    """Repeated timings; a reference must come from the same process, timed in turn with these.

    Attributes:
        samples: Milliseconds, in the order measured. Shape `(runs,)`.
        quantile: Which quantile the metric is, such as 0.5.
        processes: Number of calls in each process, in order; empty where that does not matter.
        disturbed: Why they say nothing of what the device can do, and so have no bounds; empty where they do.
    """

    samples: Floats
    quantile: float
    processes: tuple[int, ...] = ()
    disturbed: str = ""

    @property
    def n(self) -> int:
        """Number of timed calls."""
        return len(self.samples)

    def estimate(self, confidence: float) -> Estimate:
        """The sample quantile; bounds are order statistics, widened by the differences between processes."""
        value = float(np.quantile(self.samples, self.quantile))
        if self.disturbed:
            return Estimate(value, None, None, self.disturbed)
        if self.quantile == 0.5 and len(self.processes) > 1:
            medians = [float(np.median(samples)) for samples in self._split(self.samples)]
            return _between(value, medians, confidence)
        return self._widened(self._order_statistics(value, confidence), confidence)

    def ratio(self, reference: Evidence, confidence: float) -> Estimate:
        """This divided by the reference: for medians the median of neighbouring ratios, else the ratio of quantiles.

        Neighbouring calls meet the same load of the machine, which cancels in their ratio: the median of those ratios
        varies about half as much as the ratio of the medians (`benchmarks/gate_fidelity.py`), and successive ratios
        are independent. Two rounds count as one, because their orders are opposite: the effect of being called first
        cancels.
        """
        rounds = self._rounds(reference)
        if self.disturbed:
            return Estimate(_ratio(rounds, self.quantile), None, None, self.disturbed)
        if self.quantile != 0.5:
            return self._ratio_of_quantiles(rounds, confidence)
        if self.n < 2:
            return Estimate(
                float(rounds[0, 0] / rounds[1, 0]), None, None, "one call says nothing of the spread of calls"
            )
        pairs = Timings(_neighbours(rounds), 0.5, tuple(count // 2 for count in self.processes))
        if len(self.processes) > 1:
            # Rounds of one process are an even number but for the last, which pairs never span.
            of_processes = [float(np.median(_neighbours(part))) for part in self._split(rounds)]
            return _between(float(np.median(pairs.samples)), of_processes, confidence)
        return pairs.estimate(confidence)

    def _order_statistics(self, value: float, confidence: float) -> Estimate:
        """Bounds of the quantile of one process.

        The number of samples below the true q-quantile is Binomial(n, q), whatever the distribution of the times. For
        q = 0.95 and 95 % confidence even the largest sample is an upper bound only from n = 59 on.
        Source: David & Nagaraja, Order Statistics (3rd ed.), section 7.1.
        """
        from scipy.stats import quantile_test

        # Two-sided at 2c - 1 is one-sided at c on each side.
        bounds = quantile_test(self.samples, p=self.quantile).confidence_interval(2 * confidence - 1)
        low, high = (None if np.isnan(bound) else float(bound) for bound in bounds)
        return Estimate(value, low, high, None if low is not None and high is not None else self._too_few())

    def _too_few(self) -> str:
        return f"{self.n} calls are too few to bound their quantile {self.quantile:g} on both sides"

    def _widened(self, estimate: Estimate, confidence: float) -> Estimate:
        """Bounds that allow for the differences between processes, which add to those between calls in quadrature."""
        if not self.processes:
            return estimate
        margin = normal_quantile(confidence) * PROCESS_EFFECT
        if (count := len(self.processes)) > 1:
            logs = np.log([np.median(samples) for samples in self._split(self.samples)])
            margin = student_quantile(confidence, count - 1) * float(logs.std(ddof=1)) / math.sqrt(count)

        def wider(bound: float | None, sign: int) -> float | None:
            if bound is None:
                return None
            return estimate.value * math.exp(sign * math.hypot(math.log(bound / estimate.value), margin))

        return replace(estimate, low=wider(estimate.low, -1), high=wider(estimate.high, 1))

    def _split(self, samples: Floats) -> list[Floats]:
        """The samples, `(…, runs)`, of each process."""
        return np.split(samples, np.cumsum(self.processes)[:-1], axis=-1)

    def _rounds(self, reference: Evidence) -> Floats:
        """Both samples. `(2, runs)`."""
        assert isinstance(reference, Timings)
        assert reference.n == self.n, "timings of one round belong together"
        return np.stack([self.samples, reference.samples])

    def _ratio_of_quantiles(self, rounds: Floats, confidence: float) -> Estimate:
        value = _ratio(rounds, self.quantile)
        sides = (Timings(samples, self.quantile)._order_statistics(0.0, confidence) for samples in rounds)
        if any(side.low is None or side.high is None for side in sides):
            return Estimate(value, None, None, self._too_few())
        if len(self.processes) > 1:
            return _between(value, [_ratio(part, self.quantile) for part in self._split(rounds)], confidence)
        # Successive rounds meet the same load of the machine: resample blocks of them, not single rounds.
        # Source: Politis & Romano 1992, circular block bootstrap; block length of the order n^(1/3).
        block = max(1, round(self.n ** (1 / 3)))
        starts = np.random.default_rng(SEED).integers(0, self.n, (RESAMPLES, -(-self.n // block)))
        drawn = (starts[:, :, None] + np.arange(block)).reshape(RESAMPLES, -1)[:, : self.n] % self.n
        mine, theirs = (np.quantile(samples[drawn], self.quantile, axis=1) for samples in rounds)
        low, high = np.quantile(mine / theirs, [1 - confidence, confidence])
        return self._widened(Estimate(value, min(float(low), value), max(float(high), value)), confidence)


def _between(value: float, of_processes: list[float], confidence: float) -> Estimate:
    """Bounds from what each process gave, by Student's t on the logarithms."""
    logs = np.log(of_processes)
    count = len(logs)
    half = student_quantile(confidence, count - 1) * float(logs.std(ddof=1)) / math.sqrt(count)
    centre = float(logs.mean())
    return Estimate(value, min(value, math.exp(centre - half)), max(value, math.exp(centre + half)))


def _neighbours(rounds: Floats) -> Floats:
    """Geometric means of the ratios of two successive rounds. `(runs // 2,)`."""
    pairs = rounds.shape[1] // 2
    mine, theirs = rounds[:, : 2 * pairs].reshape(2, pairs, 2).prod(axis=2)
    return np.asarray(np.sqrt(mine / theirs))


def _ratio(rounds: Floats, quantile: float) -> float:
    """The first quantile over the second, of samples `(2, runs)`."""
    mine, theirs = np.quantile(rounds, quantile, axis=1)
    return float(mine / theirs)
