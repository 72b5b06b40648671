"""Score intervals: published values, what one row may change, and how often simulated bounds hold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compressor.gates import shares
from compressor.gates.rows import Rows
from compressor.gates.shares import Paired

COUNTS = st.integers(0, 40)


def accuracy(hits: np.ndarray, groups: np.ndarray | None = None) -> Rows:
    return Rows(hits.astype(np.float64)[:, None], lambda sums: sums[..., 0] / len(hits), binomial=True, groups=groups)


def test_bounds_of_fagerland_lydersen_and_laake_2014():
    # "Recommended tests and confidence intervals for paired binomial proportions", the airway data (1, 1, 7, 12):
    # Tango's interval of the difference is 0.026 to 0.517, Tang's of the ratio 0.065 to 0.907.
    table = Paired(both=1, mine=1, theirs=7, n=21)
    assert shares.difference(table, 0.975) == pytest.approx((0.026, 0.517), abs=5e-4)
    assert shares.ratio(table, 0.975) == pytest.approx((0.065, 0.907), abs=5e-4)


def test_one_row_that_favours_the_candidate_does_not_make_it_certain():
    theirs = np.ones(100, dtype=bool)
    theirs[0] = False
    mine = np.ones(100, dtype=bool)
    drop = accuracy(mine).drop(accuracy(theirs), 0.95)
    assert drop.low < drop.value == pytest.approx(-0.01) and drop.high > 0.01
    retention = accuracy(mine).ratio(accuracy(theirs), 0.95)
    assert retention.low < 0.99 < retention.value
    same = accuracy(theirs).drop(accuracy(theirs), 0.95)
    assert (same.low, same.high) == pytest.approx((-0.0295, 0.0295), abs=1e-4), "the rule of three"


@given(COUNTS, COUNTS, COUNTS, COUNTS)
def test_bounds_hold_the_value_mirror_each_other_and_widen(both: int, mine: int, theirs: int, neither: int):
    n = both + mine + theirs + neither
    if n == 0:
        return
    low, high = shares.difference(Paired(both, mine, theirs, n), 0.95)
    assert low <= (theirs - mine) / n <= high
    assert shares.difference(Paired(both, theirs, mine, n), 0.95) == pytest.approx((-high, -low), abs=1e-7)
    wide = shares.difference(Paired(both, mine, theirs, n), 0.99)
    assert wide[0] <= low and wide[1] >= high
    if both + theirs:
        low, top = shares.ratio(Paired(both, mine, theirs, n), 0.95)
        assert low <= (both + mine) / (both + theirs) <= (np.inf if top is None else top) + 1e-9


def test_a_reference_that_may_be_nothing_has_no_retention():
    bad = accuracy(np.zeros(50, dtype=bool))
    assert accuracy(np.ones(50, dtype=bool)).ratio(bad, 0.95).low is None
    constant = Rows(np.array([[0.5], [-0.6], [0.2], [-0.2]]), lambda sums: sums[..., 0] / 4)
    ratio = constant.ratio(constant, 0.95)
    assert (ratio.low, ratio.high) == (None, None), "the mean is below 0"


def test_rows_that_belong_together_are_less_evidence():
    random = np.random.default_rng(0)
    hits = np.repeat(random.random(60) < 0.8, 5)
    alone, together = accuracy(hits), accuracy(hits, np.repeat(np.arange(60), 5))
    narrow, wide = alone.estimate(0.95), together.estimate(0.95)
    assert wide.high - wide.low > 1.9 * (narrow.high - narrow.low), "60 rows of evidence: sqrt(5) times wider"
    one_by_one = accuracy(hits, np.arange(300)).estimate(0.95)
    assert one_by_one == narrow
    flips = hits ^ (random.random(300) < 0.03)
    apart = accuracy(flips).drop(alone, 0.95)
    grouped = accuracy(flips, together.groups).drop(together, 0.95)
    assert grouped.high >= apart.high


def test_bounds_of_grouped_rows_hold_as_often_as_they_say():
    random = np.random.default_rng(1)
    groups = np.repeat(np.arange(60), 5)
    held = []
    for _ in range(400):
        rates = random.beta(0.85 * 7 / 3, 0.15 * 7 / 3, 60)  # correlation 0.3 of two rows of a group
        bounds = accuracy(random.random(300) < np.repeat(rates, 5), groups).estimate(0.95)
        held.append((bounds.low <= 0.85, bounds.high >= 0.85))
    # 95 % each, less three standard errors of 400 trials; rows taken for independent hold in 87 %.
    assert np.mean(held, axis=0).min() >= 0.917
