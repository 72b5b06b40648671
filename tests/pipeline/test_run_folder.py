"""A run's folder belongs to one run at a time, and a partial run publishes nothing."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from conftest import WriteRecipe
from problems import refused
from rich.console import Console
from running import compress, share_store

from compressor.files import file_digest
from compressor.pipeline import regression, run_folder
from compressor.pipeline.locks import try_lock
from compressor.progress import Progress

TRAIN = {"epochs": 4, "batch_size": 16, "learning_rate": 3e-3, "max_sequence_length": 24}
STAGES = [
    {"stage": "finetune", **TRAIN, "gates": {"accuracy": {"min": 0.8}}},
    {"stage": "quantize"},
    {"stage": "export", "targets": ["onnx", "torchscript", "ort"]},
]


def test_a_second_run_waits_and_says_so(tmp_path: Path):
    shown = io.StringIO()
    claimed = threading.Event()

    def second() -> None:
        with Progress(Console(file=shown)) as progress, run_folder.claimed(tmp_path, progress):
            claimed.set()

    with Progress(Console(quiet=True)) as progress, run_folder.claimed(tmp_path, progress) as first:
        first.needs({"a", "b"})
        thread = threading.Thread(target=second)
        thread.start()
        while "Ctrl-C" not in shown.getvalue():
            assert thread.is_alive()
        assert not claimed.is_set() and str(os.getpid()) in shown.getvalue()
    thread.join()
    assert claimed.is_set()
    assert run_folder.needed_keys(tmp_path) == {"a", "b"}, "of a run that was not finished"


def test_a_finished_run_needs_its_own_keys_only(tmp_path: Path):
    with Progress(Console(quiet=True)) as progress:
        with run_folder.claimed(tmp_path, progress) as first:
            first.needs({"a", "b"})
        with run_folder.claimed(tmp_path, progress) as second:
            second.needs({"b", "c"})
            assert run_folder.needed_keys(tmp_path) == {"a", "b", "c"}
            second.finished({"b", "c"})
    assert run_folder.needed_keys(tmp_path) == {"b", "c"}
    (tmp_path / run_folder.LOCK).write_text("{cut of")
    assert run_folder.needed_keys(tmp_path) == set()


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_waits_can_be_stopped(write_recipe: WriteRecipe, tmp_path: Path, sent: signal.Signals):
    path = write_recipe()
    held = try_lock(tmp_path / "artifacts" / "tiny" / run_folder.LOCK)
    assert held is not None
    process = subprocess.Popen(
        [sys.executable, "-m", "compressor", "run", path.name],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "waiting" in line:
            break
    process.send_signal(sent)
    _, errors = process.communicate(timeout=60)
    held.release()
    assert process.returncode == 130 and "Traceback" not in errors


def test_a_partial_run_publishes_no_model_and_says_so(write_recipe: WriteRecipe, tmp_path: Path):
    share_store(tmp_path)
    path = write_recipe(stages=STAGES)
    folder = tmp_path / "artifacts" / "tiny"
    partial = ("run", path.name, "--until", "quantize")
    result = compress(*partial, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "Ship" not in result.stdout and "partial" in result.stdout
    assert not (folder / "model").exists()
    report = json.loads((folder / "report.json").read_text())
    assert (report["until"], report["not_run"], report["verdict"]) == ("quantize", ["export"], "pass")
    for name in ("report.md", "report.html", "junit.xml"):
        assert "after quantize (--until)" in (folder / name).read_text(), name
    assert compress("verify", folder, cwd=tmp_path).returncode == 1
    with refused("--baseline", "not_found"):
        regression.find(folder, tmp_path / "other")

    assert compress("run", path.name, "--until", "export", cwd=tmp_path).returncode == 0, "the last stage: all of it"
    report = json.loads((folder / "report.json").read_text())
    assert report["until"] is None and report["not_run"] == []
    published = file_digest(folder / "model" / "manifest.json")
    assert report["manifest_sha256"] == published
    assert compress("verify", folder, cwd=tmp_path).returncode == 0

    assert compress(*partial, cwd=tmp_path).returncode == 0
    assert file_digest(folder / "model" / "manifest.json") == published, "the model of the whole run stays"
    assert compress("verify", folder, cwd=tmp_path).returncode == 1, "the report is not the model's"
    assert compress("verify", folder / "model", cwd=tmp_path).returncode == 0
    with refused("--baseline", "not_found"):
        regression.find(folder, tmp_path / "other")
    assert regression.find(folder / "model", tmp_path / "other").digest == published

    failed = compress(*partial, "--set", "stages.finetune.gates={size_bytes: {max: 1}}", cwd=tmp_path)
    assert failed.returncode == 1 and "Ship" not in failed.stdout
    report = json.loads((folder / "report.json").read_text())
    assert report["not_run"] == ["quantize", "export"]
    assert not (folder / "model").exists(), "what failed is not left to be shipped"
