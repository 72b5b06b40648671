"""Several processes that train together train as one does, and go on together after all were killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import end_in_processes
import numpy as np
import pytest
import torch
import train_in_processes
from conftest import recipe_writer
from train_in_processes import KILLED, STEPS, train_tags


def launch(part: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs a part in two processes, which save whenever a step is done."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += [str(train_in_processes.__file__), part, str(folder)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "COMPRESS_SAVE_EVERY_S": "0"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)


def close(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], tolerance: float) -> None:
    for name, weights in one.items():
        # A key's bias has no gradient (softmax does not see it), only rounding, which Adam blows up.
        if not name.endswith("key.bias"):
            assert torch.allclose(weights, other[name], atol=tolerance, rtol=0), name


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    """A launch that ended with a kill of every process, and what each had saved before that."""
    folder = tmp_path_factory.mktemp("together")
    result = launch("killed", folder)
    assert "SIGKILL" in result.stderr or "-9" in result.stderr, result.stderr
    return folder, [torch.load(folder / f"killed.{rank}.pt", weights_only=False) for rank in (0, 1)]


def test_processes_train_as_one_on_rows_with_unequal_numbers_of_labels(killed, tmp_path: Path):
    facts, weights = train_tags(tmp_path / "once", 8)
    together, theirs = killed[1][0]["tags"]
    assert together["steps"] == facts["steps"] == 8
    close(weights, theirs, 1e-5)
    close(theirs, killed[1][1]["tags"][1], 0)
    assert len(facts["loss"]) == 8
    for curve in (together["loss"], together["terms"]["hard"]):
        assert np.asarray(curve) == pytest.approx(np.asarray(facts["loss"]), abs=2e-5)


def test_accumulated_batches_count_by_their_labels(tmp_path: Path):
    (facts, once), (_, twice) = train_tags(tmp_path / "once", 8), train_tags(tmp_path / "twice", 2, 4)
    assert facts["steps"] == 8
    close(once, twice, 1e-5)


@pytest.fixture(scope="module")
def resumed(killed) -> tuple[subprocess.CompletedProcess[str], set[str]]:
    """The same training launched again, and then a failure of process 1; the random states that were there before."""
    folder, _ = killed
    states = {path.name for path in (folder / "killed").glob("checkpoint-*/rng_state_*")}
    return launch("resumed", folder), states


def test_all_processes_go_on_where_they_were_killed(killed, resumed):
    folder, before = killed
    result, states = resumed
    assert states == {"rng_state_0.pth", "rng_state_1.pth"}
    assert result.returncode == 0, result.stderr
    for rank in (0, 1):
        facts, weights = torch.load(folder / f"resumed.{rank}.pt", weights_only=False)["resumed"]
        assert (facts["steps"], facts["resumed_from_step"]) == (STEPS, KILLED)
        close(weights, before[0]["straight"][1], 1e-6)


def test_one_process_that_fails_ends_the_others_with_its_message(killed, resumed):
    folder, result = killed[0], resumed[0]
    assert [(folder / f"ended.{rank}").read_text() for rank in (0, 1)] == ["3", "3"]
    assert result.stderr.count("error: ") == 1
    assert "error: process 1 has nothing to read" in result.stderr


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> tuple[dict[str, list[tuple[int, str]]], Path]:
    """What became of the rest where one process of a run was killed, and the folder of the last run."""
    folder = tmp_path_factory.mktemp("ended")
    train = {"max_steps": 8, "batch_size": 16, "max_sequence_length": 24}
    recipe = recipe_writer(folder, encoder)(stages=[{"stage": "finetune", **train}])
    command = [sys.executable, str(end_in_processes.__file__), str(recipe), str(folder)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout), folder / "artifacts" / "tiny"


@pytest.mark.parametrize("case", [name for name in end_in_processes.CASES if not name.startswith("none")])
def test_where_one_process_is_killed_the_others_end_and_say_so(ended, case: str):
    for code, messages in ended[0][case]:
        assert code == 3, messages
        assert "Traceback" not in messages and "frame #" not in messages
    told = [line for _, messages in ended[0][case] for line in messages.splitlines() if line.startswith("error: ")]
    who = "the launcher" if case.startswith("launcher") else "one of the 2 processes"
    assert told and all(line.startswith(f"error: {who}") and "to resume" in line for line in told)
    assert len(told) <= len(ended[0][case])


def test_a_run_goes_on_after_one_of_its_processes_was_killed(ended):
    found, folder = ended
    assert [code for code, _ in found["none"]] == [0, 0], found["none"]
    finetune = json.loads((folder / "report.json").read_text(encoding="utf-8"))["stages"][-1]
    assert finetune["details"]["steps"] == 8 and finetune["details"]["resumed_from_step"] > 0


def test_processes_that_fail_alike_say_so_once(ended):
    codes, messages = zip(*ended[0]["none, of a recipe that is missing"], strict=True)
    assert codes == (2, 2)
    assert "".join(messages).count("error: ") == 1
