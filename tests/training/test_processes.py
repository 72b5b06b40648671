"""Several processes that train together train as one does, and go on together after all were killed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import train_in_processes
from running import compress_process
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


def test_processes_that_fail_alike_say_so_once(tmp_path: Path):
    result = compress_process("run", "missing.yaml", cwd=tmp_path, together=2)
    assert result.returncode != 0
    assert result.stderr.count("error: ") == 1 and "missing.yaml" in result.stderr
