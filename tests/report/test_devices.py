"""Devices in report.json and in its forms."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from small_report import HOSTILE, passing, run_folder

from compressor.errors import RecipeError
from compressor.report import devices, html, markdown
from compressor.report.model import DeviceFileReport, DeviceReport, Measurement, read


def device(kind: str = "browser", **description: str | int) -> DeviceReport:
    p50, p95 = Measurement(12.5, "ms", 60, 12.0, 13.0), Measurement(20.0, "ms", 60, 18.0, None)
    return DeviceReport(kind, description, {"onnx_int8": DeviceFileReport("ab" * 32, 64, 0.984375, 0.02, p50, p95)})


def test_a_device_is_read_as_it_was_written_and_the_rest_stays(tmp_path: Path):
    run = run_folder(tmp_path / "run", passing())
    before = (run / "report.json").read_text()
    assert "devices" not in json.loads(before)
    devices.add(run, "Pixel 7", device(cores=8, simd=True), None)
    devices.add(run, "Pi 5", device("ssh"), None)
    found = read(run)
    assert found.devices == {"Pixel 7": device(cores=8, simd=True), "Pi 5": device("ssh")}
    assert found.stages == passing().stages
    assert devices.without((run / "report.json").read_text()) == before == devices.without(before)
    found.write(run / "again.json")
    assert json.loads((run / "again.json").read_text()) == json.loads((run / "report.json").read_text())


def test_the_forms_have_a_table_of_devices():
    report = passing(devices={"Pixel 7": device(cores=8, runtime="onnxruntime-web 1.31")})
    row = "| Pixel 7 | onnx_int8 | 64 | 0.9844 | 0.0200 | 12.50 [12.00, 13.00] | 20.00 [18.00, –] |"
    assert row in markdown.markdown(report)
    page = html.document(report, None)
    assert "Pixel 7 (browser): cores 8, runtime onnxruntime-web 1.31." in page and 'id="devices"' in page
    assert 'id="devices"' not in html.document(passing(), None)


def test_hostile_names_are_text():
    report = passing(devices={HOSTILE: device(HOSTILE, user_agent=HOSTILE)})
    for text in (html.document(report, None), markdown.markdown(report)):
        assert "<script>alert" not in text


@pytest.mark.parametrize(
    "damage", [1, [], {"x": 1}, {"x": {}}, {"x": {"kind": "a", "description": {}, "files": {"onnx": {}}}}]
)
def test_a_damaged_entry_is_a_damaged_report(tmp_path: Path, damage: object):
    run = run_folder(tmp_path, passing())
    report = json.loads((run / "report.json").read_text())
    (run / "report.json").write_text(json.dumps({**report, "devices": damage}))
    with pytest.raises(RecipeError):
        read(run)
