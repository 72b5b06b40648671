"""Messages and exit codes, without training anything."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from conftest import WriteRecipe

from compressor.commands import main
from compressor.errors import ExitCode


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main.main, [str(argument) for argument in arguments])


@pytest.mark.parametrize("command", list(main.main.commands))
def test_every_command_explains_itself_with_an_example(command: str):
    result = invoke(command, "--help")
    assert result.exit_code == 0
    assert "Example:" in result.output and f"compress {command}" in result.output


def test_exit_codes_are_in_the_help():
    for arguments in (("--help",), ("run", "--help")):
        text = invoke(*arguments).output
        assert all(f"  {int(code)} " in text for code in ExitCode), text


def test_a_typo_in_a_stage_exits_2_and_names_the_key(write_recipe: WriteRecipe):
    for command in ("run", "validate", "plan"):
        result = invoke(command, write_recipe(), "--set", "stages.distill.temprature=3")
        assert result.exit_code == 2
        assert "stages[1] (distill)" in result.output and "temperature" in result.output


def test_wrong_command_lines_exit_2(write_recipe: WriteRecipe, tmp_path: Path):
    assert invoke("run").exit_code == 2
    assert invoke("run", tmp_path / "none.yaml").exit_code == 2
    result = invoke("run", write_recipe(), "--until", "destill")
    assert result.exit_code == 2 and "finetune, distill, quantize, export" in result.output


def test_validate_says_what_will_run(write_recipe: WriteRecipe):
    result = invoke("validate", write_recipe())
    assert result.exit_code == 0
    assert "4 stages: finetune → distill → quantize → export" in result.output


def test_plan_runs_nothing(write_recipe: WriteRecipe, tmp_path: Path):
    result = invoke("plan", write_recipe(), "--artifacts", tmp_path / "artifacts")
    assert result.exit_code == 0
    assert [line.split()[1] for line in result.output.splitlines()] == ["run"] * 4
    assert not (tmp_path / "artifacts").exists()


def test_plan_of_a_hub_recipe_needs_no_network(write_recipe: WriteRecipe, tmp_path: Path):
    result = invoke("plan", write_recipe(), "--set", "model=some/model", "--artifacts", tmp_path / "artifacts")
    assert result.exit_code == 0
    assert "model some/model: not downloaded yet" in result.output


def test_a_full_disk_is_reported_before_anything_runs(write_recipe: WriteRecipe, tmp_path: Path, monkeypatch):
    import shutil

    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: type(usage)(usage.total, usage.total, 1000))
    result = invoke("run", write_recipe(), "--artifacts", tmp_path / "artifacts")
    assert result.exit_code == 3
    assert "--artifacts" in result.output


def test_a_disk_that_fills_up_is_reported_in_one_line(write_recipe: WriteRecipe, tmp_path: Path, monkeypatch):
    import errno

    from compressor.data import splits

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(splits, "prepare", full)
    result = invoke("run", write_recipe(), "--artifacts", tmp_path / "artifacts")
    assert result.exit_code == 3
    assert "the disk is full" in result.output and "Traceback" not in result.output
    assert "OSError" in (tmp_path / "artifacts" / "tiny" / "run.log").read_text(), "the traceback is in the log"


def test_data_that_cannot_be_learned_is_a_wrong_recipe(write_recipe: WriteRecipe, tmp_path: Path):
    path = write_recipe()
    (tmp_path / "train.tsv").write_text("sentence\tlabel\n" + "a\tx\n" * 5 + "b\ty\n")
    result = invoke("run", path, "--artifacts", tmp_path / "artifacts")
    assert result.exit_code == 2
    assert "data.label" in result.output
