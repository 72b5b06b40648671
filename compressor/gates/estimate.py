"""A value with its confidence bounds, and the interface of all evidence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

RESAMPLES = 4000
"""Resamples of every bootstrap."""

SEED = 0
"""Fixed, so that the same evidence always gets the same verdict."""


@dataclass(frozen=True)
class Estimate:
    """A value with its one-sided bounds; None where the evidence gives no bound, and then why."""

    value: float
    low: float | None
    high: float | None
    unbounded: str | None = None


def normal_quantile(confidence: float) -> float:
    """The quantile of the standard normal distribution."""
    from scipy.special import ndtri

    return float(ndtri(confidence))


def student_quantile(confidence: float, degrees: float) -> float:
    """The quantile of Student's t distribution with so many degrees of freedom."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees, confidence))


class Evidence(Protocol):
    """Measurements of one metric for one checkpoint; bounds are one-sided, each with the given confidence."""

    @property
    def n(self) -> int:
        """Number of independent observations."""

    def estimate(self, confidence: float) -> Estimate:
        """The metric's value and its bounds."""

    def ratio(self, reference: Evidence, confidence: float) -> Estimate:
        """This divided by the reference."""
