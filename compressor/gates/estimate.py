"""A value with confidence bounds, and what any evidence of a metric offers."""

from __future__ import annotations

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
