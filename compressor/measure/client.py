"""Runs measuring jobs in fresh processes."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import tempfile
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compressor.errors import StageError
from compressor.progress import Step

_PROCESSES, _LEAST_ROUNDS = 4, 50
"""Processes that calls are timed in, and rounds that one is worth starting for."""


def run(job: dict[str, Any], step: Step | None = None) -> dict[str, NDArray[Any]]:
    """Does a job of `compressor.measure.worker` in a process of its own.

    Args:
        job: The job; `output` is filled in.
        step: Progress, in the job's own units.

    Returns:
        The result's arrays.

    Raises:
        StageError: The process died.
    """
    with tempfile.TemporaryDirectory(prefix="compress-") as folder:
        output = Path(folder) / "result.npz"
        job_file = Path(folder) / "job.json"
        job_file.write_text(json.dumps({**job, "output": str(output)}), encoding="utf-8")
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        process = subprocess.Popen(
            [sys.executable, "-m", "compressor.measure.worker", str(job_file)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=environment,
        )
        tail: deque[str] = deque(maxlen=20)
        try:
            assert process.stdout is not None
            for line in process.stdout:
                words = line.split()
                if len(words) == 2 and all(word.isdigit() for word in words):
                    if step:
                        step.update(int(words[0]), int(words[1]))
                else:
                    tail.append(line.rstrip())
        finally:
            if process.poll() is None and sys.exc_info()[0] is not None:
                process.kill()
            process.wait()
        for line in tail:
            logging.getLogger("compressor.measure").info("%s", line)
        if process.returncode:
            last = next((line for line in reversed(tail) if line.strip()), "no output")
            raise StageError(f"the measuring process ({job['kind']}) ended with {process.returncode}: {last}")
        with np.load(output, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}


def timings(job: dict[str, Any], step: Step | None = None) -> dict[str, NDArray[Any]]:
    """Does a `latency` job, its rounds spread over several processes.

    The ratio of two equal files differs by up to a percent from one process to the next, for as long as they live: more
    rounds in one process would only tell more precisely what is true of that one.

    Args:
        job: The job, without its `kind`.
        step: Progress, in rounds.

    Returns:
        Milliseconds per call by the files' names, in the order measured.
    """
    found: list[dict[str, NDArray[Any]]] = []
    done = 0
    for rounds in _shares(job["runs"]):
        found.append(run({**job, "kind": "latency", "runs": rounds}))
        done += rounds
        if step:
            step.update(done, job["runs"])
    return {name: np.concatenate([samples[name] for samples in found]) for name in found[0]}


def _shares(rounds: int) -> list[int]:
    """Rounds of each process: even numbers but for the last, since the files take turns in which comes first."""
    count = max(1, min(_PROCESSES, rounds // _LEAST_ROUNDS))
    share = rounds // count // 2 * 2
    return [share] * (count - 1) + [rounds - share * (count - 1)]
