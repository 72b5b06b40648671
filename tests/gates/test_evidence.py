from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, stats
from sklearn.metrics import f1_score, matthews_corrcoef

from compressor.gates.exact import Exact, Spread
from compressor.gates.rows import Rows
from compressor.gates.timings import Timings
from compressor.tasks import text_classification


def accuracy(hits: list[int]) -> Rows:
    column = np.array(hits, dtype=np.float64)[:, None]
    return Rows(column, lambda sums: sums[..., 0] / len(hits), binomial=True)


def test_exact_interval_of_newcombe_1998():
    # Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I: 81 of 263, method 5.
    estimate = accuracy([1] * 81 + [0] * 182).estimate(0.975)
    assert estimate.low == pytest.approx(0.2527, abs=5e-5)
    assert estimate.high == pytest.approx(0.3676, abs=5e-5)


def test_p95_has_an_upper_bound_from_59_runs_on():
    # 0.95^58 = 0.0510 > 0.05 >= 0.95^59 = 0.0485: the largest of 58 is not above p95 with 95 % confidence.
    assert Timings(np.arange(58.0), 0.95).estimate(0.95).high is None
    assert Timings(np.arange(59.0), 0.95).estimate(0.95).high == 58.0


def test_median_bounds_are_the_order_statistics_of_the_sign_test():
    # n = 20: P(Binomial(20, 1/2) <= 5) = 0.0207, <= 6: 0.0577. The 6th smallest is the lower bound, the 15th the upper.
    estimate = Timings(np.arange(1.0, 21.0), 0.5).estimate(0.95)
    assert (estimate.value, estimate.low, estimate.high) == (10.5, 6.0, 15.0)


@pytest.mark.parametrize("quantile", [0.5, 0.95])
def test_order_statistics_cover_the_true_quantile_as_often_as_they_say(quantile: float):
    random = np.random.default_rng(0)
    truth = stats.gamma(2).ppf(quantile)
    bounds = [Timings(random.gamma(2, size=200), quantile).estimate(0.95) for _ in range(1000)]
    # 95 % each, less three standard errors of 1,000 trials.
    assert np.mean([bound.low <= truth for bound in bounds]) >= 0.93
    assert np.mean([bound.high >= truth for bound in bounds]) >= 0.93


def test_paired_bootstrap_covers_the_true_difference_as_often_as_it_says():
    random = np.random.default_rng(0)
    covered = []
    for _ in range(300):
        base = random.random(400) < 0.85
        flips = random.random(400)
        other = np.where(base, flips > 0.06, flips < 0.2)  # right in 0.85 * 0.94 + 0.15 * 0.2 = 0.829
        drop = accuracy(list(other)).drop(accuracy(list(base)), 0.95)
        covered.append((drop.low <= 0.021, drop.high >= 0.021))
    assert np.mean(covered, axis=0).min() >= 0.91


def test_few_rows_that_agree_prove_little():
    same = accuracy([1, 1, 0, 1])
    assert same.drop(same, 0.95).value == 0
    assert same.drop(same, 0.95).high > 0.5, "four rows cannot exclude a large drop"
    many = accuracy([1, 1, 0, 1] * 500)
    assert many.drop(many, 0.95).high == pytest.approx(3 / 2000, rel=0.01), "the rule of three"


def test_identical_rows_are_bounded_by_the_rule_of_three():
    same = accuracy([1] * 100)
    assert same.drop(same, 0.95).high == pytest.approx(1 - 0.05 ** (1 / 100))


def likelihood_of(cells: list[int], constraint: float, ratio: bool) -> list[float]:
    """The most likely shares of right by both, mine, theirs and none, under a difference or ratio of the margins."""

    def shares(free: np.ndarray) -> np.ndarray:
        both, theirs = free
        mine = constraint * (both + theirs) - both if ratio else theirs - constraint
        return np.array([both, mine, theirs, 1 - both - mine - theirs])

    def cost(free: np.ndarray) -> float:
        found = shares(free)
        return 1e9 if (found <= 0).any() else -float(np.array(cells) @ np.log(found))

    best = optimize.minimize(
        cost, [0.4, 0.25], method="Nelder-Mead", options={"xatol": 1e-11, "fatol": 1e-11, "maxiter": 5000}
    )
    return list(shares(best.x))


def test_score_bounds_agree_with_a_numerical_likelihood():
    # Tango 1998, equation 9, and Nam & Blackwelder 2002: at a bound the score, with its variance under the most likely
    # shares that the bound allows, is the normal quantile.
    cells, z = [30, 5, 9, 10], stats.norm.ppf(0.95)
    mine = accuracy([1] * 30 + [1] * 5 + [0] * 9 + [0] * 10)
    theirs = accuracy([1] * 30 + [0] * 5 + [1] * 9 + [0] * 10)
    drop, kept = mine.drop(theirs, 0.95), mine.ratio(theirs, 0.95)
    for bound, sign in ((drop.low, 1), (drop.high, -1)):
        _, won, lost, _ = likelihood_of(cells, bound, ratio=False)
        assert (4 - 54 * bound) / np.sqrt(54 * (won + lost - bound**2)) == pytest.approx(sign * z, abs=1e-3)
    for bound, sign in ((kept.low, 1), (kept.high, -1)):
        _, won, lost, _ = likelihood_of(cells, bound, ratio=True)
        assert (35 - 39 * bound) / np.sqrt(54 * bound * (won + lost)) == pytest.approx(sign * z, abs=1e-3)


