"""Evidence that varies little or not at all: sizes, counts, shares of fixed rows, peak memory."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from compressor.gates.estimate import Estimate, Evidence, student_quantile


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
            return Estimate(float("nan"), None, None, "the reference is 0, and nothing is a ratio to it")
        ratio = self.value / reference.value
        return Estimate(ratio, ratio, ratio)


@dataclass(frozen=True)
class Spread:
    """A quantity that varies little and is costly to repeat, such as peak memory: the mean of a few processes.

    Bounds are Student's, which hold for any number of processes from two on; one process has none.
    """

    samples: tuple[float, ...]

    @property
    def n(self) -> int:
        """Number of processes measured."""
        return len(self.samples)

    def estimate(self, confidence: float) -> Estimate:
        """Mean of the samples, and bounds of the mean."""
        mean = float(np.mean(self.samples))
        return self._bounded(mean, self._variance, self.n - 1, confidence)

    def ratio(self, reference: Evidence, confidence: float) -> Estimate:
        """Ratio of the means; bounds to first order, since both vary little. Source: Welch 1947."""
        assert isinstance(reference, Spread)
        theirs = float(np.mean(reference.samples))
        ratio = float(np.mean(self.samples)) / theirs
        variance, degrees = self._welch(reference, ratio)
        return self._bounded(ratio, variance / theirs**2, degrees, confidence)

    @property
    def _variance(self) -> float:
        """Variance of the mean."""
        return float(np.var(self.samples, ddof=1)) / self.n if self.n > 1 else 0.0

    def _welch(self, reference: Spread, factor: float) -> tuple[float, float]:
        """Variance of this mean less `factor` times the reference's, and its degrees of freedom."""
        mine, theirs = self._variance, factor**2 * reference._variance
        if min(self.n, reference.n) < 2:
            return 0.0, 0.0
        if mine + theirs == 0:
            return 0.0, 1.0
        return mine + theirs, (mine + theirs) ** 2 / (mine**2 / (self.n - 1) + theirs**2 / (reference.n - 1))

    @staticmethod
    def _bounded(value: float, variance: float, degrees: float, confidence: float) -> Estimate:
        if degrees <= 0:
            return Estimate(value, None, None, "one process says nothing of the spread between processes")
        half = student_quantile(confidence, degrees) * math.sqrt(variance)
        return Estimate(value, value - half, value + half)
