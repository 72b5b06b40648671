"""Devices: a Python that a command starts gives the answers that this one gives; those that cannot say why."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from compressor.commands.main import main
from compressor.device import worker
from compressor.errors import StageError
from compressor.gates.timings import Timings
from compressor.measure import disturbance
from compressor.measure.client import DISTURBED, Client
from compressor.measure.spec import CommandDevice, MeasureSpec, SshDevice
from compressor.measure.token_rows import TokenRows
from compressor.measure.transport import transport
from compressor.runtimes import RUNTIMES

THIS = CommandDevice(command=(sys.executable,))


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("device")
    monkeypatch.setenv(worker.CACHE, str(folder))
    return folder


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory, classifier: Path) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("job")
    RUNTIMES["onnxruntime"].export(classifier, folder / "model.onnx")
    shutil.copy(classifier / "config.json", folder)
    rows = [{"input_ids": [2, *range(5, 5 + count), 3]} for count in range(1, 20)]
    TokenRows.of(rows, 0).save(folder / "rows.npz")
    sets = [{"name": "rows", "rows": str(folder / "rows.npz"), "batches": [[index] for index in range(len(rows))]}]
    file = {"runtime": "onnxruntime", "path": str(folder / "model.onnx"), "threads": 1, "workers": 2}
    return {"task": "text-classification", "keep": "answers", "sets": sets, **file}


def call(job: dict[str, Any], runs: int = 20) -> dict[str, Any]:
    conditions = {"threads": 1, "batch_size": 1, "sequence_length": 4, "vocab_size": 10, "runs": runs}
    return {"files": [{"name": "a", "path": job["path"], "runtime": "onnxruntime"}], **conditions}


def patched(folder: Path, code: str) -> CommandDevice:
    """A device whose Python does something before it starts the worker."""
    script = folder / "device.py"
    script.write_text(f"import sys\n{code}\nsys.argv[:] = sys.argv[1:]\nexec(sys.argv[1])\n")
    return CommandDevice(command=(sys.executable, str(script)))


def test_a_device_gives_the_answers_of_this_machine_and_its_times(job: dict[str, Any], cache: Path):
    with Client() as here, Client(THIS, timing_processes=2) as there:
        assert np.array_equal(there.predict(job)["rows"], here.predict(job)["rows"])
        sent = there._serving["onnxruntime"].sent
        assert sent > Path(job["path"]).stat().st_size
        there.close()
        there.predict(job)
        assert there._serving["onnxruntime"].sent < sent / 2, "the file is there already"
        times = there.latency(call(job))
        assert times["a"].shape == (20,) and (times["a"] > 0).all()
        memory = {"path": job["path"], "runtime": "onnxruntime", "threads": 1}
        (peak, *_) = there.peak_memory({**memory, "batch_size": 1, "sequence_length": 4, "vocab_size": 10})
        assert 10e6 < peak < 500e6
    assert len(list(cache.iterdir())) == 1


def test_what_a_device_cannot_run_is_said_before_it_is_sent(job: dict[str, Any]):
    with Client(THIS) as there:
        assert there.runs("onnxruntime") and not there.runs("onnx_with_tokenizer") and not there.runs("coreml")
        with pytest.raises(StageError, match=r"cannot run files of torch; choose another runtime"):
            there.predict({**job, "runtime": "torch"})


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("sys.version_info = (3, 7, 1)", r"has Python 3\.7; 3\.8 or newer is needed"),
        ("sys.path[:] = [path for path in sys.path if 'site-packages' not in path]", r"install numpy for that Python"),
        ("sys.exit('no such box')", r"ended with 1: no such box; `.*device\.py --version` must print"),
        ("print('Welcome!', flush=True)", r"answered with a line that is not JSON"),
    ],
)
def test_a_device_that_does_not_start_says_why(tmp_path: Path, job: dict[str, Any], code: str, told: str):
    with Client(patched(tmp_path, code)) as there, pytest.raises(StageError, match=told):
        there.predict(job)


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("sys.modules['onnxruntime'] = None", r"lacks onnxruntime: install it there"),
        (
            "import shutil; shutil.disk_usage = lambda path: type('', (), {'free': 1000})",
            r"is full: .* MB needed; free some space there and run the command again",
        ),
        ("import os, threading; threading.Timer(4, os._exit, [9]).start()", r"ended with 9"),
    ],
)
def test_a_device_that_fails_on_the_way_says_why(tmp_path: Path, job: dict[str, Any], code: str, told: str):
    with Client(patched(tmp_path, code), timing_processes=1) as there, pytest.raises(StageError, match=told):
        there.latency(call(job, 10_000_000))


def test_a_cut_connection_is_reported_and_the_next_job_has_another(job: dict[str, Any]):
    with Client(THIS) as there:
        first = there.predict(job)["rows"]
        os.kill(there._serving["onnxruntime"].end.pid, signal.SIGKILL)
        with pytest.raises(StageError, match="ended with -9"):
            there.predict(job)
        assert np.array_equal(there.predict(job)["rows"], first)


STATE = {"before": {}, "after": {}, "disturbed": 0}


@pytest.mark.parametrize(
    ("header", "times", "told"),
    [
        (STATE, [np.ones(60)], None),
        ({**STATE, "before": {"throttled": 3}, "after": {"throttled": 3}}, [np.ones(60)], None),
        ({**STATE, "before": {"throttled": 3}, "after": {"throttled": 4}}, [np.ones(60)], "throttled its processor"),
        (STATE, [np.linspace(20, 30, 60)], "grew slower by"),
        ({**STATE, "after": {"temperature_c": 81.2}}, [np.linspace(20, 40, 60)], "at 81 °C"),
        (STATE, [np.linspace(20, 30, 60), np.full(60, 20.0)], None),
        (STATE, [np.linspace(100, 200, 20)], None),
        (STATE, [np.linspace(0.1, 0.2, 60)], None),
        ({**STATE, "disturbed": 13}, [np.ones(60)], "is busy"),
    ],
)
def test_a_device_that_throttles_or_is_busy(header: dict[str, Any], times: list[np.ndarray], told: str | None):
    found = disturbance.disturbed(header, times)
    assert (told is None and not found) or (len(found) == 1 and told in found[0])


def test_disturbed_times_have_no_bounds():
    times = np.linspace(1, 2, 100)
    for quantile in (0.5, 0.95):
        one, other = Timings(times, quantile, (50, 50), "it is hot"), Timings(times, quantile, (50, 50), "it is hot")
        for estimate in (one.estimate(0.95), one.ratio(other, 0.95)):
            assert (estimate.low, estimate.high, estimate.unbounded) == (None, None, "it is hot")


def test_ssh_is_asked_for_nothing_and_given_no_option():
    command = transport(SshDevice(ssh="user@pi", python="/opt/my python")).command()
    assert command[:6] == ["ssh", "-T", "-o", "BatchMode=yes", "--", "user@pi"]
    assert command[6].startswith("'/opt/my python' -c '")
    for host in ("-oProxyCommand=x", "", "a b", "a\nb"):
        with pytest.raises(ValueError, match="must be a host"):
            SshDevice(ssh=host)
    shell = transport(CommandDevice(command=("adb", "shell"), python="python3")).command()
    assert shell[:2] == ["adb", "shell"] and len(shell) == 3
    assert MeasureSpec.model_validate({"device": {"command": ["x"]}}).device == CommandDevice(command=("x",))


def test_bench_and_doctor_measure_there(job: dict[str, Any], cache: Path):
    there = f"command:{sys.executable}"
    conditions = ["--runs", "20", "--sequence-length", "16", "--json"]
    timed = CliRunner().invoke(main, ["bench", job["path"], *conditions, "--device", there])
    assert timed.exit_code == 0 and '"runtime": "onnxruntime"' in timed.output, timed.output
    shown = CliRunner().invoke(main, ["doctor", "--device", there])
    assert shown.exit_code == 0 and "onnxruntime" in shown.output and "cores" in shown.output
    assert list(cache.iterdir())
    assert CliRunner().invoke(main, ["doctor", "--device", there, "--drop-cache"]).exit_code == 0
    assert not cache.exists()
    for alone in ("--drop-cache", "--device-python=x"):
        assert CliRunner().invoke(main, ["doctor", alone]).exit_code == 2
    for wrong in (["--device", "pi"], ["--device", "ssh:-x"], ["--device", "command:"], ["--device-python", "x"]):
        assert CliRunner().invoke(main, ["bench", job["path"], *wrong]).exit_code == 2
    absent = CliRunner().invoke(main, ["bench", job["path"], *conditions, "--device", "command:/no/such/python"])
    assert absent.exit_code == 3 and "cannot be reached" in absent.output


@pytest.mark.skipif(shutil.which("ssh") is None, reason="there is no ssh")
def test_a_host_that_is_not_there():
    with Client(SshDevice(ssh="no-such-host.invalid")) as there, pytest.raises(StageError, match="must work first"):
        there.start()


def test_times_of_this_machine_are_never_called_disturbed(job: dict[str, Any]):
    with Client(timing_processes=1) as here:
        assert str(here.latency(call(job))[DISTURBED]) == ""
