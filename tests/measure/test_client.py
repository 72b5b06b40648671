"""Measuring processes: one serves all answers of a runtime, and none survives a failure, a hang or the client."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import WriteRecipe
from in_process import InProcess
from rich.console import Console

from compressor.errors import RecipeError, StageError
from compressor.measure.client import Client
from compressor.measure.token_rows import TokenRows
from compressor.pipeline import session
from compressor.progress import Progress
from compressor.recipe import resolve
from compressor.runtimes import RUNTIMES


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory, classifier: Path) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("job")
    RUNTIMES["onnxruntime"].export(classifier, folder / "model.onnx")
    TokenRows.of([{"input_ids": [2, 5, 3]}, {"input_ids": [2, 6, 7, 3]}], 0).save(folder / "rows.npz")
    rows = {"name": "rows", "rows": str(folder / "rows.npz"), "batches": [[0], [1]]}
    file = {"runtime": "onnxruntime", "path": str(folder / "model.onnx"), "threads": 1, "workers": 1}
    return {"task": "text-classification", "keep": "answers", "sets": [rows], **file}


@pytest.fixture
def client() -> Iterator[Client]:
    with Client(timeout_s=2) as measuring:
        yield measuring


def pid(client: Client) -> int:
    """The process that serves ONNX Runtime's answers."""
    return client._serving["onnxruntime"].end.pid


def test_one_process_serves_all_answers_and_gives_those_of_this_process(client: Client, job: dict[str, Any]):
    first, serving = client.predict(job)["rows"], pid(client)
    assert np.array_equal(client.predict(job)["rows"], first) and pid(client) == serving
    assert np.array_equal(InProcess().predict(job)["rows"], first)
    loaded = Path(f"/proc/{serving}/maps")
    assert not loaded.exists() or "libtorch" not in loaded.read_text()
    client.close()
    with pytest.raises(ProcessLookupError):
        os.kill(serving, 0)


def test_a_job_that_fails_is_reported_and_the_next_one_has_a_new_process(client: Client, job: dict[str, Any]):
    client.predict(job)
    before = pid(client)
    with pytest.raises(StageError, match=r"missing\.onnx"):
        client.predict({**job, "path": "missing.onnx"})
    client.predict(job)
    assert pid(client) != before


@pytest.mark.parametrize(("sent", "told"), [(signal.SIGKILL, "-9"), (signal.SIGSTOP, r"hung.*measure\.timeout_s")])
def test_a_process_that_dies_or_hangs_is_reported(client: Client, job: dict[str, Any], sent: signal.Signals, told: str):
    client.predict(job)
    os.kill(pid(client), sent)
    with pytest.raises(StageError, match=told):
        client.predict(job)
    assert not client._serving


def test_a_process_that_hangs_before_it_reads_a_large_job_is_named_with_its_file(client: Client, job: dict[str, Any]):
    client.predict(job)
    os.kill(pid(client), signal.SIGSTOP)
    rows = {**job["sets"][0], "batches": [[0]] * 200_000}
    with pytest.raises(StageError, match=r"model\.onnx hung"):
        client.predict({**job, "sets": [rows]})
    assert not client._serving


def _measure(job: dict[str, Any], told: Path) -> None:
    client = Client()
    client.predict(job)
    told.with_suffix(".partial").write_text(str(pid(client)))
    told.with_suffix(".partial").rename(told)
    time.sleep(600)


def test_a_killed_run_leaves_no_process(job: dict[str, Any], tmp_path: Path):
    told = tmp_path / "told"
    run = multiprocessing.get_context("fork").Process(target=_measure, args=(job, told))
    run.start()
    while not told.exists():
        assert run.is_alive()
        time.sleep(0.01)
    measuring = Path("/proc", told.read_text())
    assert measuring.is_dir()
    os.kill(run.pid, signal.SIGKILL)
    run.join()
    while measuring.exists():
        time.sleep(0.01)


def test_memory_and_times_come_from_fresh_processes(client: Client, job: dict[str, Any]):
    call = {"threads": 1, "batch_size": 1, "sequence_length": 4, "vocab_size": 10}
    memory = client.peak_memory({**call, "runtime": "onnxruntime", "path": job["path"]})
    assert len(memory) == 3 and all(10e6 < value < 500e6 for value in memory)
    assert not client._serving


def test_an_interrupt_ends_the_process(client: Client, job: dict[str, Any]):
    class Interrupted:
        def check_interrupted(self) -> None: ...

        def update(self, done: float, total: float) -> None:
            raise KeyboardInterrupt

    client.predict(job)
    serving = pid(client)
    with pytest.raises(KeyboardInterrupt):
        client.predict(job, Interrupted())
    assert not client._serving
    with pytest.raises(ProcessLookupError):
        os.kill(serving, 0)


def test_a_recipe_says_how_long_a_silent_process_is_waited_for(write_recipe: WriteRecipe, tmp_path: Path):
    resolved = resolve.resolve(write_recipe(measure={"timeout_s": 60, "sequence_length": 16}))
    client = InProcess()
    with Progress(Console(quiet=True)) as progress, pytest.raises(RecipeError):
        session.run(resolved, session.Options(tmp_path, baseline=tmp_path / "missing"), client, progress)
    assert client.timeout_s == 60
