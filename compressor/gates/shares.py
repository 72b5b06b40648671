"""Bounds of shares of right rows: one share, the difference and the ratio of two shares of the same rows.

Rows that belong together count as fewer: their numbers are divided by the design effect, the factor by which grouping
increases the variance. Source: Rao & Scott 1992, "A simple method for the analysis of clustered binary data".
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from compressor.gates.estimate import Estimate, Floats

Groups = NDArray[np.int64] | None


def unseen(n: float, confidence: float) -> float:
    """Upper bound of the share of a kind of rows of which none occurred: the "rule of three".

    Where all rows agree but one that favours a side, a score or a bootstrap takes the other side's rows for impossible.
    Source: Hanley & Lippman-Hand 1983.

    Args:
        n: Number of independent observations.
        confidence: Of the bound.
    """
    return float(1 - (1 - confidence) ** (1 / n))


def share(hits: Floats, groups: Groups, confidence: float) -> Estimate:
    """Share of hits, with Wilson's score bounds. Source: Wilson 1927.

    Args:
        hits: 1 or 0 for each row. `(rows,)`.
        groups: Equal numbers for rows that belong together; None where each row is independent.
        confidence: Of each bound.
    """
    value = float(hits.mean())
    effect, z = _design(hits - value, groups, confidence)
    n = len(hits) / effect
    middle, spread = value + z * z / (2 * n), z * np.sqrt(value * (1 - value) / n + z * z / (4 * n * n))
    low, high = ((middle + side * spread) / (1 + z * z / n) for side in (-1, 1))
    return Estimate(value, max(0.0, min(float(low), value)), min(1.0, max(float(high), value)))


def drop(mine: Floats, theirs: Floats, groups: Groups, confidence: float) -> Estimate:
    """Difference of two shares of the same rows, theirs minus mine, with Tango's score bounds.

    Source: Tango 1998, "Equivalence test and confidence interval for the difference in proportions for the
    paired-sample design", equations 9 to 12.
    """
    value = float((theirs - mine).mean())
    effect, z = _design(theirs - mine - value, groups, confidence)
    n = len(mine) / effect
    lost, won = float((theirs > mine).sum()) / effect, float((mine > theirs).sum()) / effect

    def score(delta: float) -> float:
        a, b = 2 * n, (2 * n - lost + won) * delta - lost - won
        least = (np.sqrt(max(b * b + 4 * a * won * delta * (1 - delta), 0)) - b) / (2 * a)
        return _score(lost - won - n * delta, n * (2 * least + delta * (1 - delta)))

    return _bounded(score, value, (-1.0, 1.0), z, unseen(n, confidence))


def ratio(mine: Floats, theirs: Floats, groups: Groups, confidence: float) -> Estimate:
    """Ratio of two shares of the same rows, mine over theirs, with score bounds; theirs is not 0.

    Sources: Nam & Blackwelder 2002, "Analysis of the ratio of marginal probabilities in a matched-pair setting"; Tang,
    Tang & Chan 2003.
    """
    value = float(mine.sum() / theirs.sum())
    effect, z = _design(mine - value * theirs, groups, confidence)
    n = len(mine) / effect
    both = float((mine * theirs).sum()) / effect
    won, lost = float(mine.sum()) / effect - both, float(theirs.sum()) / effect - both
    some = both + won + lost

    def score(phi: float) -> float:
        a, b = n * (1 + phi), (both + lost) * phi * phi - (both + won + 2 * lost)
        c = lost * (1 - phi) * some / n
        least = (np.sqrt(max(b * b - 4 * a * c, 0)) - b) / (2 * a)
        return _score(both + won - (both + lost) * phi, n * ((1 + phi) * least + some * (phi - 1) / n))

    return _bounded(score, value, (0.0, 1e6), z, unseen(n, confidence) / float(theirs.mean()))


def _design(residuals: Floats, groups: Groups, confidence: float) -> tuple[float, float]:
    """The design effect, and the quantile of the score: Student's for groups, since their number may be small.

    Rows that all agree do not show how much their groups have in common: then each group counts as one row.
    """
    from scipy.special import ndtri, stdtrit

    if groups is None:
        return 1.0, float(ndtri(confidence))
    _, group = np.unique(groups, return_inverse=True)
    count = int(group.max()) + 1
    if count == len(residuals):
        return 1.0, float(ndtri(confidence))
    quantile = float(stdtrit(max(1, count - 1), confidence))
    alone = float((residuals**2).sum())
    if alone <= 1e-12:
        return len(residuals) / count, quantile
    together = float((np.bincount(group, residuals) ** 2).sum()) * count / max(1, count - 1)
    return max(1.0, together / alone), quantile


def _score(difference: float, variance: float) -> float:
    if variance <= 1e-12:
        return 0.0 if abs(difference) <= 1e-12 else float(np.copysign(np.inf, difference))
    return float(difference / np.sqrt(variance))


def _bounded(
    score: Callable[[float], float], value: float, limits: tuple[float, float], z: float, unseen: float
) -> Estimate:
    """Where a falling score is z and -z, on both sides of its zero, and further out by what was not seen at least."""
    found = []
    for side, limit in zip((1.0, -1.0), limits, strict=True):
        near, far = value, limit
        for _ in range(100):
            middle = (near + far) / 2
            near, far = (middle, far) if side * score(middle) < z else (near, middle)
        found.append(far)
    return Estimate(value, max(limits[0], min(found[0], value - unseen)), max(found[1], value + unseen))
