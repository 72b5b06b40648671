"""Two processes that train together for a while, with a training checkpoint every second; then kills and resumes.

`python benchmarks/processes.py --seconds 600` prints, of a model with random weights on CPUs (gloo):

1. a training of that many seconds in two processes: whether it ends well, and how many checkpoints it wrote;
2. a shorter one that is killed (SIGKILL, every process) again and again until it is done, beside the same one left
   alone: whether their weights are the same;
3. what the killed one had left, run again by one process, beside the same run from nothing: whether the one process
   went on from a checkpoint of two, and whether the weights are the same.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from conftest import recipe_writer, save_encoder

CALIBRATION_STEPS = 300


def start(folder: Path, artifacts: Path, steps: int, processes: int) -> subprocess.Popen[bytes]:
    """Starts a training of so many steps."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command = [sys.executable, *(torchrun if processes > 1 else []), "-m", "compressor", "run", "recipe.yaml"]
    command += ["--set", f"stages.finetune.max_steps={steps}", "--artifacts", str(artifacts), "--allow-inconclusive"]
    environment = {**os.environ, "COMPRESS_SAVE_EVERY_S": "1"}
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=sys.stderr)


def checkpoint(artifacts: Path) -> int:
    """The step of the training checkpoint that is there; 0 for none."""
    for path in (artifacts / ".store" / ".work").glob("*/last_checkpoint.json"):
        with contextlib.suppress(OSError, ValueError):  # deleted in this moment
            return int(json.loads(path.read_text())["step"])
    return 0


def watch(process: subprocess.Popen[bytes], artifacts: Path, seconds: float = float("inf")) -> set[int]:
    """Waits until a training ends, or for some seconds after its first checkpoint; the steps of its checkpoints."""
    before, until, steps = checkpoint(artifacts), float("inf"), set[int]()
    while process.poll() is None and time.monotonic() < until:
        if (step := checkpoint(artifacts)) not in (0, before, *steps):
            until = min(until, time.monotonic() + seconds)
            steps.add(step)
        time.sleep(0.05)
    return steps


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kills a process and all that it has started, at once."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    doomed = [process.pid]
    for pid in doomed:
        doomed += [child for child, parent in parents.items() if parent == pid]
    for pid in doomed:
        os.kill(pid, signal.SIGKILL)
    process.wait()


def finished(folder: Path, artifacts: Path, steps: int, processes: int) -> tuple[int, set[int]]:
    """Runs a training to its end; the exit code and the steps of its checkpoints."""
    process = start(folder, artifacts, steps, processes)
    seen = watch(process, artifacts)
    return process.wait(), seen


def facts(artifacts: Path) -> dict[str, Any]:
    """What the report says of the training."""
    report = json.loads((artifacts / "tiny" / "report.json").read_text())
    found: dict[str, Any] = report["stages"][-1]["details"]
    return found


def difference(one: Path, other: Path) -> float:
    """The largest difference between the weights that two runs ship."""
    ours, theirs = (load_file(artifacts / "tiny" / "model" / "model.safetensors") for artifacts in (one, other))
    assert ours.keys() == theirs.keys()
    return max(float(torch.max(torch.abs(ours[name] - theirs[name]))) for name in ours)


def main() -> None:
    """Prints the three parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600, help="of the first training")
    parser.add_argument("--killed-seconds", type=float, default=60, help="of the second, without its kills")
    parser.add_argument("--seed", type=int, default=0, help="of the moments of kills")
    given = parser.parse_args()
    moments = random.Random(given.seed)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        recipe_writer(folder, save_encoder(folder / "encoder"))(
            stages=[{"stage": "finetune", "batch_size": 16, "learning_rate": 1e-3, "max_sequence_length": 24}]
        )
        calibration = folder / "calibration"
        code, _ = finished(folder, calibration, CALIBRATION_STEPS, 2)
        rate = CALIBRATION_STEPS / facts(calibration)["training_seconds"]

        steps, whole = int(given.seconds * rate), folder / "whole"
        code, seen = finished(folder, whole, steps, 2)
        found = facts(whole)
        print(f"1. two processes, {found['steps']} of {steps} steps in {found['training_seconds']} s:", end=" ")
        print(f"exit code {code}, {len(seen)} checkpoints seen", flush=True)

        steps, alone, often = int(given.killed_seconds * rate), folder / "alone", folder / "often"
        code, _ = finished(folder, alone, steps, 2)
        print(f"2. {steps} steps, left alone: exit code {code}")
        reached, left = list[int](), folder / "left"
        while True:
            process = start(folder, often, steps, 2)
            watch(process, often, moments.uniform(0, 0.3) * given.killed_seconds)
            if process.poll() is not None:
                break
            kill(process)
            reached.append(checkpoint(often))
            if not left.exists():
                shutil.copytree(often, left)
        resumed = facts(often)["resumed_from_step"]
        print(f"   killed {len(reached)} times, with checkpoints of steps {reached};", end=" ")
        print(f"the last resumed from step {resumed}: exit code", end=" ")
        print(f"{process.returncode}, weights differ by {difference(alone, often):.3g}", flush=True)

        code, _ = finished(folder, left, steps, 1)
        resumed = facts(left)["resumed_from_step"]
        print(f"3. by one process, from what was left: exit code {code}, resumed from step {resumed},", end=" ")
        code, _ = finished(folder, folder / "one", steps, 1)
        print(f"weights differ from those of a run from nothing by {difference(left, folder / 'one'):.3g}")


if __name__ == "__main__":
    main()
