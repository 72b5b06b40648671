"""The measuring process: does jobs that `compressor.measure.client` sends through a pipe, one after the other.

A job has a `kind`, one of `JOBS`, and its arguments. The process sends `("progress", done, total)` while it works, then
`("done",)` when the result is in the .npz file that the job names, or `("failed", reason)`.
"""

from __future__ import annotations

import json
import resource
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compressor.errors import described
from compressor.measure.token_rows import INPUTS, TEXTS, TokenRows
from compressor.models.outputs import LOGITS
from compressor.runtimes import RUNTIMES, Inputs, Session

BatchOf = Callable[[list[int]], dict[str, NDArray[Any]]]
"""From indices of rows to a model's inputs and the tokens' labels."""
Keep = Callable[[Mapping[str, NDArray[np.float32]], Mapping[str, NDArray[np.int64]]], NDArray[np.float32]]
OnProgress = Callable[[int, int], None]
"""Reports progress: done, of how much."""

_WARM_UP_CALLS = 10
_WARM_UP_S = 1.0
_PATIENCE = 2
"""Interrupted calls that are timed again, for each timed call; later ones are kept as they are."""
_REPORT_S = 0.1
_SPECIAL_TOKENS = 2
"""Before and behind a text."""


def predict(job: Mapping[str, Any], report: OnProgress) -> dict[str, NDArray[Any]]:
    """Answers to several sets of rows, in the rows' order, computed in the batches that each set lists.

    `task` and `keep` (`answers` or `compared`) name the function that selects what is kept of the outputs. A set may
    ask for `token_types` that are `zeros`, or `omitted`, whatever the rows have, and for rows that are padded to the
    length `padded_to`. A set of `texts` instead of `rows` is for a file that holds its tokenizer. `offsets` are taken
    off the logits, see `compressor.models.thresholds`; left out or None for none.
    """
    from compressor.tasks import TASKS
    from compressor.tasks.base import ABSENT_LOGIT

    keep: Keep = getattr(TASKS[job["task"]], job["keep"])
    fill = {"answers": -1.0, "compared": ABSENT_LOGIT}[job["keep"]]
    session = _session(job["runtime"], job["path"], 1 if job["workers"] > 1 else job["threads"])
    workers = job["workers"] if session.concurrent else 1
    total = sum(len(batch) for entry in job["sets"] for batch in entry["batches"])
    results, done = {}, 0
    with ThreadPoolExecutor(workers) as pool:
        for entry in job["sets"]:
            inputs, batches = _inputs(entry), entry["batches"]
            answer = partial(_answer, session, inputs, keep, job.get("offsets"))
            answers: dict[int, NDArray[np.float32]] = {}
            for batch, kept in zip(batches, pool.map(answer, batches), strict=True):
                for index, row in zip(batch, kept, strict=True):
                    answers[index] = row
                done += len(batch)
                report(done, total)
            results[entry["name"]] = _stacked([answers[index] for index in sorted(answers)], fill)
    return results


def _inputs(entry: Mapping[str, Any]) -> BatchOf:
    """The inputs of a batch of a set of rows."""
    if "texts" in entry:
        texts = json.loads(Path(entry["texts"]).read_text(encoding="utf-8"))
        return lambda batch: {
            name: np.array(column, dtype=object)
            for name, column in zip(TEXTS, zip(*(texts[index] for index in batch), strict=True), strict=False)
        }
    rows, token_types = TokenRows.load(Path(entry["rows"])), entry.get("token_types", "given")

    def batch_of(batch: list[int]) -> dict[str, NDArray[Any]]:
        inputs = rows.batch(batch, entry.get("padded_to", 0))
        if token_types == "omitted":
            del inputs["token_type_ids"]
        elif token_types == "zeros":
            inputs["token_type_ids"][:] = 0
        return inputs

    return batch_of


def _answer(
    session: Session, batch_of: BatchOf, keep: Keep, offsets: list[float] | None, batch: list[int]
) -> NDArray[np.float32]:
    inputs = batch_of(batch)
    outputs = session.predict({name: inputs[name] for name in (*INPUTS, *TEXTS) if name in inputs})
    if offsets is not None:
        outputs = {**outputs, LOGITS: outputs[LOGITS] - np.asarray(offsets, dtype=np.float32)}
    return keep(outputs, inputs)


