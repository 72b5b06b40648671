"""Applies a gate's rules to evidence: pass, fail or inconclusive.

A gate passes when its whole interval meets the limit, fails when its whole interval misses it, and is inconclusive in
between: then the samples are too few or too noisy to decide.

A run passes only if all gates pass, so that more gates never make a false pass likelier. But it fails if one fails: at
95 % each, ten gates would fail four good models in ten. So a gate fails only if its bound misses the limit at the
confidence that is left of 1 - 0.95 when all gates of the run share it; that is the first step of Holm 1979, "A simple
sequentially rejective multiple test procedure", which decides whether the run fails.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from compressor.errors import ExitCode
from compressor.gates.estimate import Estimate, Evidence
from compressor.gates.exact import Exact
from compressor.gates.metrics import ANY_LABEL, RELATIVE_RULES, Metric, metric_of
from compressor.gates.rows import Rows
from compressor.gates.spec import Gate, RegressionGate

Verdict = Literal["pass", "fail", "inconclusive"]

EXIT_CODES: dict[Verdict, ExitCode] = {
    "pass": ExitCode.PASS,
    "fail": ExitCode.GATE_FAILED,
    "inconclusive": ExitCode.INCONCLUSIVE,
}
"""The exit code of a command that judges."""

AT_LEAST = ("min", "min_retention", "min_speedup")
"""Rules with a lower limit; the others have an upper one."""


@dataclass(frozen=True)
class GateResult:
    """One rule of one gate, judged.

    Attributes:
        metric: The metric.
        rule: The rule, such as `min_retention`.
        limit: The recipe's limit.
        relative_to: For relative rules `baseline`, `previous` or `run` (the one that `--baseline` names), else None.
        confidence: Confidence of each bound.
        observed: The compared quantity: the value, or its drop, retention, speed-up or ratio.
        low: Lower bound of `observed`; None when there is none.
        high: Upper bound of `observed`; None when there is none. The bound by which a gate can fail holds at a higher
            confidence where the run has several gates.
        verdict: The outcome.
        unbounded: Why there is no bound, where there is none; None in older reports.
        label: Of a metric of the worst label, such as `recall[*]`, the label.
    """

    metric: str
    rule: str
    limit: float
    relative_to: str | None
    confidence: float
    observed: float
    low: float | None
    high: float | None
    verdict: Verdict
    unbounded: str | None = None
    label: str | None = None

    @property
    def subject(self) -> str:
        """The metric, with the label that decides where the worst one does."""
        return self.metric if self.label is None else f"{self.metric} ({self.label})"


@dataclass(frozen=True)
class StageGate:
    """The verdict of one rule, with the stage that it judged.

    Attributes:
        stage: The stage's name.
        result: The verdict and its numbers.
    """

    stage: str
    result: GateResult


def judge(
    metric: str,
    gate: Gate | RegressionGate,
    evidence: Evidence,
    references: Mapping[str, Evidence],
    comparisons: int = 1,
) -> list[GateResult]:
    """Judges every rule of a gate.

    Args:
        metric: The gated metric.
        gate: Its rules.
        evidence: The stage's measurements of the metric.
        references: Measurements of each possible reference, by the name that `relative_to` gives it.
        comparisons: Rules of the run that noise could make fail, see `comparisons`.
    """
    results = []
    strict = 1 - (1 - gate.confidence) / max(1, comparisons)
    for rule, limit in gate.limits.items():
        relative_to = gate.relative_to if rule in RELATIVE_RULES else None
        reference = references[relative_to] if relative_to else None
        estimate = _observe(rule, evidence, reference, gate.confidence)
        if strict > gate.confidence:
            shared = _observe(rule, evidence, reference, strict)
            estimate = replace(estimate, high=shared.high) if rule in AT_LEAST else replace(estimate, low=shared.low)
            estimate = replace(estimate, unbounded=estimate.unbounded or shared.unbounded)
        results.append(
            GateResult(
                metric=metric,
                rule=rule,
                limit=limit,
                relative_to=relative_to,
                confidence=gate.confidence,
                observed=estimate.value,
                low=estimate.low,
                high=estimate.high,
                verdict=_verdict(estimate, limit, rule in AT_LEAST),
                unbounded=estimate.unbounded,
            )
        )
    return results


def judge_measured(
    name: str,
    gate: Gate | RegressionGate,
    evidence: Mapping[str, Evidence],
    references: Mapping[str, Mapping[str, Evidence]],
    comparisons: int = 1,
) -> list[GateResult]:
    """Judges every rule of a gate by what was measured; one that every label has to meet, by the worst label.

    Args:
        name: The gate's, such as `accuracy`, `torchscript.latency_p50_ms` or `recall[*]`.
        gate: Its rules.
        evidence: The measurements, by metric.
        references: Those of each possible reference.
        comparisons: As of `judge`.
    """
    metric = metric_of(name)
    every = []
    for own, there in _judged(metric, evidence).items():
        others = {other: found[own] for other, found in references.items() if own in found}
        results = judge(name, gate, there, others, comparisons)
        label = metric_of(own).label if metric.label == ANY_LABEL else None
        every.append([replace(result, label=label) for result in results])
    return [min(results, key=_badness) for results in zip(*every, strict=True)]


def _judged(metric: Metric, evidence: Mapping[str, Evidence]) -> dict[str, Evidence]:
    """The evidence of a metric; of `[*]`, of all labels that rows tell of, if there is any such."""
    if metric.label != ANY_LABEL:
        return {metric.name: evidence[metric.name]}
    labels = {name: own.label for name in evidence if (own := metric_of(name)).base == metric.base}
    found = {name: evidence[name] for name, label in labels.items() if label}
    unknown = {name for name, there in found.items() if isinstance(there, Exact | Rows) and math.isnan(there.value)}
    return {name: there for name, there in found.items() if name not in unknown} or found


def _badness(result: GateResult) -> tuple[int, float]:
    """How near a result is to be the worst: the smaller, the worse."""
    margin = result.observed - result.limit
    return ("fail", "inconclusive", "pass").index(result.verdict), margin if result.rule in AT_LEAST else -margin


def comparisons(gates: Iterable[Mapping[str, Gate] | Mapping[str, RegressionGate]], labels: int = 1) -> int:
    """Number of rules, of several sets of gates by metric, whose observed value has noise.

    Args:
        gates: The sets.
        labels: Labels that a rule of the worst label judges.
    """
    return sum(
        len(gate.limits) * (labels if metric_of(metric).label == ANY_LABEL else 1)
        for of_stage in gates
        for metric, gate in of_stage.items()
        if metric_of(metric).noisy
    )


def recorded_verdict(result: GateResult) -> Verdict:
    """The verdict that follows from the recorded bounds and limit."""
    estimate = Estimate(result.observed, result.low, result.high)
    return _verdict(estimate, result.limit, result.rule in AT_LEAST)


def _observe(rule: str, evidence: Evidence, reference: Evidence | None, confidence: float) -> Estimate:
    if reference is None:
        return evidence.estimate(confidence)
    if rule == "max_drop":
        assert isinstance(evidence, Exact | Rows), "a rule of quality alone"
        return evidence.drop(reference, confidence)
    if rule == "min_speedup":
        return reference.ratio(evidence, confidence)
    return evidence.ratio(reference, confidence)


def _verdict(estimate: Estimate, limit: float, at_least: bool) -> Verdict:
    low, high = estimate.low, estimate.high
    if at_least:
        if low is not None and low >= limit:
            return "pass"
        return "fail" if high is not None and high < limit else "inconclusive"
    if high is not None and high <= limit:
        return "pass"
    return "fail" if low is not None and low > limit else "inconclusive"


def overall(verdicts: list[Verdict]) -> Verdict:
    """The worst of several verdicts; `pass` when there are none."""
    for verdict in ("fail", "inconclusive"):
        if verdict in verdicts:
            return verdict
    return "pass"
