"""What stands in the way of a run's files is found before anything is built, and the full disk is the one that is."""

from __future__ import annotations

import errno
import os
import resource
from pathlib import Path

import pytest
from conftest import WriteRecipe
from problems import refused
from running import compress

import compressor
from compressor.errors import ExitCode, StageError
from compressor.pipeline import writable


@pytest.mark.parametrize(
    "in_the_way",
    [
        "artifacts",
        "artifacts/tiny",
        "artifacts/.store",
        "artifacts/.store/.locks",
        "artifacts/.store/.work",
        "artifacts/.store/.partial",
    ],
)
def test_a_file_in_the_way_of_a_folder(write_recipe: WriteRecipe, tmp_path: Path, in_the_way: str):
    path = write_recipe()
    (tmp_path / in_the_way).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / in_the_way).write_text("")
    result = compress("run", path.name, cwd=tmp_path)
    assert result.returncode == ExitCode.USAGE
    assert in_the_way in result.stderr and "--artifacts" in result.stderr and "Traceback" not in result.stderr
    assert (tmp_path / in_the_way).read_text() == ""
    with refused("--artifacts", "value"):
        compressor.run(path, artifacts=tmp_path / "artifacts")


@pytest.mark.parametrize(
    "name", ["run.log", "report.json", "report.md", "report.html", "junit.xml", "recipe.lock.yaml"]
)
def test_a_folder_in_the_way_of_a_file(write_recipe: WriteRecipe, tmp_path: Path, name: str):
    (tmp_path / "artifacts" / "tiny" / name).mkdir(parents=True)
    result = compress("run", write_recipe().name, cwd=tmp_path)
    assert result.returncode == ExitCode.USAGE and name in result.stderr


def test_a_folder_that_may_not_be_written(write_recipe: WriteRecipe, tmp_path: Path):
    """/proc refuses everyone, root too."""
    result = compress("run", write_recipe().name, "--artifacts", "/proc/artifacts", cwd=tmp_path)
    assert result.returncode == ExitCode.USAGE and "/proc/artifacts" in result.stderr
    result = compress("compare", write_recipe().name, "--artifacts", "/proc/artifacts", cwd=tmp_path)
    assert result.returncode == ExitCode.USAGE and "/proc/artifacts" in result.stderr
    assert compress("plan", write_recipe().name, "--artifacts", "/proc/artifacts", cwd=tmp_path).returncode == 0


@pytest.mark.parametrize("artifacts", ["x" * 5000, "train.tsv/artifacts", "a\0b"])
def test_artifacts_that_no_folder_can_be(tmp_path: Path, artifacts: str):
    (tmp_path / "train.tsv").write_text("")
    with refused("--artifacts", "value"):
        writable.check(tmp_path / artifacts, "tiny")


def test_a_name_that_is_too_long_for_a_folder(write_recipe: WriteRecipe, tmp_path: Path):
    result = compress("run", write_recipe(name="x" * 300).name, cwd=tmp_path)
    assert result.returncode == ExitCode.USAGE and "Traceback" not in result.stderr


def test_no_folder_for_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tempfile.tempdir", "/proc")
    with refused("TMPDIR", "value"):
        writable.check(tmp_path, "tiny")


def test_a_full_disk_is_the_one_that_is_full(
    write_recipe: WriteRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from compressor.data import splits

    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    for folder, advice in ((temporary, "TMPDIR"), (Path("artifacts"), "--artifacts")):
        for full in (
            OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder / "compress-1" / "a")),
            OSError(errno.EDQUOT, os.strerror(errno.EDQUOT), str(folder)),
        ):
            monkeypatch.setattr(splits, "prepare", _raising(full))
            result = compress("run", write_recipe().name, cwd=tmp_path)
            assert result.returncode == ExitCode.STAGE_FAILED
            assert f"{folder} is full" in result.stderr and advice in result.stderr
    monkeypatch.setattr(
        splits, "prepare", _raising(StageError("the measuring process failed: No space left on device"))
    )
    told = compress("run", write_recipe().name, cwd=tmp_path).stderr
    assert str(temporary) in told and "artifacts" in told, "which of two it was is not known, so both are shown"


def test_the_api_raises_its_own_errors_only(write_recipe: WriteRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from compressor.data import splits

    monkeypatch.setattr(splits, "prepare", _raising(KeyError("x\x1b")))
    with pytest.raises(StageError) as caught:
        compressor.run(write_recipe(), artifacts=tmp_path / "artifacts")
    assert isinstance(caught.value.__cause__, KeyError) and "\x1b" not in str(caught.value)


def _raising(error: Exception):
    def work(*_: object, **__: object) -> None:
        raise error

    return work


def test_a_file_that_cannot_be_finished_leaves_nothing_behind(write_recipe: WriteRecipe, tmp_path: Path):
    """A real limit of this process on the size of files: writing fails half-way, as on a full disk."""
    path = write_recipe(stages=[{"stage": "finetune", "max_steps": 2, "batch_size": 16, "max_sequence_length": 24}])
    artifacts = tmp_path / "artifacts"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        result = compress("run", path.name, cwd=tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert result.returncode == ExitCode.STAGE_FAILED, result.stdout + result.stderr
    assert "the disk is full" in result.stderr and str(artifacts.name) in result.stderr
    assert "cannot be loaded" not in result.stderr, "it is no fault of the checkpoint"
    assert not list((artifacts / ".store/.partial").iterdir())
    assert not (artifacts / "tiny/model").exists() and not (artifacts / "tiny/report.json").exists()
    assert compress("run", path.name, cwd=tmp_path).returncode == 0
