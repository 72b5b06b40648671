"""What a device hands back is compared as `compress verify` compares, written to the report, or refused."""

from __future__ import annotations

import base64
import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from device_results import DESCRIPTION, body, packed, result_of
from problems import refused
from running import compress
from verifying import failed_of, look_at_files

from compressor.errors import StageError
from compressor.package.manifest import Check
from compressor.pipeline.locks import try_lock
from compressor.pipeline.run_folder import LOCK
from compressor.report import model as reports
from compressor.serve.job import Job, prepare
from compressor.serve.result import RefusedResult
from compressor.serve.serving import Desk

RUNS = 60
Result = dict[str, Any]


@pytest.fixture
def run(published: Path, tmp_path: Path) -> Path:
    """A copy of a run's folder."""
    return Path(shutil.copytree(published, tmp_path / "run"))


@pytest.fixture(scope="module")
def asked(published: Path) -> Job:
    return prepare(published, RUNS)


@pytest.fixture(scope="module")
def right(asked: Job) -> Result:
    return result_of(asked)


def taken(run: Path, result: Result, device: str | None = None) -> tuple[dict[str, Any], list[Check]]:
    told: list[Check] = []
    answer = Desk(prepare(run, RUNS), device, told.extend).take(body(result))
    return dict(answer), told


def test_what_is_asked_of_a_device(asked: Job, published: Path):
    document = asked.document(None, None)
    assert [entry["name"] for entry in document["files"]] == ["onnx", "onnx_int8"], "no fixed lengths, no ORT"
    assert [entry["path"] for entry in document["files"]] == [
        "model/onnx/model.onnx",
        "model/onnx/model_quantized.onnx",
    ]
    recorded = json.loads((published / "model" / "verification.json").read_text())["rows"]
    assert [row["input_ids"] for row in document["rows"]] == [row["input_ids"] for row in recorded]
    assert all(set(row["attention_mask"]) == {1} for row in document["rows"])
    assert [len(row) for row in document["batch"]["input_ids"]] == [16], "measure.sequence_length"
    assert document["outputs"] == ["logits"] and document["runs"] == RUNS
    assert prepare(published).runs == 60, "measure.runs"
    json.dumps(document)


def test_a_right_result_is_in_the_report_and_its_forms_and_nothing_else_changes(run: Path, right: Result):
    before = json.loads((run / "report.json").read_text())
    answer, told = taken(run, right)
    assert answer["verdict"] == "pass" and [check.verdict for check in told] == ["pass", "pass"]
    after = json.loads((run / "report.json").read_text())
    device = after.pop("devices")["Pixel 7"]
    assert after == before
    assert device["kind"] == "browser" and device["description"].items() >= DESCRIPTION.items()
    assert set(device["files"]) == {"onnx", "onnx_int8"}
    for name, digest in (("onnx", "onnx/model.onnx"), ("onnx_int8", "onnx/model_quantized.onnx")):
        found = device["files"][name]
        assert found["digest"] == json.loads((run / "model/manifest.json").read_text())["files"][digest]["sha256"]
        assert (found["rows"], found["label_agreement"]) == (64, 1.0) and found["max_abs_diff"] < 1e-3
        p50 = found["latency_p50_ms"]
        assert p50["n"] == RUNS and p50["low"] <= p50["value"] <= p50["high"] and p50["value"] == pytest.approx(5.015)
    assert "| Pixel 7 | onnx_int8 | 64 | 1.0000 |" in (run / "report.md").read_text()
    assert 'id="devices-heading"' in (run / "report.html").read_text()
    assert failed_of(look_at_files(run)).keys() == {"extra.txt", "formats"}, "the folder is as the run left it"


def test_a_label_of_each_row_beside_the_recorded_one(run: Path, right: Result):
    wrong = copy.deepcopy(right)
    wrong["files"]["onnx"]["rows"][3]["logits"] = packed([[9.0, -9.0]])
    wrong["files"]["onnx"]["rows"][4]["logits"] = packed([[-9.0, 9.0]])
    labels = taken(run, wrong)[0]["labels"]["onnx"]
    assert [labels[3][0], labels[4][0]] == ["negative", "positive"]
    assert len({labels[index] for index in range(len(labels)) if index not in (3, 4)}) == 2, "given and recorded agree"


