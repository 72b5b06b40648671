"""Runs that are cut short or shared: several processes, kills, signals, a loss that is not finite."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import WriteRecipe
from running import compress, compress_process, report_of, stage_of


def test_several_processes_train_together(write_recipe: WriteRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COMPRESS_SAVE_EVERY_S", "0.2")
    path = write_recipe()
    result = compress_process("run", path.name, "--until", "distill", cwd=tmp_path, together=2)
    assert result.returncode == 0, result.stdout + result.stderr
    report = report_of(tmp_path)
    for name in ("finetune", "distill"):
        assert stage_of(report, name)["details"]["steps"] == 4 * math.ceil(400 / (2 * 16)), (
            "two processes, twice the batch"
        )
    assert result.stdout.count("All gates pass") == 1, "one of them speaks"
    again = compress_process("run", path.name, "--until", "finetune", "--fresh", cwd=tmp_path, together=2)
    assert again.returncode == 0, again.stdout + again.stderr
    assert not stage_of(report_of(tmp_path), "finetune")["from_cache"], "all of them forget, and train again"
    plan = compress("plan", path.name, cwd=tmp_path).stdout.splitlines()
    assert "run" in plan[0] and "processes of training changed from 2 to 1" in plan[0]


def test_killed_in_training_goes_on_from_the_last_checkpoint(write_recipe: WriteRecipe, tmp_path: Path):
    path = write_recipe()
    # Long enough to be killed in the middle, with a training checkpoint behind it, here made every half second.
    longer = ("--set", "stages.finetune.max_steps=500", "--until", "finetune")
    command = [sys.executable, "-m", "compressor", "run", path.name, *longer]
    often = {**os.environ, "COMPRESS_SAVE_EVERY_S": "0.5"}
    process = subprocess.Popen(command, cwd=tmp_path, env=often, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    store = tmp_path / "artifacts" / ".store"
    deadline = time.monotonic() + 120
    while not any(store.glob(".work/*/last_checkpoint.json")):
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert "resume" in compress("plan", path.name, *longer[:2], cwd=tmp_path).stdout.splitlines()[0]

    result = compress("run", path.name, *longer, cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    details = stage_of(report_of(tmp_path), "finetune")["details"]
    assert details["steps"] == 500
    assert details["resumed_from_step"] > 0
    assert not list(store.glob(".work/*/*")), "the training checkpoints are gone once the stage is done"


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_says_so_and_leaves_nothing_half_written(write_recipe: WriteRecipe, tmp_path: Path, sent: int):
    path = write_recipe()
    command = [sys.executable, "-m", "compressor", "run", path.name, "--set", "stages.0.max_steps=100000"]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell starts what runs in its background with Ctrl-C ignored; this is to be as in the foreground.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    log = tmp_path / "artifacts" / "tiny" / "run.log"
    while not log.exists() or "finetune: training" not in log.read_text():
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(sent)
    try:
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "run the same command again" in errors
    assert "Traceback" not in errors
    assert not (tmp_path / "artifacts" / "tiny" / "model").exists()
    assert not list((tmp_path / "artifacts" / ".store" / ".partial").glob("*"))


def test_a_loss_that_is_not_finite_stops_the_stage(write_recipe: WriteRecipe, tmp_path: Path):
    path = write_recipe()
    result = compress("run", path.name, "--set", "stages.0.learning_rate=1e30", cwd=tmp_path)
    assert result.returncode == 3
    assert "the loss is" in result.stderr and "lower learning_rate" in result.stderr
    assert "Traceback" not in result.stdout + result.stderr
    assert compress("run", path.name, "--until", "finetune", cwd=tmp_path).returncode == 0, "a failure is not stored"