def _stacked(rows: list[NDArray[np.float32]], fill: float) -> NDArray[np.float32]:
    """Arrays of one number of axes in one array, as long as the longest of each axis."""
    shape = np.max([row.shape for row in rows], axis=0) if rows[0].ndim else ()
    stacked = np.full((len(rows), *shape), fill, dtype=np.float32)
    for index, row in enumerate(rows):
        place: tuple[Any, ...] = (index, *(slice(size) for size in row.shape))
        stacked[place] = row
    return stacked


def latency(job: Mapping[str, Any], report: OnProgress) -> dict[str, NDArray[Any]]:
    """Milliseconds per call of several files, timed in turn: in each round every file once, in alternating order.

    A file with several names is timed once. A call during which the system gave a core to another process is timed
    again: on a busy machine a call is either undisturbed or a time slice longer, whatever the model, and a median that
    falls between the two describes neither (`benchmarks/gate_fidelity.py`).
    """
    paths = {entry["name"]: entry["path"] for entry in job["files"]}
    runtimes = {entry["path"]: entry["runtime"] for entry in job["files"]}
    sessions = {path: _session(runtime, path, job["threads"]) for path, runtime in runtimes.items()}
    inputs = {entry["path"]: _full_batch({**job, **entry}, entry["runtime"]) for entry in job["files"]}
    for path, session in sessions.items():
        start = time.perf_counter()
        for call in range(_WARM_UP_CALLS):
            session.predict(inputs[path])
            if call and time.perf_counter() - start > _WARM_UP_S:
                break
    samples: dict[str, list[float]] = {path: [] for path in sessions}
    patience = _PATIENCE * job["runs"] * len(sessions)
    for run in range(job["runs"]):
        for path in sessions if run % 2 == 0 else reversed(sessions):
            milliseconds, interrupted = _timed(sessions[path], inputs[path])
            while interrupted and patience:
                patience -= 1
                milliseconds, interrupted = _timed(sessions[path], inputs[path])
            samples[path].append(milliseconds)
        report(run + 1, job["runs"])
    return {name: np.array(samples[path]) for name, path in paths.items()}


def _timed(session: Session, inputs: Inputs) -> tuple[float, bool]:
    """Milliseconds of a call, and whether a thread of this process lost its core during it."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
    start = time.perf_counter()
    session.predict(inputs)
    seconds = time.perf_counter() - start
    return seconds * 1e3, resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw > before


def memory(job: Mapping[str, Any], report: OnProgress) -> dict[str, NDArray[Any]]:
    """Peak resident memory of this process, in bytes, after it has loaded one file and run it a few times."""
    session = _session(job["runtime"], job["path"], job["threads"])
    inputs = _full_batch(job, job["runtime"])
    for _ in range(3):
        session.predict(inputs)
    return {"peak_rss_bytes": np.array(_peak_rss_bytes())}


def _session(runtime: str, path: str, threads: int) -> Session:
    return RUNTIMES[runtime].session(Path(path), threads)


def _full_batch(job: Mapping[str, Any], runtime: str) -> Inputs:
    """A batch without padding: the work of a call does not depend on which tokens they are."""
    shape = (job["batch_size"], job["sequence_length"])
    if RUNTIMES[runtime].takes_texts:
        # Each full stop is a token. Of pairs, the second text is empty, and another token ends it.
        text = ". " * max(1, job["sequence_length"] - _SPECIAL_TOKENS)
        return {"text": np.array([text] * shape[0], dtype=object), "text_pair": np.array([""] * shape[0], dtype=object)}
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


JOBS = {"predict": predict, "latency": latency, "memory": memory}
"""The function that does a job, by the job's `kind`."""


def serve(connection: Connection) -> None:
    """Does jobs until the other end of the connection is closed."""
    last = 0.0

    def report(done: int, total: int) -> None:
        nonlocal last
        if done == total or time.monotonic() - last >= _REPORT_S:
            last = time.monotonic()
            connection.send(("progress", done, total))

    while True:
        try:
            job = connection.recv()
        except EOFError:
            return
        try:
            np.savez(job["output"], **JOBS[job["kind"]](job, report))  # type: ignore[arg-type]  # kwds: Any in numpy's own
            message: tuple[str, ...] = ("done",)
        except Exception as error:
            traceback.print_exc()
            message = ("failed", described(error))
        sys.stdout.flush()
        sys.stderr.flush()
        connection.send(message)


def main() -> None:
    """Serves the connection whose file descriptor is the first argument; the second is the client's folder for us.

    The client ends this process, unless it was killed: then nobody else deletes its folder.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the client ends this process
    try:
        serve(Connection(int(sys.argv[1])))
    finally:
        shutil.rmtree(sys.argv[2], ignore_errors=True)


if __name__ == "__main__":
    main()
