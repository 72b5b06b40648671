"""Bootstrap bounds of a formula over summed per-row statistics, for rows that may belong together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compressor.gates import shares
from compressor.gates.estimate import RESAMPLES, SEED, Estimate, Floats

_FEWEST_RESAMPLES = 1000
_MOST_DRAWN = 400_000_000
"""Units drawn over all resamples: a million rows get fewer resamples, whose bounds hardly vary."""
_CHUNK = 4_000_000
"""Numbers that are held at once, for each of a few arrays."""
_KINDS = 1000
"""Up to so many distinct units a multinomial over them is faster than one draw for each unit."""


def side_by_side(first: Any, second: Any) -> Any:
    """The statistics of two models on the same rows. `(rows, 2k)`."""
    from scipy import sparse

    if sparse.issparse(first):
        return sparse.hstack([first, second], format="csr")
    return np.concatenate([first, second], axis=1)


def bounds(
    rows: Any,
    groups: NDArray[np.int64] | None,
    formula: Callable[[Floats], Floats],
    confidence: float,
    scale: float = 1.0,
) -> Estimate:
    """Bias-corrected and accelerated bounds, from resamples of whole groups of rows.

    Sources: Efron & Tibshirani 1993, sections 14.3 (BCa) and 11.2 (jackknife); Davison & Hinkley 1997, section 3.8
    (resampling of whole groups).

    Args:
        rows: Per-row statistics, an array or a sparse one. `(rows, k)`.
        groups: Equal numbers for rows that belong together. `(rows,)`; None where each row is independent.
        formula: From summed statistics `(..., k)` to the compared quantity `(...)`.
        confidence: Of each bound.
        scale: Change of the compared quantity if all rows changed.
    """
    from scipy import sparse
    from scipy.special import ndtr, ndtri

    units = sparse.csr_array(rows, dtype=np.float64)
    if groups is not None:
        _, group = np.unique(groups, return_inverse=True)
        ones = np.ones(len(group))
        units = sparse.csr_array(sparse.csr_array((ones, (group, np.arange(len(group))))) @ units)
    n = int(units.shape[0])
    total = np.asarray(units.sum(axis=0), dtype=np.float64)
    value = float(formula(total))
    # Equal units have equal projections on a random vector, and different ones different projections.
    projections = units @ np.random.default_rng(SEED).random(units.shape[1])
    _, first, kind, counts = np.unique(projections, return_index=True, return_inverse=True, return_counts=True)
    kinds = sparse.csr_array(units[first])
    with np.errstate(divide="ignore", invalid="ignore"):
        values = _resampled(kinds, kind, counts, formula)
        left_out = _in_chunks(len(first), units.shape[1], lambda part: formula(total - kinds[part].toarray()))
    asked, values = len(values), values[np.isfinite(values)]
    if len(values) < asked // 2:
        return Estimate(value, None, None)
    probabilities = np.array([1 - confidence, confidence])
    known = np.isfinite(left_out)
    if values.min() < values.max() and known.any():
        below = (np.count_nonzero(values < value) + np.count_nonzero(values == value) / 2) / len(values)
        bias = float(ndtri(np.clip(below, 1 / len(values), 1 - 1 / len(values))))
        gaps = np.average(left_out[known], weights=counts[known]) - left_out[known]
        spread = float((counts[known] * gaps**2).sum())
        acceleration = float((counts[known] * gaps**3).sum()) / (6 * spread**1.5) if spread > 0 else 0.0
        shifted = bias + ndtri(probabilities)
        probabilities = ndtr(bias + shifted / (1 - acceleration * shifted))
    low, high = (float(bound) for bound in np.quantile(values, probabilities))
    unseen = scale * shares.unseen(n, confidence)  # a resample cannot hold a unit of a kind that did not occur
    return Estimate(value, min(low, value - unseen), max(high, value + unseen))


def _resampled(
    kinds: Any, kind: NDArray[np.int64], counts: NDArray[np.int64], formula: Callable[[Floats], Floats]
) -> Floats:
    """The formula of each resample."""
    n, random = len(kind), np.random.default_rng(SEED)
    resamples = max(_FEWEST_RESAMPLES, min(RESAMPLES, _MOST_DRAWN // n))

    def draw(part: slice) -> Floats:
        size = part.stop - part.start
        if len(counts) <= _KINDS:
            drawn = random.multinomial(n, counts / n, size=size)
        else:
            drawn = np.stack([np.bincount(kind[random.integers(0, n, n)], minlength=len(counts)) for _ in range(size)])
        return formula(np.asarray((kinds.T @ drawn.T.astype(np.float64)).T))

    return _in_chunks(resamples, max(len(counts), kinds.shape[1]), draw)


def _in_chunks(total: int, width: int, of: Callable[[slice], Floats]) -> Floats:
    step = max(1, _CHUNK // width)
    return np.concatenate([of(slice(start, min(start + step, total))) for start in range(0, total, step)])
