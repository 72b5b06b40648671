from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from compressor.gates.estimate import Estimate, Evidence
from compressor.gates.exact import Exact, Spread
from compressor.gates.judge import StageGate, judge, overall, recorded_verdict
from compressor.gates.rows import Rows
from compressor.gates.spec import Gate
from compressor.gates.timings import Timings
from compressor.report import sentences
from compressor.report.numbers import gate_text


@dataclass(frozen=True)
class Bounded:
    """Evidence with the bounds that a test gives it."""

    value: float
    low: float | None
    high: float | None
    n: int = 1

    def estimate(self, confidence: float) -> Estimate:
        return Estimate(self.value, self.low, self.high)

    def ratio(self, reference: Evidence, confidence: float) -> Estimate:
        raise AssertionError("absolute rules compare with nothing")


@pytest.mark.parametrize(
    ("low", "high", "at_least", "at_most"),
    [
        (0.81, 0.85, "pass", "fail"),
        (0.75, 0.79, "fail", "pass"),
        (0.75, 0.85, "inconclusive", "inconclusive"),
        (0.80, 0.85, "pass", "inconclusive"),
        (0.75, 0.80, "inconclusive", "pass"),
        (None, 0.85, "inconclusive", "inconclusive"),
        (0.81, None, "pass", "fail"),
        (None, 0.79, "fail", "pass"),
        (None, None, "inconclusive", "inconclusive"),
    ],
)
def test_the_whole_interval_decides(low, high, at_least, at_most):
    results = judge("accuracy", Gate(min=0.8, max=0.8), Bounded(0.8, low, high), {})
    assert {result.rule: result.verdict for result in results} == {"min": at_least, "max": at_most}
    assert [recorded_verdict(result) for result in results] == [result.verdict for result in results]


def test_each_rule_compares_what_it_says():
    gate = Gate(max=50.0, max_ratio=0.25)
    results = judge("size_bytes", gate, Exact(20.0), {"baseline": Exact(100.0), "previous": Exact(40.0)})
    assert {r.rule: (r.observed, r.verdict, r.relative_to) for r in results} == {
        "max": (20.0, "pass", None),
        "max_ratio": (0.2, "pass", "baseline"),
    }
    (result,) = judge(
        "size_bytes",
        Gate(max_ratio=0.25, relative_to="previous"),
        Exact(20.0),
        {"baseline": Exact(100.0), "previous": Exact(40.0)},
    )
    assert (result.observed, result.verdict) == (0.5, "fail")


def test_speedup_is_reference_over_value():
    slow, fast = Timings(np.full(100, 10.0), 0.5), Timings(np.full(100, 4.0), 0.5)
    (result,) = judge("latency_p50_ms", Gate(min_speedup=2.5), fast, {"baseline": slow})
    assert (result.observed, result.verdict) == (2.5, "pass")


def test_p95_of_too_few_runs_is_inconclusive():
    (result,) = judge("latency_p95_ms", Gate(max=1e9), Timings(np.ones(58), 0.95), {})
    assert result.verdict == "inconclusive"


def test_overall_is_the_worst():
    assert overall(["pass", "inconclusive", "fail"]) == "fail"
    assert overall(["pass", "inconclusive"]) == "inconclusive"
    assert overall([]) == "pass"


def test_many_gates_do_not_fail_a_model_that_is_as_good_as_they_ask():
    # Each of ten models is exactly as good as its gate asks: at 95 % each, four runs in ten would fail.
    random = np.random.default_rng(0)
    failed, alone = [], []
    for _ in range(300):
        found = [
            Rows((random.random(400) < 0.9)[:, None] * 1.0, lambda sums: sums[..., 0] / 400, True) for _ in range(10)
        ]
        for comparisons, runs in ((10, failed), (1, alone)):
            results = [judge("accuracy", Gate(min=0.9), rows, {}, comparisons)[0] for rows in found]
            assert all(recorded_verdict(result) == result.verdict for result in results)
            runs.append("fail" in [result.verdict for result in results])
    assert np.mean(failed) <= 0.05 + 3 * (0.05 * 0.95 / 300) ** 0.5
    assert np.mean(alone) > 0.2
    one = judge("accuracy", Gate(min=0.9), found[0], {}, 1)[0]
    many = judge("accuracy", Gate(min=0.9), found[0], {}, 10)[0]
    assert many.low == one.low and many.high > one.high, "the bound by which it passes stays"


def _constant(value: float, rows: int = 50) -> Rows:
    return Rows(np.full((rows, 1), value), lambda sums: sums[..., 0] / rows)


@pytest.mark.parametrize(
    ("metric", "gate", "evidence", "reference"),
    [
        ("matthews_correlation", Gate(min_retention=0.9), _constant(0.5), _constant(0.0)),
        ("matthews_correlation", Gate(min_retention=0.9), _constant(0.5), _constant(-0.2)),
        ("matthews_correlation", Gate(min_retention=0.9), _constant(0.01, 5), _constant(0.01, 5)),
        ("spearman", Gate(min=0.5), Rows(np.ones((9, 1)), lambda sums: sums[..., 0] * np.nan), None),
        ("size_bytes", Gate(max_ratio=0.5), Exact(5.0), Exact(0.0)),
        ("peak_rss_bytes", Gate(max=1e9), Spread((5.0,)), None),
        ("latency_p95_ms", Gate(max=1e9), Timings(np.ones(58), 0.95), None),
        ("latency_p95_ms", Gate(min_speedup=1.0), Timings(np.ones(58), 0.95), Timings(np.ones(58), 0.95)),
        ("latency_p50_ms", Gate(min_speedup=1.0), Timings(np.ones(1), 0.5), Timings(np.ones(1), 0.5)),
    ],
)
def test_what_has_no_bounds_says_why_in_every_form(metric: str, gate: Gate, evidence: Evidence, reference: Evidence):
    (result,) = judge(metric, gate, evidence, {"baseline": reference} if reference else {}, comparisons=3)
    assert result.verdict == "inconclusive" and result.unbounded
    assert result.unbounded in gate_text(result) and result.unbounded in sentences.gate(StageGate("last", result))


def test_bounds_have_no_reason_to_be_missing():
    (result,) = judge("accuracy", Gate(min=0.5), Bounded(0.5, 0.4, 0.6), {})
    assert (result.verdict, result.unbounded) == ("inconclusive", None)
