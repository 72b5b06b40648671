"""Evidence that varies little or not at all: sizes, counts, shares of fixed rows, peak memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from compressor.gates.estimate import Estimate, Evidence


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
    """A quantity that varies little and is costly to repeat, such as peak memory: its median, bounded by its range."""

    samples: tuple[float, ...]

    @property
    def n(self) -> int:
        """Number of processes measured."""
        return len(self.samples)

    def estimate(self, confidence: float) -> Estimate:
        """Median and range of the samples."""
        return Estimate(float(np.median(self.samples)), min(self.samples), max(self.samples))

    def drop(self, reference: Evidence, confidence: float) -> Estimate:
        """Difference of the medians; the bounds take the opposite ends of the two ranges."""
        mine, theirs = self._pair(reference, confidence)
        return Estimate(theirs[0] - mine[0], theirs[1] - mine[2], theirs[2] - mine[1])

    def ratio(self, reference: Evidence, confidence: float) -> Estimate:
        """Ratio of the medians; the bounds take the opposite ends of the two ranges."""
        mine, theirs = self._pair(reference, confidence)
        return Estimate(mine[0] / theirs[0], mine[1] / theirs[2], mine[2] / theirs[1])

    def _pair(self, reference: Evidence, confidence: float) -> tuple[tuple[float, float, float], ...]:
        assert isinstance(reference, Spread)
        return tuple(
            (float(np.median(spread.samples)), min(spread.samples), max(spread.samples)) for spread in (self, reference)
        )
