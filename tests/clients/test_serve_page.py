"""`compress serve` in a real browser: it gives ONNX Runtime's answers, asks no other host, and says what is wrong."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from browsers import CLIENTS, installed
from device_results import outputs
from running import compress

from compressor import serve
from compressor.report import model as reports
from compressor.serve.job import prepare

SHA256 = Path(serve.__file__).parent / "page" / "sha256.mjs"
DESK, PHONE = (1280, 900), (360, 740)


@pytest.fixture(scope="module")
def browser() -> str:
    return installed()


@pytest.fixture
def run(published: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(published, tmp_path / "run"))


@contextmanager
def serving(run: Path, *options: str, host: str = "127.0.0.1") -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The address of the page, and the process that serves it."""
    command = [sys.executable, "-m", "compressor", "serve", str(run), "--web", str(CLIENTS), "--host", host, *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            found = re.search(r"^http://\S+/$", "".join(process.stdout.readline() for _ in range(3)), re.MULTILINE)
            assert found is not None
            yield found[0], process
        finally:
            process.terminate()


def look(browser: str, folder: Path, *looks: dict[str, Any]) -> dict[str, Any]:
    """What pages showed, and every address that they asked for."""
    sizes = {"width": DESK[0], "height": DESK[1], "scheme": "light"}
    job = {"browser": browser, "profile": str(folder / "profile"), "looks": [{**sizes, **entry} for entry in looks]}
    result = subprocess.run(
        ["node", str(CLIENTS / "serve_page.mjs")],
        input=json.dumps(job),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_a_phone_gives_the_answers_of_onnx_runtime(browser: str, run: Path, tmp_path: Path):
    with serving(run, "--once", "--threads", "2") as (url, process):
        found = look(browser, tmp_path, {"page": url, "width": PHONE[0], "height": PHONE[1], "name": "Pixel 7"})
        assert process.stdout is not None
        told = process.stdout.read()
        assert process.wait(timeout=60) == 0, "it ends after the first result"
    (seen,) = found["looks"]
    assert (seen["state"], seen["error"], seen["complaints"]) == ("done", "", [])
    assert [address for address in found["requests"] if not address.startswith((url, "data:"))] == []
    assert seen["verdict"] == "Pixel 7 ✓ passes. The report has it." and seen["focused"] == "verdict"
    assert seen["widest"] <= PHONE[0]
    device = reports.read(run).devices["Pixel 7"]
    assert device.kind == "browser"
    assert device.description["threads"] == 2 and device.description["isolated"] and device.description["simd"]
    assert "HeadlessChrome" in str(device.description["user_agent"])
    assert str(device.description["runtime"]).startswith("onnxruntime-web 1.")
    assert "2 threads" in seen["device"]
    job = prepare(run)
    names = json.loads((run / "model/config.json").read_text())["id2label"]
    for place, name in enumerate(("onnx", "onnx_int8")):
        ours = [names[str(int(np.argmax(row["logits"])))] for row in outputs(job, name)]
        theirs = [row[1 + place] for row in seen["labels"]]
        assert theirs == ours and set(ours) == {"negative", "positive"}
        ran = device.files[name]
        assert (ran.rows, ran.label_agreement, ran.latency_p50_ms.n) == (64, 1.0, 60) and ran.max_abs_diff < 0.1
        row = seen["rows"][place]
        assert row[:2] == [name, "100.0 %"] and row[2] == f"{ran.latency_p50_ms.value:.2f}"
        assert f"Pixel 7: {name}: 100.00% of 64 rows have the recorded label" in told
    assert len(seen["bars"]) == 2 and all(seen["bars"])
    for text in ("onnx: row ", "onnx_int8: timed call "):
        assert any(line.startswith(text) for line in seen["texts"]), "progress is shown"
    for part in ('img "Latency. onnx: median', 'rowheader "onnx_int8"', 'columnheader "p95 ms"', "- listitem"):
        assert part in seen["tree"], seen["tree"]
    verified = compress("verify", run, "--device", "Pixel 7", "--json", cwd=tmp_path)
    assert verified.returncode == 0, verified.stdout
    subjects = {check["subject"] for check in json.loads(verified.stdout)["checks"]}
    assert {"Pixel 7: onnx", "Pixel 7: onnx_int8", "onnx/model.onnx, recorded"} <= subjects


def test_several_devices_dark_and_a_refused_result(browser: str, run: Path, tmp_path: Path):
    with serving(run, "--runs", "5") as (url, _):
        found = look(
            browser,
            tmp_path,
            {"page": url},
            {"page": url, "scheme": "dark", "answer": {"device": "x"}},
            {"page": url, "name": "<b>"},
        )
    first, refused, named = found["looks"]
    assert first["state"] == "done" and first["suggested"] and first["verdict"].startswith(first["suggested"])
    assert set(reports.read(run).devices) == {first["suggested"]}, "what is refused is not written"
    assert refused["state"] == "failed" and refused["error"].startswith("The result was refused. description: ")
    assert named["state"] == "ready" and named["texts"] == [], "a name that cannot be is told before it is measured"
    assert '- alert: "The result was refused.' in refused["tree"]
    assert (first["ground"], refused["ground"]) == ("rgb(255, 255, 255)", "rgb(20, 23, 28)")
    assert first["widest"] <= DESK[0]


def test_without_isolation_there_is_one_thread_and_the_page_says_so(browser: str, run: Path, tmp_path: Path):
    addresses = [
        each.address
        for found in psutil.net_if_addrs().values()
        for each in found
        if each.family.name == "AF_INET" and not each.address.startswith("127.")
    ]
    if not addresses:
        pytest.skip("this machine has no address but loopback")
    with serving(run, "--device", "Phone", "--threads", "4", "--runs", "5", host=addresses[0]) as (url, _):
        (seen,) = look(browser, tmp_path, {"page": url, "width": PHONE[0], "height": PHONE[1]})["looks"]
    assert (seen["state"], seen["complaints"], seen["isolated"]) == ("done", [], False)
    assert seen["suggested"] == "Phone" and "1 thread of" in seen["device"] and "plain http" in seen["device"]
    description = reports.read(run).devices["Phone"].description
    assert (description["threads"], description["isolated"]) == (1, False)


def test_a_file_that_changes_while_it_is_served_is_refused(browser: str, run: Path, tmp_path: Path):
    before = (run / "report.json").read_bytes()
    with serving(run, "--runs", "5") as (url, _):
        shutil.copy(run / "model/onnx/model_quantized.onnx", run / "model/onnx/model.onnx")
        (seen,) = look(browser, tmp_path, {"page": url, "name": "Pixel 7"})["looks"]
    assert seen["error"].startswith("The result was refused. onnx: the file that ran is not the one in the manifest")
    assert (run / "report.json").read_bytes() == before


def test_digests_are_those_of_python():
    lengths = (0, 1, 55, 56, 57, 63, 64, 65, 119, 120, 128, 10_007)
    script = (
        f"import {{ sha256 }} from {json.dumps(str(SHA256))};"
        f"for (const n of {list(lengths)}) console.log(sha256(Uint8Array.from({{length: n}}, (_, i) => i * 7 + n)));"
    )
    if shutil.which("node") is None:
        pytest.skip("no node")
    command = ["node", "--input-type=module", "--eval", script]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    expected = [hashlib.sha256(bytes((i * 7 + n) % 256 for i in range(n))).hexdigest() for n in lengths]
    assert found == expected


def test_a_graph_that_cannot_be_loaded_is_told(browser: str, run: Path, tmp_path: Path):
    with serving(run, "--runs", "5") as (url, process):
        (run / "model/onnx/model.onnx").write_bytes(b"no graph")
        (broken,) = look(browser, tmp_path, {"page": url})["looks"]
        (run / "model/onnx/model.onnx").unlink()
        (gone,) = look(browser, tmp_path, {"page": url})["looks"]
        process.terminate()
        process.wait(timeout=60)
    assert broken["state"] == gone["state"] == "failed"
    assert "onnx: cannot be loaded: " in broken["error"]
    assert gone["error"] == "model/onnx/model.onnx cannot be fetched: the server answers 404"
