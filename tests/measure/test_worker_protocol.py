"""The worker's messages: what is sent comes back, and what is not of the protocol is refused, on either side."""

from __future__ import annotations

import ast
import hashlib
import io
import json
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compressor.device import worker
from compressor.device.worker import Channel, Refused, Worker
from compressor.measure import messages

DIGEST = hashlib.sha256(b"the file").hexdigest()


def frame(kind: str, arrays: dict[str, Any] | None = None, **fields: Any) -> bytes:
    written = io.BytesIO()
    Channel(io.BytesIO(), written).send(kind, arrays, **fields)
    return written.getvalue()


def received(data: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    return Channel(io.BytesIO(data), io.BytesIO()).receive()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(worker.CACHE, str(tmp_path / "cache"))
    return tmp_path / "cache"


def served(data: bytes) -> list[dict[str, Any]]:
    """The lines of the messages with which a worker answers some bytes; it ends with them, or with a refusal."""
    written = io.BytesIO()
    try:
        Worker(Channel(io.BytesIO(data), written)).serve()
    except Refused:
        assert b'"refused"' in written.getvalue()
    answers = io.BytesIO(written.getvalue())
    found = []
    while answers.tell() < len(written.getvalue()):
        found.append(Channel(answers, io.BytesIO()).receive()[0])
    return found


def test_what_is_sent_is_received():
    arrays = {
        "ids": np.arange(6).reshape(2, 3),
        "half": np.array([1.5, -2], np.float16),
        "text": np.array(["a\nb", "ü 🙂", ""], dtype=object),
        "none": np.zeros((0, 4), np.int8),
        "one": np.array(7.0),
        "strided": np.arange(12).reshape(3, 4)[:, ::2],
    }
    header, given = received(frame("ask", arrays, threads=2))
    assert header == {"v": worker.PROTOCOL, "kind": "ask", "threads": 2}
    assert list(given) == list(arrays)
    for name, array in arrays.items():
        assert given[name].dtype == array.dtype and given[name].shape == array.shape
        assert np.array_equal(given[name], array)


def line(**fields: Any) -> bytes:
    return json.dumps({"v": 1, "kind": "have", "arrays": [], **fields}).encode() + b"\n"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"GET / HTTP/1.1\r\n", "not JSON"),
        (b"\xff\xfe\n", "not JSON"),
        (b"[" * 100_000 + b"\n", "not JSON"),
        (b'{"v": 1', "breaks off"),
        (b" " * (1 << 20) + b"\n", "too long"),
        (b"[]\n", "without a kind"),
        (line(kind=7), "without a kind"),
        (line(v=2), "version 2 of the protocol, this is 1"),
        (line(arrays={}), "no list of arrays"),
        (line(arrays=[["a", "object", [1], 8]]), "not described"),
        (line(arrays=[["a", "int64", [-1], 8]]), "without a shape"),
        (line(arrays=[["a", "int64", [2], 8]]), "another size"),
        (line(arrays=[["a", "int64", [1 << 37], 1 << 40]]), "without a shape"),
        (line(arrays=[["a", "uint8", [1 << 30], 1 << 30]]), "more than"),
        (line(arrays=[["a", "text", [2], 5]]) + b'["x"]', "another number"),
        (line(arrays=[["a", "text", [1], 3]]) + b"[1]", "none"),
    ],
)
def test_what_is_not_of_the_protocol_is_refused(data: bytes, reason: str):
    with pytest.raises(Refused, match=reason):
        received(data)
    assert served(data)[-1]["kind"] == "refused"


def test_jobs_that_are_not_known_or_whole_are_refused_and_those_that_fail_are_reported(tmp_path: Path):
    (tmp_path / "no.onnx").write_bytes(b"not a model")
    file = {"path": str(tmp_path / "no.onnx"), "runtime": "onnxruntime", "threads": 1}
    for data, kind, reason in (
        (frame("exec"), "refused", "kind 'exec'"),
        (frame("have", digests=["../../etc/passwd"]), "refused", "a digest that is none"),
        (frame("put", digest=DIGEST, size=-1), "refused", "without a size"),
        (frame("memory"), "failed", "KeyError"),
        (frame("memory", **{**file, "runtime": "os"}), "failed", "no runtime 'os'"),
        (frame("memory", **file), "failed", "no.onnx"),
        (frame("latency", files=[file], runs="many", threads=1), "failed", "ValueError"),
    ):
        answer = served(data)[-1]
        assert answer["kind"] == kind and reason in answer["reason"], answer


def test_a_file_comes_in_parts_and_stays_by_its_digest(cache: Path):
    parts = [frame("part", {"bytes": np.frombuffer(data, np.uint8)}) for data in (b"the ", b"file")]
    answers = served(b"".join([frame("put", digest=DIGEST, size=8), *parts, frame("have", digests=[DIGEST, "0" * 64])]))
    assert [answer["kind"] for answer in answers] == ["hello", "ready", "done", "have"]
    assert answers[-1]["digests"] == [DIGEST]
    assert [path.name for path in cache.iterdir()] == [DIGEST]
    assert (cache / DIGEST).read_bytes() == b"the file"
    assert served(frame("drop"))[-1]["kind"] == "done" and not cache.exists()


