"""junit.xml: what CI servers read says what the exit code says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from lxml import etree
from small_report import HOSTILE, failing, hostile, passing, undecided

from compressor.errors import ExitCode
from compressor.report import junit
from compressor.report.model import Report

HERE = Path(__file__).parent
REPORTS = {
    "passing": passing(),
    "failing": failing(),
    "undecided": undecided(),
    "allowed": undecided(allow_inconclusive=True),
    "failing, inconclusive allowed": failing(allow_inconclusive=True),
    "hostile": hostile(),
    "without gates": passing(stages=[replace(entry, gates=[]) for entry in passing().stages]),
    "only a baseline": passing(stages=passing().stages[:1]),
}


def parse(report: Report) -> etree._Element:
    return etree.fromstring(junit.document(report).encode())


def cases(report: Report) -> dict[str, etree._Element]:
    return {f"{case.get('classname')}: {case.get('name')}": case for case in parse(report).iter("testcase")}


@pytest.mark.parametrize("name", REPORTS)
@pytest.mark.parametrize("schema", ["junit-10.xsd", "junit-ant.xsd"])
def test_both_schemas_take_it(name: str, schema: str):
    etree.XMLSchema(etree.parse(HERE / schema)).assertValid(parse(REPORTS[name]))


def test_an_older_report_without_a_start_time_is_valid_for_jenkins():
    old = passing(started=None, command=None, measure={})
    etree.XMLSchema(etree.parse(HERE / "junit-10.xsd")).assertValid(parse(old))


@pytest.mark.parametrize("name", REPORTS)
def test_red_where_the_exit_code_is_not_0(name: str):
    report = REPORTS[name]
    assert (parse(report).find(".//failure") is not None) == (report.exit_code != ExitCode.PASS)


def test_a_suite_for_each_stage_and_a_case_for_each_gate():
    suites = parse(passing()).findall("testsuite")
    assert [(suite.get("name"), suite.get("id"), suite.get("tests")) for suite in suites] == [
        ("distill", "0", "2"),
        ("quantize", "1", "1"),
    ]
    assert list(cases(passing())) == [
        "small.distill: accuracy min_retention relative to baseline",
        "small.distill: latency_p50_ms min_speedup relative to baseline",
        "small.quantize: size_bytes max",
    ]
    assert all(len(case) == 0 for case in cases(passing()).values())
    assert suites[0].get("time") == "2.50" and suites[0].get("timestamp") == "2026-11-22T10:20:30"
    assert "accuracy: retention of 0.9780 [0.9600, 0.9900] ≥ 0.9500" in suites[0].findtext("system-out")
    properties = {entry.get("name"): entry.get("value") for entry in suites[0].iter("property")}
    assert properties["cpu"] == "of some kind" and properties["sequence_length"] == "64"
    assert properties["command"].startswith("compress run small.yaml")


def test_what_failed_has_its_numbers_and_what_was_not_run_is_skipped():
    root = parse(failing())
    counted = [tuple(suite.get(key) for key in ("name", "tests", "failures", "skipped")) for suite in root]
    assert counted == [("distill", "3", "2", "0"), ("quantize", "1", "0", "1"), ("export", "1", "0", "1")]
    failed, undecided_gate = root.iter("failure")
    assert failed.get("type") == "fail"
    assert failed.get("message") == (
        "distill: accuracy is 92.00 % of the baseline's (90.00 % to 94.00 %); at least 95.00 % is required. "
        "Missed by 3.00 %, and by 1.00 % even at the upper bound."
    )
    assert failed.text.splitlines()[1:] == [
        *("observed: 0.92", "low: 0.9", "high: 0.94", "limit: 0.95"),
        "confidence of each bound: 0.95",
    ]
    assert undecided_gate.get("type") == "inconclusive" and "high: unknown" in undecided_gate.text
    assert root.find("testsuite[@name='export']/testcase/skipped").get("message") == "not run after the failed gate"


def test_inconclusive_is_skipped_if_it_is_allowed():
    (failure,) = parse(undecided()).iter("failure")
    assert failure.get("type") == "inconclusive" and "The limit lies between the bounds" in failure.get("message")
    allowed = parse(undecided(allow_inconclusive=True))
    assert not list(allowed.iter("failure"))
    (skipped,) = allowed.iter("skipped")
    assert skipped.get("message").startswith(
        "inconclusive, accepted by --allow-inconclusive: distill: accuracy is 0.8800"
    )


def test_names_do_not_change_with_the_limits():
    report = failing()
    student = report.stages[1]
    moved = [replace(entry, limit=entry.limit / 2, observed=entry.observed / 3) for entry in student.gates]
    other = replace(report, stages=[report.stages[0], replace(student, gates=moved)])
    assert list(cases(report)) == list(cases(other))


def test_hostile_words_come_back_as_they_were_but_for_what_xml_cannot_hold():
    suites = parse(hostile()).findall("testsuite")
    assert suites[0].get("name") == f"distill {HOSTILE}".replace("\x07", r"\x07")
