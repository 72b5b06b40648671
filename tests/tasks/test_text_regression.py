from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from compressor.tasks import text_regression as task


@given(st.lists(st.tuples(st.integers(-5, 5), st.integers(-5, 5)), min_size=3, max_size=60))
def test_spearman_is_scipys_with_ties(pairs: list[tuple[int, int]]):
    x, y = np.array(pairs, dtype=np.float64).T
    found = task.score(x[:, None].astype(np.float32), {"values": y}, [])["spearman"].value
    if len(set(x)) == 1 or len(set(y)) == 1:
        assert found == 0
    else:
        assert found == pytest.approx(spearmanr(x, y).statistic, abs=1e-9)


def test_bounds_hold_the_value_and_narrow_with_rows():
    random = np.random.default_rng(0)
    widths = []
    for n in (100, 1600):
        y = random.normal(size=n)
        scored = task.score((y + random.normal(size=n))[:, None].astype(np.float32), {"values": y}, [])["spearman"]
        estimate = scored.estimate(0.95)
        assert estimate.low < estimate.value < estimate.high
        widths.append(estimate.high - estimate.low)
    assert widths[1] < widths[0] / 2.5
