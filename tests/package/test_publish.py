"""Publishing: whole or not at all, whatever moment it is killed at."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from compressor.errors import StageError
from compressor.files import SealedFolder, file_digest, file_entries
from compressor.package import manifest, publish
from compressor.report import files, model

FORK = multiprocessing.get_context("fork")
CHANGES = ("ctypes.dlopen", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "shutil.copyfile")
"""Audit events of operations that change files; `ctypes.dlopen` comes before an exchange."""


@pytest.fixture
def run(published: Path, tmp_path: Path) -> Path:
    """A run's folder, and beside it a checkpoint of another run of its name."""
    shutil.copytree(published / "model", tmp_path / "checkpoint")
    for name in (manifest.NAME, "README.md"):
        (tmp_path / "checkpoint" / name).unlink()
    shutil.rmtree(tmp_path / "checkpoint" / "torchscript")
    folder = tmp_path / "run"
    folder.mkdir()
    publish_again(folder, "first", published)
    return folder


def publish_again(folder: Path, command: str, published: Path, **changes: object) -> None:
    report = replace(model.read(published), command=command, **changes)
    path = folder.parent / "checkpoint"
    checkpoint = SealedFolder(path, file_entries(path))
    publish.publish(report, checkpoint, folder, "onnxruntime", SealedFolder(path, {}), f"lock of {command}\n")


def killed_at(event: int, folder: Path, published: Path, exchange: bool) -> bool:
    """Publishes in a process that kills itself before one of its changes of files; whether it came so far."""

    def work() -> None:
        if not exchange:
            publish._exchange = lambda one, other: False
        left = event

        def hook(name: str, arguments: tuple) -> None:
            nonlocal left
            if name in CHANGES:
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                left -= 1

        sys.addaudithook(hook)
        publish_again(folder, "second", published)
        os._exit(0)

    process = FORK.Process(target=work)
    process.start()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode != 0


def whole(folder: Path) -> bool:
    """Whether `model/` is there with all that its manifest lists."""
    return folder.exists() and not manifest.check_files(folder, manifest.read(folder).files)


def told_apart(folder: Path) -> bool:
    """Whether report.json is not that of the model or of the lock, as `compress verify` finds."""
    report = model.read(folder)
    digests = (file_digest(folder / "model" / manifest.NAME), file_digest(folder / files.LOCK_FILE))
    return (report.manifest_sha256, report.lock_sha256) != digests


@pytest.mark.parametrize("exchange", [True, False])
def test_killed_at_any_operation_it_leaves_no_mix_unseen(run: Path, published: Path, exchange: bool):
    kept = run.with_name("kept")
    run.rename(kept)
    event, mixed, commands = 0, 0, set()
    while True:
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(kept, run)
        killed = killed_at(event, run, published, exchange)
        if exchange:
            assert whole(run / "model"), f"killed at operation {event}: the model is the old one or the new one"
        publish.recover(run)
        assert whole(run / "model"), event
        assert {path.name for path in run.iterdir()} == {path.name for path in kept.iterdir()}, "nothing is left over"
        report = model.read(run)
        commands.add(report.command)
        if told_apart(run):
            mixed += 1
            assert report.command == "first", "the report is the last to be written"
        else:
            lock = (run / files.LOCK_FILE).read_text()
            assert lock == f"lock of {report.command}\n"
            for name, form in files.FORMS.items():
                assert (run / name).read_text() == form(report, lock), (event, name)
        if not killed:
            break
        event += 1
    assert event > 20 and mixed and commands == {"first", "second"}


def test_what_failed_is_not_left_to_be_shipped(run: Path, published: Path):
    report = model.read(published)
    gates = [replace(gate, verdict="fail") for gate in report.stages[-1].gates]
    stages = [*report.stages[:-1], replace(report.stages[-1], verdict="fail", gates=gates)]
    publish_again(run, "failed", published, stages=stages)
    assert not (run / "model").exists() and model.read(run).manifest_sha256 is None
    assert not list(run.glob(".model*"))


def test_an_error_leaves_the_model_before(run: Path, published: Path):
    before = file_digest(run / "model" / manifest.NAME)
    checkpoint = run.parent / "checkpoint"
    other = SealedFolder(checkpoint, {**file_entries(checkpoint), "config.json": {"sha256": "", "size_bytes": 1}})
    with pytest.raises(StageError):
        publish.publish(replace(model.read(published), command="second"), other, run, "onnxruntime", other, "")
    assert whole(run / "model") and file_digest(run / "model" / manifest.NAME) == before
    assert model.read(run).command == "first" and not list(run.glob(".*"))


def test_a_model_that_was_put_aside_comes_back(run: Path):
    (run / "model").rename(run / ".model.old")
    (run / ".model.partial-1-2").mkdir()
    (run / f".report.json.{os.getpid()}.partial").touch()
    publish.recover(run)
    assert whole(run / "model")
    assert [path.name for path in run.glob(".*")] == [f".report.json.{os.getpid()}.partial"], "its writer is running"


def test_the_manifest_says_of_a_file_where_it_saturates(run: Path, published: Path):
    file = "onnx/model_quantized.onnx"
    clipped = {"processors": "x86 of old", "operators": {"MatMulInteger": 12}, "largest_weight": 127}
    for saturation, expected in ((clipped, {file: "x86 of old"}), ({}, {})):
        formats = [
            replace(form, saturation=saturation if form.path == file else None)
            for form in model.read(published).formats
        ]
        publish_again(run, "again", published, formats=formats)
        entries = manifest.read(run / "model").files
        assert {name: entry["saturates_on"] for name, entry in entries.items() if "saturates_on" in entry} == expected
        assert whole(run / "model")
