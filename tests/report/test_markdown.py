"""report.md: fits a comment on a pull request, whatever the run; the most important first."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from small_report import HOSTILE, failing, hostile, passing, stage, undecided

from compressor.report import files
from compressor.report.markdown import markdown
from compressor.report.model import FormatReport

COMMENT = 65_536
"""Characters that GitHub takes in a comment."""


def test_the_verdict_is_first_then_what_failed_by_how_much_then_the_table():
    lines = markdown(failing()).splitlines()
    assert lines[0] == "# small: FAIL"
    assert lines[2] == (
        "1 of 3 gates fails, 1 is inconclusive. Not run after the failed gate: quantize, export. "
        "After distill: accuracy 0.8800 (baseline 0.9000), p50 8.00 ms (baseline 16.00 ms), "
        "size 40.0 MB (baseline 80.0 MB)."
    )
    assert lines[4:6] == [
        "- ✗ FAIL: distill: accuracy is 92.00 % of the baseline's (90.00 % to 94.00 %); at least 95.00 % is required. "
        "Missed by 3.00 %, and by 1.00 % even at the upper bound.",
        "- ? inconclusive: distill: latency_p95_ms is 16.00 ms (12.00 ms to unknown); at most 20.00 ms is required. "
        "There are too few observations for a bound; use more timed runs (measure.runs).",
    ]
    assert lines[7].startswith("| stage | verdict | accuracy | p50 ms |")


def test_files_whose_products_are_clipped_on_some_processors_are_named():
    clipped = {"processors": "x86 of old", "operators": {"MatMulInteger": 12}, "largest_weight": 127}
    files = {"onnx": {}, "onnx_int8": clipped, "torchscript": None, "ort": clipped}
    formats = [
        FormatReport(name, f"{name}/file", "int8", True, {}, {}, "pass", saturation=found)
        for name, found in files.items()
    ]
    said = "On x86 of old, ONNX Runtime clips sums of 8-bit products of onnx_int8, ort: labels can differ there."
    assert said in markdown(passing(formats=formats))
    assert "clips" not in markdown(passing(formats=[formats[0], formats[2]]))


def test_a_run_that_passes_says_what_came_of_it():
    text = markdown(passing())
    assert "All 3 gates pass. After quantize: accuracy 0.8700 (baseline 0.9000), p50 4.00 ms" in text
    for told in (
        "| quantize | size_bytes: 10.0 MB [10.0 MB, 10.0 MB] ≤ 12.0 MB | pass |",
        "| quantize | torchscript | torch | 300 | 1.0000 | 2.50e-06 | row 7 | 1.000000 |",
        "1 of 2 matrices stay in float, so that accuracy drops by at most 0.0050",
        "| encoder.0.query | 2.00e-03 | 5.0% | 1.0% |",
        "quantize: Zeros do not change latency.",
        "| distill | soft | 0.8000 | 0.2000 | █",
        "Measured with onnxruntime on 1 thread, batch size 1, sequence length 64, 200 timed runs.",
    ):
        assert told in text, told
    assert "encoder.1.query" not in text, "it was quantized"


def test_inconclusive_gates_that_are_accepted_are_reported():
    assert "(--allow-inconclusive)" in markdown(undecided(allow_inconclusive=True))
    assert "--allow-inconclusive" not in markdown(undecided())


@pytest.mark.parametrize("name", ["stage", HOSTILE, "n" * 10_000, "é" * 10_000])
def test_it_fits_a_comment_whatever_the_run(name: str):
    first, student, *_ = failing().stages
    many = [replace(student, name=f"{name} {index}") for index in range(400)]
    text = markdown(replace(failing(), stages=[first, *many], not_run=[name] * 400))
    assert len(text) <= len(text.encode()) < COMMENT
    assert text.startswith("# small: FAIL\n\n400 of 1200 gates fail, 400 are inconclusive.")
    assert "\n- ✗ FAIL: stage" in text or name != "stage"
    assert text.endswith("report.html and report.json hold the full report.*\n")


def test_a_report_that_just_fits_is_not_cut(monkeypatch: pytest.MonkeyPatch):
    whole = markdown(passing())
    monkeypatch.setattr("compressor.report.markdown.MOST_BYTES", len(whole.encode()))
    assert markdown(passing()) == whole
    monkeypatch.setattr("compressor.report.markdown.MOST_BYTES", len(whole.encode()) - 1)
    assert markdown(passing()) != whole and len(markdown(passing()).encode()) < len(whole.encode())


def test_hostile_words_stay_in_their_cells():
    text = markdown(hostile())
    assert "<script" not in text
    columns = [len(re.findall(r"(?<!\\)\|", line)) for line in text.splitlines() if line.startswith("| ")]
    header = len(re.findall(r"\|", next(line for line in text.splitlines() if line.startswith("| stage | verdict"))))
    assert columns[: 1 + len(hostile().stages)] == [header] * (1 + len(hostile().stages))


def test_a_curve_that_left_the_numbers_is_drawn_as_far_as_it_went():
    run = passing()
    broken = stage("distill", "distill", (0.88, 8.0, 40e6), loss=[[1, 0.5], [2, None], [3, float("nan")]])
    text = markdown(replace(run, stages=[run.stages[0], broken]))
    assert "| distill | loss | 0.5000 | 0.5000 | ▁ |" in text


def test_a_summary_is_added_to_what_other_commands_left(tmp_path: Path):
    summary = tmp_path / "summary.md"
    summary.write_text("before, without a line's end", encoding="utf-8")
    files.append_summary(passing(), summary)
    files.append_summary(failing(), summary)
    text = summary.read_text(encoding="utf-8")
    assert text.startswith("before, without a line's end\n# small: pass\n")
    assert text.index("# small: pass") < text.index("\n# small: FAIL\n")