def test_rare_losses_pass_no_more_often_than_the_confidence_says():
    random, passed = np.random.default_rng(0), []
    for _ in range(200):
        lost = random.random(100) < 0.01
        passed.append(accuracy(list(~lost)).drop(accuracy([1] * 100), 0.95).high <= 0)
    assert np.mean(passed) == 0


def test_rows_of_one_group_count_as_few():
    random = np.random.default_rng(0)
    covered = []
    for _ in range(200):
        effect = np.repeat(random.normal(0, 0.06, 60), 5)
        groups = np.repeat(np.arange(60), 5)
        base = random.random(300) < 0.8 + effect
        other = np.where(random.random(300) < 0.85 + 2 * effect, base, random.random(300) < 0.6)
        rows = [Rows(hits.astype(float)[:, None], lambda s: s[..., 0] / 300, True, groups) for hits in (base, other)]
        estimate = rows[0].estimate(0.95)
        covered.append((estimate.low <= 0.8, estimate.high >= 0.8))
        assert rows[1].drop(rows[0], 0.95).low is not None
    assert np.mean(covered, axis=0).min() >= 0.91
    single = Rows(rows[0].statistics, rows[0].formula, True, np.arange(300))
    assert single.estimate(0.95) == Rows(rows[0].statistics, rows[0].formula, True).estimate(0.95)


def test_retention_of_a_reference_that_may_be_nothing_has_no_bounds():
    sums = np.random.default_rng(0).normal(0, 1, 200)[:, None]
    worse, better = (Rows(sums - sums.mean() + shift, lambda total: total[..., 0] / 200) for shift in (-1.0, -0.05))
    assert worse.ratio(better, 0.95).low is None and worse.ratio(better, 0.95).high is None
    barely = Rows(sums - sums.mean() + 0.01, lambda total: total[..., 0] / 200)
    assert better.ratio(barely, 0.95).high is None
    certain = Rows(sums - sums.mean() + 5, lambda total: total[..., 0] / 200)
    assert certain.ratio(certain, 0.95).low is not None


def test_a_thousand_labels_take_no_square_of_memory():
    random = np.random.default_rng(0)
    right, answers = random.integers(0, 1000, 3000), random.random((3000, 1000)).astype(np.float32)
    answers[np.arange(3000), right] += 0.999
    scored = text_classification.score(answers, {"labels": right}, [str(index) for index in range(1000)])
    assert scored["f1"].statistics.nnz <= 3 * 3000
    estimate = scored["matthews_correlation"].estimate(0.95)
    assert estimate.low < estimate.value < estimate.high


def test_ratio_of_timings_of_the_same_rounds_cancels_the_drift():
    random = np.random.default_rng(0)
    drift = np.linspace(1, 3, 200)  # the machine gets three times slower
    base = Timings(10 * drift * random.normal(1, 0.01, 200), 0.5)
    fast = Timings(5 * drift * random.normal(1, 0.01, 200), 0.5)
    ratio = base.ratio(fast, 0.95)
    assert ratio.low <= 2 <= ratio.high
    assert ratio.high - ratio.low < 0.2
    absolute = base.estimate(0.95)
    assert absolute.high - absolute.low > 2


def moods(random: np.random.Generator, runs: int) -> np.ndarray:
    """What a shared machine multiplies times by: drifts, and for some while is half as fast. `(runs,)`."""
    noise = random.normal(0, 0.05, runs)
    for index in range(1, runs):
        noise[index] += 0.8 * noise[index - 1]
    slow = np.cumsum(random.random(runs) < 0.02) % 2
    return np.exp(noise) * (1 + slow)


def test_ratio_covers_the_truth_on_a_moody_machine_as_often_as_it_says():
    random, truth, runs = np.random.default_rng(0), 1.1, 200
    bounds, of_medians = [], []
    for _ in range(400):
        mood = moods(random, 2 * runs).reshape(runs, 2)
        first = np.arange(runs) % 2  # who comes first in a round
        mine, theirs = (
            10 * mood[np.arange(runs), place] * random.lognormal(0, 0.03, runs) * (1 + (random.random(runs) < 0.05))
            for place in (first, 1 - first)
        )
        bounds.append(Timings(truth * mine, 0.5).ratio(Timings(theirs, 0.5), 0.95))
        of_medians.append(truth * np.median(mine) / np.median(theirs))
    assert np.mean([bound.low <= truth for bound in bounds]) >= 0.93
    assert np.mean([bound.high >= truth for bound in bounds]) >= 0.93
    assert np.mean([bound.high - bound.low for bound in bounds]) < 0.04
    values = [bound.value for bound in bounds]
    assert np.std(values) < 0.7 * np.std(of_medians), "neighbours share a mood, and their ratio is rid of it"


