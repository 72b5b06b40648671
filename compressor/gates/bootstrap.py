"""A bootstrap over groups of rows, for metrics that are not shares.

It is our own: `scipy.stats.bootstrap` resamples row by row, and cannot draw how often each group occurs, which makes
4,000 resamples one matrix product.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias, Union

import numpy as np
from numpy.typing import NDArray

from compressor.gates.estimate import RESAMPLES, SEED, Estimate, Floats, normal_quantile
from compressor.gates.shares import unseen

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Formula = Callable[[Floats], Floats]
"""From summed statistics `(..., k)` to the metric `(...)`."""

Statistics: TypeAlias = Union[Floats, "csr_array"]
"""What each row adds to the sums, `(rows, k)`; sparse where each row adds to few of many sums."""

MOST_UNITS = 2_000
"""Units that are drawn. More are first put together at random into so many: their sums vary as much in total, and time
and memory no longer grow with the rows."""
_CELLS = 20_000_000
"""Drawn numbers that are in memory at once."""
_WIDE = 64
"""Sums above which equal units are not looked for: there are hardly any."""


def bootstrap(
    statistics: Statistics,
    groups: NDArray[np.int64] | None,
    confidence: float,
    formula: Formula,
    scale: float = 1.0,
    *,
    only_adding: bool = False,
) -> Estimate:
    """Bounds by the bias-corrected and accelerated bootstrap (BCa), widened by the rule of three.

    Args:
        statistics: What each row adds to the sums. `(rows, k)`.
        groups: A number for each row, equal for rows that belong together, which are drawn together; None for none.
        confidence: Of each bound.
        formula: From summed statistics `(..., k)` to the compared quantity `(...)`.
        scale: Change of the compared quantity if all rows changed.
        only_adding: Whether rows that add nothing tell nothing: those without a label that is asked for.

    Source: Efron 1987, "Better bootstrap confidence intervals", section 6; for the rule of three Hanley &
    Lippman-Hand 1983.
    """
    total = statistics.sum(axis=0)
    value = float(formula(total))
    unit = np.arange(statistics.shape[0]) if groups is None else np.unique(groups, return_inverse=True)[1]
    count = int(unit.max()) + 1
    # A kind of row that did not occur in so many independent units may be up to this share of all, and no resample has
    # it. The two are independent, so that they add in quadrature.
    telling = len(np.unique(unit[_adds(statistics)])) if only_adding else count
    margin = scale * unseen(max(1, telling), confidence)
    random = np.random.default_rng(SEED)
    if count > MOST_UNITS:
        unit = random.permutation(np.arange(count) % MOST_UNITS)[unit]
    kinds, counts = _units(statistics, unit)
    drawn = _drawn(kinds, counts, formula, random)
    drawn = drawn[np.isfinite(drawn)]
    if not np.isfinite(value) or len(drawn) < RESAMPLES // 2:
        return Estimate(value, None, None, "it is undefined for these rows, or for most resamples of them")
    low, high = value, value
    if drawn.min() < drawn.max():
        levels = _levels(value, drawn, _without_each(kinds, counts, total, formula), confidence)
        low, high = (float(bound) for bound in np.quantile(drawn, levels))
    below, above = max(0.0, value - low), max(0.0, high - value)
    return Estimate(value, value - math.hypot(below, margin), value + math.hypot(above, margin))


def _adds(statistics: Statistics) -> NDArray[np.bool_]:
    """Whether each row adds anything to the sums. `(rows,)`."""
    sizes = abs(statistics).sum(axis=1)
    return np.asarray(sizes).reshape(-1) > 0


def _units(statistics: Statistics, unit: NDArray[np.int64]) -> tuple[Floats, NDArray[np.int64]]:
    """The distinct sums of units, and how often each occurs. `(kinds, k)` and `(kinds,)`."""
    from scipy.sparse import csr_array

    rows, units = len(unit), int(unit.max()) + 1
    sums = csr_array((np.ones(rows), (unit, np.arange(rows))), shape=(units, rows)) @ statistics
    sums = sums if isinstance(sums, np.ndarray) else sums.toarray()
    if sums.shape[1] > _WIDE:
        return sums, np.ones(units, dtype=np.int64)
    kinds, counts = np.unique(sums, axis=0, return_counts=True)
    return kinds, counts


def _drawn(kinds: Floats, counts: NDArray[np.int64], formula: Formula, random: np.random.Generator) -> Floats:
    """The quantity over each resample; a multinomial over distinct units is the same as one unit after the other."""
    share, total = counts / counts.sum(), int(counts.sum())
    step = max(1, _CELLS // max(len(kinds), kinds.shape[1]))
    found = []
    with np.errstate(divide="ignore", invalid="ignore"):
        for start in range(0, RESAMPLES, step):
            draws = random.multinomial(total, share, size=min(step, RESAMPLES - start))
            found.append(formula(draws @ kinds))
    return np.concatenate(found)


def _without_each(kinds: Floats, counts: NDArray[np.int64], total: Floats, formula: Formula) -> Floats:
    """The quantity without one unit, for every unit: the jackknife. `(units,)`."""
    step = max(1, _CELLS // kinds.shape[1])
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = [formula(total - kinds[start : start + step]) for start in range(0, len(kinds), step)]
    return np.repeat(np.concatenate(parts), counts)


def _levels(value: float, drawn: Floats, jackknife: Floats, confidence: float) -> list[float]:
    """The quantiles of the resamples that are the two bounds."""
    from scipy.special import ndtr

    below = float(np.mean(drawn < value) + np.mean(drawn == value) / 2)
    bias = normal_quantile(min(max(below, 1 / len(drawn)), 1 - 1 / len(drawn)))
    influence = jackknife.mean() - jackknife if np.isfinite(jackknife).all() else np.zeros(1)
    spread = float((influence**2).sum()) ** 1.5
    acceleration = float((influence**3).sum()) / (6 * spread) if spread > 0 else 0.0
    levels = []
    for z in (-normal_quantile(confidence), normal_quantile(confidence)):
        moved = bias + z
        levels.append(float(ndtr(bias + moved / max(1e-6, 1 - acceleration * moved))))
    return levels
