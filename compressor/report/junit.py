"""junit.xml: gates as test cases, for CI servers.

A stage is a test suite and a gate a test case; the baseline has no gates and no suite. Failures match the exit code:

- A failed gate is a `failure` of type `fail`: exit code 1.
- An inconclusive gate is a `failure` of type `inconclusive`: exit code 4. Nothing shows that its limit is met, so the
  build is red. With --allow-inconclusive it is `skipped`: exit code 0, a green build that shows the open gate.
- A stage after a failed gate, or after --until, was not run: one `skipped` test case.

Valid by both schemas in use: that of Jenkins' xunit plugin (junit-10.xsd), and the stricter one of Ant's JUnit task,
which requires every attribute, a fixed order of elements, and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from compressor.gates.judge import GateResult, StageGate
from compressor.report import sentences
from compressor.report.elements import element
from compressor.report.model import Report, StageReport
from compressor.report.numbers import gate_text


def document(report: Report) -> str:
    """The file's text."""
    root = element("testsuites")
    for stage in report.stages:
        if stage.stage != "baseline":
            root.append(_suite(report, stage, len(root)))
    for name in report.not_run:
        case = _case(report, name, "gates", element("skipped", message=f"not run {sentences.why_not_run(report)}"))
        root.append(_filled(report, name, 0.0, len(root), [case], ""))
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _suite(report: Report, stage: StageReport, number: int) -> Element:
    cases = [_case(report, stage.name, _name(gate), _outcome(report, stage, gate)) for gate in stage.gates]
    output = "\n".join(f"{gate.verdict}: {gate_text(gate)}" for gate in stage.gates)
    return _filled(report, stage.name, stage.seconds, number, cases, output)


def _outcome(report: Report, stage: StageReport, gate: GateResult) -> Element | None:
    """The element of a test case that did not pass."""
    if gate.verdict == "pass":
        return None
    sentence = sentences.gate(StageGate(stage.name, gate))
    if gate.verdict == "inconclusive" and report.allow_inconclusive:
        return element("skipped", message=f"inconclusive, accepted by --allow-inconclusive: {sentence}")
    return element("failure", _numbers(gate), type=gate.verdict, message=sentence)


def _filled(report: Report, name: str, seconds: float, number: int, cases: Sequence[Element], output: str) -> Element:
    known = {"task": report.task, "command": report.command, **report.measure, **report.environment}
    properties = [element("property", name=key, value=str(value)) for key, value in known.items() if value is not None]
    return element(
        "testsuite",
        element("properties", *properties),
        *cases,
        element("system-out", output),
        element("system-err"),
        name=name,
        package=report.recipe,
        id=number,
        hostname="localhost",  # Ant's schema asks for this where the host is unknown
        timestamp=report.started and report.started[: len("2000-01-01T00:00:00")],  # that schema allows no time zone
        time=f"{seconds:.2f}",
        tests=len(cases),
        failures=sum(case.find("failure") is not None for case in cases),
        errors=0,
        skipped=sum(case.find("skipped") is not None for case in cases),
    )


def _case(report: Report, stage: str, name: str, outcome: Element | None) -> Element:
    return element("testcase", outcome, name=name, classname=f"{report.recipe}.{stage}", time=0)


def _name(gate: GateResult) -> str:
    """A name without limit and value: servers follow a test by its name across runs."""
    against = f" relative to {gate.relative_to}" if gate.relative_to else ""
    return f"{gate.metric} {gate.rule}{against}"


def _numbers(gate: GateResult) -> str:
    values = {"observed": gate.observed, "low": gate.low, "high": gate.high, "limit": gate.limit}
    lines = [f"{name}: {'unknown' if value is None else value}" for name, value in values.items()]
    return "\n".join([gate_text(gate), *lines, f"confidence of each bound: {gate.confidence}"])