def test_other_answers_are_written_and_fail(run: Path, right: Result):
    wrong = copy.deepcopy(right)
    for row in wrong["files"]["onnx_int8"]["rows"][:8]:
        row["logits"] = packed(-_numbers(row["logits"]))
    answer, told = taken(run, wrong)
    assert answer["verdict"] == "fail"
    assert {check.subject: check.verdict for check in told} == {"Pixel 7: onnx": "pass", "Pixel 7: onnx_int8": "fail"}
    assert reports.read(run).devices["Pixel 7"].files["onnx_int8"].label_agreement == 56 / 64


def _numbers(output: dict[str, Any]) -> Any:
    return np.frombuffer(base64.b64decode(output["data"]), "<f4").reshape(output["shape"])


def test_a_second_device_and_a_second_result_of_the_first(run: Path, right: Result):
    taken(run, right)
    taken(run, {**right, "device": "iPhone 15"})
    slower = copy.deepcopy(right)
    slower["files"]["onnx"]["latency_ms"] = [50.0] * RUNS
    taken(run, slower)
    found = reports.read(run).devices
    assert list(found) == ["Pixel 7", "iPhone 15"]
    assert [entry.files["onnx"].latency_p50_ms.value for entry in found.values()] == [50.0, pytest.approx(5.015)]
    assert compress("report", run, cwd=run).returncode == 0
    assert "| iPhone 15 | onnx | 64 |" in (run / "report.md").read_text()


def change(*keys: Any, to: Any) -> Callable[[Result], None]:
    def apply(result: Result) -> None:
        inner: Any = result
        for key in keys[:-1]:
            inner = inner[key]
        inner[keys[-1]] = to

    return apply


ONNX = ("files", "onnx")
FIRST = (*ONNX, "rows", 0)
REFUSED: dict[str, tuple[Callable[[Result], None], str]] = {
    "another file": (change(*ONNX, "sha256", to="0" * 64), "onnx: the file that ran is not the one in the manifest"),
    "a digest that is none": (change(*ONNX, "sha256", to="abc"), "files.onnx.sha256: "),
    "a file less": (lambda result: result["files"].pop("onnx"), "onnx: was asked and is missing"),
    "a file more": (lambda r: r["files"].update(ort=r["files"]["onnx"]), "ort: is not a file that was asked"),
    "a row less": (lambda result: result["files"]["onnx"]["rows"].pop(), "onnx: has 63 rows, and 64 were asked"),
    "a call less": (lambda result: result["files"]["onnx"]["latency_ms"].pop(), "onnx: has 59 timed calls, and 60"),
    "a time of nothing": (change(*ONNX, "latency_ms", 0, to=0.0), "files.onnx.latency_ms.0: "),
    "a time that is no number": (change(*ONNX, "latency_ms", 0, to=float("nan")), "files.onnx.latency_ms.0: "),
    "an endless time": (change(*ONNX, "latency_ms", 0, to=float("inf")), "files.onnx.latency_ms.0: "),
    "a time in words": (change(*ONNX, "latency_ms", 0, to="5"), "files.onnx.latency_ms.0: "),
    "a logit that is no number": (
        change(*FIRST, "logits", to=packed([[float("nan"), 0]])),
        "onnx: an output has numbers",
    ),
    "an endless logit": (
        change(*FIRST, "logits", to=packed([[float("inf"), 0]])),
        "onnx: an output has numbers that are",
    ),
    "too few numbers": (change(*FIRST, "logits", "shape", to=[1, 3]), "onnx: an output has 2 numbers, and the shape"),
    "a batch of two": (change(*FIRST, "logits", "shape", to=[2, 1]), "onnx: an output has 2 numbers, and the shape"),
    "an output of other axes": (change(*FIRST, "logits", "shape", to=[1, 2, 1]), "onnx: "),
    "no choice": (change(*FIRST, "logits", to=packed([1.0])), "onnx: "),
    "fewer choices": (
        lambda result: [row.update(logits=packed([[1.0]])) for row in result["files"]["onnx"]["rows"]],
        "onnx: its outputs are those of another model",
    ),
    "no base64": (change(*FIRST, "logits", "data", to="?"), "onnx: an output is not base64"),
    "half a number": (change(*FIRST, "logits", "data", to="AAA="), "onnx: "),
    "another output": (
        lambda r: r["files"]["onnx"]["rows"][0].update(x=packed([[1.0]])),
        "onnx: has the outputs logits, x",
    ),
    "a key too many": (change("admin", to=True), "admin: "),
    "a name with markup": (change("device", to="<b>"), "device: "),
    "a name of nothing": (change("device", to=""), "device: "),
    "a name of two lines": (change("device", to="a\nb"), "device: "),
    "a long name": (change("device", to="a" * 61), "device: "),
    "no threads": (change("description", "threads", to=0), "description.threads: "),
    "a long user agent": (change("description", "user_agent", to="a" * 501), "description.user_agent: "),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_wrong_result_is_refused_with_the_reason_and_leaves_no_trace(run: Path, right: Result, what: str):
    spoil, reason = REFUSED[what]
    result = copy.deepcopy(right)
    spoil(result)
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    with pytest.raises(RefusedResult) as error:
        taken(run, result)
    assert str(error.value).startswith(reason)
    assert {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()} == before


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"\xff", b"[" * 100_000])
def test_what_is_no_result_at_all_is_refused(asked: Job, text: bytes):
    with pytest.raises(RefusedResult):
        Desk(asked, None, pytest.fail).take(text)