@pytest.mark.parametrize("sent", [b"another", b"the file and more"])
def test_another_file_than_was_announced_is_not_kept(cache: Path, sent: bytes):
    part = frame("part", {"bytes": np.frombuffer(sent.ljust(8), np.uint8)})
    answer = served(frame("put", digest=DIGEST, size=8) + part)[-1]
    assert answer["kind"] == "failed" and "another one" in answer["reason"]
    assert list(cache.iterdir()) == []


def test_the_cache_is_bounded(cache: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(worker, "CACHE_BYTES", 20)
    for content in (b"1" * 8, b"2" * 8, b"3" * 8):
        digest = hashlib.sha256(content).hexdigest()
        served(frame("put", digest=digest, size=8) + frame("part", {"bytes": np.frombuffer(content, np.uint8)}))
    assert sorted(path.read_bytes()[:1] for path in cache.iterdir()) == [b"2", b"3"]


def mutated(random: np.random.Generator) -> bytes:
    """A conversation of which some bytes, values or parts are others."""
    whole = [
        frame("have", digests=[DIGEST]),
        frame("put", digest=DIGEST, size=8),
        frame("part", {"bytes": np.frombuffer(b"the file", np.uint8)}),
        frame("answer", runtime="onnxruntime", path="x.onnx", threads=1, workers=2),
        frame("ask", {"input_ids": np.ones((1, 4), np.int64), "text": np.array(["a"], dtype=object)}),
        frame("end"),
        frame("latency", {"0/input_ids": np.ones((1, 4), np.int64)}, files=[{"path": "x"}], runs=3, threads=1),
        frame("memory", runtime="ort", path="x.ort", threads=1),
        frame("drop"),
    ]
    kind = random.integers(4)
    if kind == 0:
        data = bytearray(b"".join(whole))
        for place in random.integers(len(data), size=random.integers(1, 20)):
            data[place] = random.integers(256)
        return bytes(data)
    if kind == 1:
        return b"".join(whole[index] for index in random.integers(len(whole), size=8))
    if kind == 2:
        data = b"".join(whole)
        return data[random.integers(len(data)) : random.integers(len(data))] or b"\0"
    chosen = whole[random.integers(len(whole))]
    header, _, payload = chosen.partition(b"\n")
    fields = json.loads(header)
    values: list[Any] = [None, -1, 1e308, "x" * 1000, [], {}, [[["a"]]], 10**30, True, "../x", float("nan")]
    fields[str(random.choice(list(fields)))] = values[random.integers(len(values))]
    return json.dumps(fields).encode() + b"\n" + payload


def test_a_thousand_mutated_conversations(cache: Path):
    """Neither side raises anything but its own refusal, and little memory is taken."""
    random = np.random.default_rng(0)
    tracemalloc.start()
    kinds = set()
    for _ in range(1000):
        data = mutated(random)
        kinds |= {answer["kind"] for answer in served(data)}
        channel = Channel(io.BytesIO(data), io.BytesIO())
        try:
            while True:
                messages.known(channel.receive())
        except (EOFError, Refused):
            pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kinds >= {"hello", "refused", "failed", "have", "ready", "done"}
    assert peak < 50e6
    assert {path.name for path in cache.glob("*")} <= {DIGEST}


def test_the_state_of_a_machine(tmp_path: Path):
    assert set(worker.state(tmp_path)) <= {"load"}
    for name, text in {
        "class/thermal/thermal_zone0/temp": "48312",
        "class/thermal/thermal_zone1/temp": "61250\n",
        "class/thermal/thermal_zone2/temp": "",
        "devices/system/cpu/cpufreq/policy0/scaling_cur_freq": "1500000",
        "devices/system/cpu/cpufreq/policy4/scaling_cur_freq": "2400000",
        "devices/system/cpu/cpufreq/policy0/scaling_governor": "ondemand",
        "devices/system/cpu/cpufreq/policy4/scaling_governor": "performance",
        "devices/system/cpu/cpu0/thermal_throttle/core_throttle_count": "2",
        "devices/system/cpu/cpu1/thermal_throttle/package_throttle_count": "3",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    found = worker.state(tmp_path)
    found.pop("load", None)
    governor = "ondemand performance"
    assert found == {"temperature_c": 61.25, "mhz": 2400.0, "governor": governor, "throttled": 5}


def test_the_file_is_one_that_old_pythons_read_and_imports_nothing_of_ours():
    tree = ast.parse(Path(worker.__file__).read_text(), feature_version=(3, 8))
    imported = {
        (node.module if isinstance(node, ast.ImportFrom) else node.names[0].name).partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert imported - set(sys.stdlib_module_names) == {"numpy", "onnxruntime", "torch", "executorch"}


def test_a_python_that_is_too_old_says_so():
    older = "import sys; sys.version_info = (3, 7, 1); sys.argv[:] = sys.argv[1:]; exec(sys.argv[1])"
    source = Path(worker.__file__).read_bytes()
    done = subprocess.run(
        [sys.executable, "-c", older, "-c", worker.BOOT], input=b"%d\n" % len(source) + source, capture_output=True
    )
    header, _ = received(done.stdout)
    assert (header["kind"], header["reason"], header["python"]) == ("refused", "old", "3.7") and not done.stderr
