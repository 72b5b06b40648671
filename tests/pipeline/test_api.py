"""The Python API, in this process: the same results as the commands, and no trace left in the caller's process."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import WriteRecipe

import compressor
from compressor.errors import RecipeError

TRAIN = {"epochs": 4, "batch_size": 16, "learning_rate": 3e-3, "max_sequence_length": 24}
STAGES = [
    {"stage": "finetune", **TRAIN, "gates": {"accuracy": {"min": 0.8}}},
    {"stage": "export", "targets": ["onnx"]},
]


def test_the_names_are_there_and_cost_nothing_until_they_are_used():
    code = "import sys, compressor; print([n for n in ('numpy', 'pydantic') if n in sys.modules], dir(compressor))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.startswith("[] ") and all(f"'{name}'" in shown for name in compressor.__all__)
    assert all(callable(getattr(compressor, name)) for name in ("compare", "plan", "run", "validate", "verify"))
    with pytest.raises(AttributeError, match="compess"):
        compressor.compess  # noqa: B018  # the access is what is tested


def test_a_recipe_is_run_verified_and_compared(write_recipe: WriteRecipe, tmp_path: Path, capfd: pytest.CaptureFixture):
    path, artifacts = write_recipe(stages=STAGES), tmp_path / "artifacts"
    assert compressor.validate(path).stage_names() == ["finetune", "export"]
    planned = compressor.plan(path, artifacts=artifacts)
    assert planned.downloaded and [stage.state for stage in planned.stages] == ["run", "run"]
    assert not artifacts.exists()

    environment, handlers = dict(os.environ), [signal.getsignal(sent) for sent in (signal.SIGINT, signal.SIGTERM)]
    capfd.readouterr()
    report = compressor.run(path, artifacts=artifacts, overrides=["seed=1"])
    assert "tiny" not in capfd.readouterr().out, "nothing of ours is printed"
    assert os.environ == environment
    assert handlers == [signal.getsignal(sent) for sent in (signal.SIGINT, signal.SIGTERM)]
    assert report.verdict == "pass" and [stage.name for stage in report.stages] == ["baseline", "finetune", "export"]

    states = [stage.state for stage in compressor.plan(path, artifacts=artifacts, overrides=["seed=1"]).stages]
    assert states == ["cached", "cached"]
    before = shutil.copytree(artifacts / "tiny", tmp_path / "before")
    again = compressor.run(str(path), artifacts=str(artifacts), overrides=["seed=1"], baseline=before)
    assert [(stage.name, stage.from_cache) for stage in again.built] == [("finetune", True), ("export", True)]
    assert again.stages[-1].name == "regression" and again.verdict == "pass"
    verification = compressor.verify(artifacts / "tiny")
    assert verification.verdict == "pass" and verification.checks
    (group,) = compressor.compare([artifacts / "tiny"], every_stage=True)
    assert [entry.stage for entry in group.entries] == ["baseline", "export"]


def test_mistakes_are_exceptions_that_list_every_problem(write_recipe: WriteRecipe, tmp_path: Path):
    path = write_recipe(stages=STAGES)
    with pytest.raises(RecipeError) as caught:
        compressor.validate(path, ["seed=x", "stages.finetune.epohcs=1"])
    assert {problem.where for problem in caught.value.problems} == {"seed", "stages[0] (finetune)"}
    with pytest.raises(RecipeError) as caught:
        compressor.run(path, artifacts=tmp_path / "a", until="distill")
    assert [(problem.where, problem.kind) for problem in caught.value.problems] == [("--until", "unknown")]
    with pytest.raises(RecipeError):
        compressor.verify(tmp_path)