def test_what_the_order_within_a_round_does_cancels():
    first = np.arange(100) % 2 == 0
    mine, theirs = np.where(first, 12.0, 10.0), np.where(first, 10.0, 12.0)  # who comes first is 20 % slower
    ratio = Timings(mine, 0.5).ratio(Timings(theirs, 0.5), 0.95)
    assert (ratio.value, ratio.low, ratio.high) == (1, 1, 1)


def test_ratio_of_medians_is_bounded_from_ten_rounds_on():
    # Five pairs of rounds: all on one side of the median by chance in 0.5^5 = 0.031 of the cases, of four in 0.0625.
    random = np.random.default_rng(0)
    few, enough = (Timings(random.random(runs) + 1, 0.5) for runs in (9, 10))
    assert few.ratio(few, 0.95).low is None and enough.ratio(enough, 0.95).low == 1
    assert Timings(np.array([3.0]), 0.5).ratio(Timings(np.array([2.0]), 0.5), 0.95).value == 1.5


def test_ratio_of_p95_needs_as_many_runs_as_p95():
    few = Timings(np.arange(1.0, 51.0), 0.95)
    assert few.ratio(few, 0.95).low is None


def test_exact_values_have_no_width_and_zero_no_ratio():
    assert Exact(5.0).ratio(Exact(10.0), 0.95).high == 0.5
    assert Exact(5.0).ratio(Exact(0.0), 0.95).low is None
    assert Exact(5.0).drop(Exact(7.0), 0.95).value == 2


def test_memory_of_a_few_processes_has_students_bounds():
    # Mean 10, standard deviation 1; Student's quantile for 2 degrees of freedom is 2.920, and 2.920 / sqrt(3) = 1.686.
    estimate = Spread((9.0, 10.0, 11.0)).estimate(0.95)
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((10, 8.314, 11.686), abs=5e-4)
    assert Spread((9.0, 10.0, 11.0)).estimate(0.99).high > 13, "the gate's own confidence counts"
    assert Spread((10.0,)).estimate(0.95).low is None, "one process says nothing of the next"
    ratio = Spread((9.0, 10.0, 11.0)).ratio(Spread((19.0, 20.0, 21.0)), 0.95)
    assert ratio.low < 0.45 < ratio.value == 0.5 < 0.55 < ratio.high
    same = Spread((10.0, 10.0, 10.0))
    assert same.ratio(same, 0.95).high == 1


@given(
    labels=st.integers(2, 4),
    rows=st.integers(2, 60),
    seed=st.integers(0, 2**16),
)
def test_f1_and_matthews_agree_with_scikit_learn(labels: int, rows: int, seed: int):
    random = np.random.default_rng(seed)
    references = random.integers(0, labels, rows)
    logits = random.normal(size=(rows, labels)).astype(np.float32)
    logits[np.arange(rows), references] += 1
    predictions = logits.argmax(axis=1)
    names = [str(index) for index in range(labels)]
    scored = text_classification.score(logits, {"labels": references}, names)
    expected_f1 = f1_score(references, predictions, average="binary" if labels == 2 else "macro", zero_division=0)
    value = {name: float(rows.formula(rows.statistics.sum(axis=0))) for name, rows in scored.items()}
    assert value["accuracy"] == pytest.approx(np.mean(predictions == references))
    assert value["f1"] == pytest.approx(expected_f1)
    assert value["matthews_correlation"] == pytest.approx(matthews_corrcoef(references, predictions), abs=1e-9)


def test_the_ratio_of_p95_is_block_bootstrapped_over_the_rounds():
    random = np.random.default_rng(0)
    load = np.repeat(random.gamma(4, 0.25, 40), 10)  # successive rounds meet the same load of the machine
    base = Timings(10 * (1 + load) * random.normal(1, 0.01, 400), 0.95)
    fast = Timings(5 * (1 + load) * random.normal(1, 0.01, 400), 0.95)
    ratio = base.ratio(fast, 0.95)
    assert ratio.low <= 2 <= ratio.high and ratio.high - ratio.low < 0.2


def test_p95_of_few_rounds_has_no_bounds():
    few = Timings(np.arange(1.0, 41.0), 0.95)
    assert few.ratio(few, 0.95).high is None


def test_one_round_gives_a_ratio_without_bounds():
    one = Timings(np.array([4.0]), 0.5).ratio(Timings(np.array([2.0]), 0.5), 0.95)
    assert (one.value, one.low, one.high) == (2.0, None, None)
