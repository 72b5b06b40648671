"""How calls are timed: in turn, and again if they were interrupted."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from in_process import InProcess

from compressor import runtimes
from compressor.device import worker
from compressor.measure import client

RUNS = 20


class Busy:
    """A session that computes for some milliseconds, and notes that it was called."""

    concurrent = False
    calls: ClassVar[list[str]] = []

    def __init__(self, path: Path, threads: int) -> None:
        self.path = str(path)

    def predict(self, inputs: Any) -> dict[str, np.ndarray]:
        Busy.calls.append(self.path)
        end = time.process_time() + 0.006
        while time.process_time() < end:
            pass
        return {}


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths whose sessions were called, in order, without the warm-up."""

    busy = runtimes.Runtime(name="busy", module="busy_runtime", file=Path(), usage="")
    monkeypatch.setitem(runtimes.RUNTIMES, "busy", busy)
    monkeypatch.setitem(worker.SESSIONS, "busy", Busy)
    monkeypatch.setattr(worker, "_WARM_UP_CALLS", 0)
    monkeypatch.setattr(Busy, "calls", [])
    return Busy.calls


@contextmanager
def on_one_core(others: int) -> Iterator[None]:
    """This process on one core, and others that want it too."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    rivals = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(others)]
    try:
        yield
    finally:
        for rival in rivals:
            rival.kill()
            rival.wait()
        os.sched_setaffinity(0, before)


def timed(*names: str) -> dict[str, np.ndarray]:
    files = [{"name": name, "path": name.rstrip("'"), "runtime": "busy"} for name in names]
    conditions = {"threads": 1, "batch_size": 1, "sequence_length": 4, "vocab_size": 10, "runs": RUNS}
    return InProcess().latency({"files": files, **conditions})


def test_files_take_turns_and_one_of_several_names_is_timed_once(called: list[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(worker, "_PATIENCE", 0)
    samples = timed("a", "b", "a'")
    assert called[:8] == ["a", "b", "b", "a", "a", "b", "b", "a"] and len(called) == 2 * RUNS
    assert {name: len(samples[name]) for name in ("a", "b", "a'")} == {"a": RUNS, "b": RUNS, "a'": RUNS}
    assert np.array_equal(samples["a"], samples["a'"])


def test_calls_that_were_interrupted_are_timed_again_for_a_while(called: list[str]):
    with on_one_core(others=2):
        samples = timed("a", "b")
    assert 2 * RUNS < len(called) <= (1 + worker._PATIENCE) * 2 * RUNS
    assert [len(samples[name]) for name in "ab"] == [RUNS, RUNS]


@pytest.mark.parametrize(
    ("rounds", "shares"),
    [
        (1, [1]),
        (19, [19]),
        (20, [10, 10]),
        (60, [14, 14, 14, 18]),
        (100, [24, 24, 24, 28]),
        (201, [50, 50, 50, 51]),
        (1000, [250] * 4),
        (250, [62, 62, 62, 64]),
    ],
)
def test_rounds_are_spread_over_processes_that_are_worth_it(rounds: int, shares: list[int]):
    assert client.shares(rounds, processes=4) == shares


def test_timings_of_several_processes_come_in_the_order_measured(classifier: Path, tmp_path: Path):
    exported = tmp_path / "timed.onnx"
    runtimes.RUNTIMES["onnxruntime"].export(classifier, exported)
    file = {"path": str(exported), "runtime": "onnxruntime"}
    conditions = {"threads": 1, "batch_size": 1, "sequence_length": 4, "vocab_size": 10, "runs": 101}
    done: list[float] = []

    class Step:
        def update(self, completed: float, total: float) -> None:
            assert total == 101
            done.append(completed)

    with client.Client() as measuring:
        samples = measuring.latency({"files": [{"name": "a", **file}, {"name": "b", **file}], **conditions}, Step())
    assert done == [24, 48, 72, 101]
    assert samples["a"].shape == (101,) and (samples["a"] > 0).all()
    assert np.array_equal(samples["a"], samples["b"])
