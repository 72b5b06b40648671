"""Bounds of shares: of one share, and of the difference and the ratio of two shares of the same rows.

Counts may be fractions: rows that belong together count as fewer independent ones (an effective number of rows).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from compressor.gates.estimate import normal_quantile

_TINY = 1e-12


@dataclass(frozen=True)
class Paired:
    """How two models answer the same rows; the numbers of rows may be fractions.

    Attributes:
        both: Rows that both have right.
        mine: Rows that only the judged model has right.
        theirs: Rows that only the reference has right.
        n: All rows.
    """

    both: float
    mine: float
    theirs: float
    n: float

    def scaled(self, n: float) -> Paired:
        """The same shares of another number of rows."""
        factor = n / self.n
        return Paired(self.both * factor, self.mine * factor, self.theirs * factor, n)


def exact(share: float, n: float, confidence: float) -> tuple[float, float]:
    """One-sided bounds of a share, each with at least the given confidence.

    Wilson's interval is closer on average, but its upper bound holds in 92.7 % of cases for 0.9 of 100 rows.

    Args:
        share: The observed share.
        n: Rows.
        confidence: Of each bound.

    Source: Clopper & Pearson 1934, "The use of confidence or fiducial limits illustrated in the case of the binomial";
    for numbers of rows that are not whole, Korn & Graubard 1998.
    """
    from scipy.special import betaincinv

    hits, misses = share * n, (1 - share) * n
    low = 0.0 if hits < _TINY else float(betaincinv(hits, misses + 1, 1 - confidence))
    high = 1.0 if misses < _TINY else float(betaincinv(hits + 1, misses, confidence))
    return low, high


def unseen(n: float, confidence: float) -> float:
    """Largest share of a kind of row that did not occur in n rows; about 3 / n for 95 %, the rule of three.

    Source: Hanley & Lippman-Hand 1983, "If nothing goes wrong, is everything all right?".
    """
    return float(1 - (1 - confidence) ** (1 / n))


def difference(table: Paired, confidence: float) -> tuple[float, float]:
    """One-sided bounds of the reference's share minus the judged model's.

    Unlike a bootstrap, the score test does not take a kind of row that did not occur to be impossible: one row that
    favours a model proves nothing about those that do not.

    Source: Tango 1998, "Equivalence test and confidence interval for the difference in proportions for the
    paired-sample design", equations 2 to 5.
    """
    n, more, fewer = table.n, table.theirs, table.mine

    def score(delta: float) -> float:
        a, b, c = 2 * n, -more - fewer + (2 * n - more + fewer) * delta, -fewer * delta * (1 - delta)
        share = (math.sqrt(max(0.0, b * b - 4 * a * c)) - b) / (2 * a)
        variance = n * (2 * share + delta * (1 - delta))
        return _standardized(more - fewer - n * delta, variance)

    value = (more - fewer) / n
    low, high = _invert(score, value, -1.0, 1.0, confidence)
    margin = unseen(n, confidence)
    return min(low, value - margin) if fewer == 0 else low, max(high, value + margin) if more == 0 else high


def ratio(table: Paired, confidence: float) -> tuple[float, float | None]:
    """One-sided bounds of the judged model's share over the reference's; the upper one is None where there is none.

    Source: Tang, Tang & Chan 2003, "On tests of equivalence via non-unity relative risk for matched-pair design",
    the score test with the constrained maximum-likelihood estimate.
    """
    n, right = table.n, table.both + table.mine + table.theirs
    own, other = table.both + table.mine, table.both + table.theirs

    def score(theta: float) -> float:
        a = n * (1 + theta)
        b = other * theta * theta - (own + 2 * table.theirs)
        c = table.theirs * (1 - theta) * right / n
        share = (math.sqrt(max(0.0, b * b - 4 * a * c)) - b) / (2 * a)
        variance = n * ((1 + theta) * share + right * (theta - 1) / n)
        return _standardized(own - other * theta, variance)

    observed = own / other
    top = max(2.0, 2 * observed)
    while score(top) > -normal_quantile(confidence) and top < 1e6:
        top *= 4
    low, high = _invert(score, observed, _TINY, top, confidence)
    margin = unseen(n, confidence) * n / other
    low = min(low, observed - margin) if table.theirs == 0 else min(low, observed)
    high = max(high, observed + margin) if table.mine == 0 else high
    return low, high if top < 1e6 else None


def _standardized(difference: float, variance: float) -> float:
    if variance > _TINY:
        return difference / math.sqrt(variance)
    return 0.0 if abs(difference) < 1e-9 else math.copysign(math.inf, difference)


def _invert(
    score: Callable[[float], float], value: float, least: float, most: float, confidence: float
) -> tuple[float, float]:
    """The values at which a falling score is the quantile of the normal distribution, on either side of `value`."""
    from scipy.optimize import brentq

    z = normal_quantile(confidence)

    def root(target: float, near: float, far: float) -> float:
        def distance(x: float) -> float:
            return max(-1e9, min(1e9, score(x) - target))

        if distance(near) * distance(far) > 0:
            return far
        return float(brentq(distance, near, far, xtol=1e-10))

    return root(z, value, least), root(-z, value, most)