def test_one_row_that_would_fill_the_memory_is_refused(asked: Job, right: Result):
    large = copy.deepcopy(right)
    large["files"]["onnx"]["rows"][0]["logits"] = packed([[0.0] * 2_000_000])
    with pytest.raises(RefusedResult, match="larger than those of any row"):
        Desk(asked, None, pytest.fail).take(body(large))


def test_the_name_that_the_command_line_gives_is_the_only_one(run: Path, right: Result):
    assert taken(run, right, "Pixel 7")[0]["device"] == "Pixel 7"
    with pytest.raises(RefusedResult, match="--device says 'iPhone'"):
        taken(run, right, "iPhone")


def test_a_folder_that_is_in_use_or_was_run_again_takes_no_result(run: Path, right: Result):
    desk = Desk(prepare(run, RUNS), None, pytest.fail)
    held = try_lock(run / LOCK)
    assert held is not None
    with pytest.raises(StageError, match="belongs to a run"):
        desk.take(body(right))
    held.release()
    report = json.loads((run / "report.json").read_text())
    (run / "report.json").write_text(json.dumps({**report, "manifest_sha256": "0" * 64}))
    with pytest.raises(StageError, match="was run again"):
        desk.take(body(right))


def only_what_ships(run: Path) -> Path:
    return run / "model"


def no_model(run: Path) -> Path:
    shutil.rmtree(run / "model")
    return run


def changed(run: Path) -> Path:
    (run / "model" / "onnx" / "model.onnx").write_bytes(b"other")
    return run


def linked(run: Path) -> Path:
    secret = run.parent / "secret"
    secret.write_bytes((run / "model" / "onnx" / "model.onnx").read_bytes())
    (run / "model" / "onnx" / "model.onnx").unlink()
    (run / "model" / "onnx" / "model.onnx").symlink_to(secret)
    return run


def of_another_run(run: Path) -> Path:
    report = json.loads((run / "report.json").read_text())
    (run / "report.json").write_text(json.dumps({**report, "manifest_sha256": "0" * 64}))
    return run


@pytest.mark.parametrize(
    ("spoil", "kind"),
    [
        (only_what_ships, "unsupported"),
        (no_model, "unsupported"),
        (changed, "changed"),
        (linked, "changed"),
        (of_another_run, "changed"),
        (lambda run: run / "nowhere", "not_found"),
    ],
)
def test_a_folder_that_cannot_be_measured_is_refused(run: Path, spoil: Callable[[Path], Path], kind: str):
    path = spoil(run)
    with refused(str(path), kind):
        prepare(path)
