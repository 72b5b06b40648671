"""The measuring process: `python -m compressor.measure.worker job.json`. Nothing runs in it but what is measured.

A job has a `kind`, one of the functions below, and its arguments. Progress goes to the standard output as `done total`
lines; the result is the .npz file that the job names.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compressor.measure.token_rows import INPUTS, TokenRows
from compressor.runtimes import RUNTIMES, Session
from compressor.tasks import NOTHING

Keep = Callable[[Mapping[str, NDArray[np.float32]], Mapping[str, NDArray[np.int64]]], NDArray[np.float32]]

_FILL = {"answers": -1.0, "compared": NOTHING}
"""What stands behind the last of a shorter row, by what is kept."""

_WARM_UP_CALLS = 10
_WARM_UP_S = 1.0
_PATIENCE = 2
"""Calls that are timed again, for each that is wanted; then they are taken as they come."""


def predict(job: dict[str, Any]) -> dict[str, NDArray[Any]]:
    """Answers to several sets of rows, in the rows' order, computed in the batches that each set lists.

    `task` and `keep` (`answers` or `compared`) name the function that says what is kept of the outputs. A set may say
    that `token_types` are `zeros`, or `omitted`, whatever the rows have.
    """
    from compressor import tasks

    keep: Keep = getattr(tasks.scoring(job["task"]), job["keep"])
    session = _session(job["runtime"], job["path"], 1 if job["workers"] > 1 else job["threads"])
    workers = job["workers"] if session.concurrent else 1
    total = sum(len(batch) for entry in job["sets"] for batch in entry["batches"])
    results, done = {}, 0
    with ThreadPoolExecutor(workers) as pool:
        for entry in job["sets"]:
            rows, batches = TokenRows.load(Path(entry["rows"])), entry["batches"]
            answer = partial(_answer, session, rows, keep, entry.get("token_types", "given"))
            answers: dict[int, NDArray[np.float32]] = {}
            for batch, kept in zip(batches, pool.map(answer, batches), strict=True):
                for index, row in zip(batch, kept, strict=True):
                    answers[index] = row
                done += len(batch)
                _tell(done, total)
            results[entry["name"]] = _stacked([answers[index] for index in sorted(answers)], _FILL[job["keep"]])
    return results


def _answer(session: Session, rows: TokenRows, keep: Keep, token_types: str, batch: list[int]) -> NDArray[np.float32]:
    inputs = rows.batch(batch)
    if token_types == "omitted":
        del inputs["token_type_ids"]
    elif token_types == "zeros":
        inputs["token_type_ids"][:] = 0
    return keep(session.predict({name: inputs[name] for name in INPUTS if name in inputs}), inputs)


def _stacked(rows: list[NDArray[np.float32]], fill: float) -> NDArray[np.float32]:
    """Arrays of one number of axes in one array, as long as the longest of each axis."""
    shape = np.max([row.shape for row in rows], axis=0) if rows[0].ndim else ()
    stacked = np.full((len(rows), *shape), fill, dtype=np.float32)
    for index, row in enumerate(rows):
        place: tuple[Any, ...] = (index, *(slice(size) for size in row.shape))
        stacked[place] = row
    return stacked


def latency(job: dict[str, Any]) -> dict[str, NDArray[Any]]:
    """Milliseconds per call of several files, timed in turn: in each round every file once, in alternating order.

    A file that goes by several names is timed once. A call during which the system gave a core to someone else is timed
    again: on a busy machine calls are either left alone or a time slice longer, whatever the model, and a median that
    falls between the two says nothing (`benchmarks/gate_fidelity.py`).
    """
    paths = {entry["name"]: entry["path"] for entry in job["files"]}
    runtimes = {entry["path"]: entry["runtime"] for entry in job["files"]}
    sessions = {path: _session(runtime, path, job["threads"]) for path, runtime in runtimes.items()}
    inputs = _full_batch(job)
    for session in sessions.values():
        start = time.perf_counter()
        for call in range(_WARM_UP_CALLS):
            session.predict(inputs)
            if call and time.perf_counter() - start > _WARM_UP_S:
                break
    samples: dict[str, list[float]] = {path: [] for path in sessions}
    patience = _PATIENCE * job["runs"] * len(sessions)
    for run in range(job["runs"]):
        for path in sessions if run % 2 == 0 else reversed(sessions):
            milliseconds, interrupted = _timed(sessions[path], inputs)
            while interrupted and patience:
                patience -= 1
                milliseconds, interrupted = _timed(sessions[path], inputs)
            samples[path].append(milliseconds)
        _tell(run + 1, job["runs"])
    return {name: np.array(samples[path]) for name, path in paths.items()}


def _timed(session: Session, inputs: Mapping[str, NDArray[np.int64]]) -> tuple[float, bool]:
    """Milliseconds of a call, and whether a thread of this process lost its core to another process meanwhile."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
    start = time.perf_counter()
    session.predict(inputs)
    seconds = time.perf_counter() - start
    return seconds * 1e3, resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw > before


def memory(job: dict[str, Any]) -> dict[str, NDArray[Any]]:
    """Peak resident memory of this process, in bytes, after it has loaded one file and run it a few times."""
    session = _session(job["runtime"], job["path"], job["threads"])
    inputs = _full_batch(job)
    for _ in range(3):
        session.predict(inputs)
    return {"peak_rss_bytes": np.array(_peak_rss_bytes())}


def _session(runtime: str, path: str, threads: int) -> Session:
    return RUNTIMES[runtime].session(Path(path), threads)


def _full_batch(job: dict[str, Any]) -> dict[str, NDArray[np.int64]]:
    """A batch without padding: the work of a call does not depend on which tokens they are."""
    shape = (job["batch_size"], job["sequence_length"])
    ids = np.random.default_rng(0).integers(1, job["vocab_size"], shape)
    return {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}


def _peak_rss_bytes() -> int:
    # On Linux ru_maxrss starts with the parent's peak, which has torch in it; VmHWM starts with this program.
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _tell(done: int, total: int) -> None:
    if done == total or done % max(1, total // 50) == 0:
        sys.stdout.write(f"{done} {total}\n")
        sys.stdout.flush()


def main() -> None:
    """Does the job in the file that the first argument names."""
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    result: dict[str, Any] = {"predict": predict, "latency": latency, "memory": memory}[job["kind"]](job)
    np.savez(job["output"], **result)


if __name__ == "__main__":
    main()
