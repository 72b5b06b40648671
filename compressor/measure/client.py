"""Runs measuring jobs in processes of their own, so that nothing else runs in the process that is measured."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compressor.errors import StageError
from compressor.measure.spec import MeasureSpec
from compressor.progress import Step

Arrays = dict[str, NDArray[Any]]
"""The result of a job, by name; see the functions of `compressor.measure.worker`."""

PROCESSES = "processes"
"""Name of the numbers of rounds, beside the times of files."""
_LEAST_ROUNDS = 10
"""Rounds of timed calls that one more process is worth starting for."""
_SLICE_S = 1.0
_END_S = 10.0
"""Seconds in which a process ends that has closed its connection."""
_LOGGED_LINES = 20
_AT_ONCE = 2
"""Processes at once whose memory is taken: what one of them has does not depend on the other."""


class Client:
    """The measuring processes of one run; a context manager that ends them.

    Answers come from one process for each runtime, which serves all jobs of the run: they do not depend on what the
    process did before. Times come from several fresh processes, and peak memory from one fresh process each.

    Args:
        timing_processes: Processes that timed calls are spread over. The ratio of the times of two equal files differs
            by up to a percent from one process to the next, for as long as the processes live: more rounds in one
            process would only measure that process more precisely.
        memory_processes: Processes whose peak memory is taken.
        timeout_s: Seconds without a sign of progress after which a job is stopped.

    Attributes:
        timeout_s: The same, which a recipe sets.
    """

    def __init__(
        self, *, timing_processes: int = 4, memory_processes: int = 3, timeout_s: float = MeasureSpec().timeout_s
    ) -> None:
        self._timing_processes, self._memory_processes, self.timeout_s = timing_processes, memory_processes, timeout_s
        self._serving: dict[str, _Process] = {}

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Ends all processes."""
        while self._serving:
            self._serving.popitem()[1].close()

    def predict(self, job: Mapping[str, Any], step: Step | None = None) -> Arrays:
        """Answers of one file; see `compressor.measure.worker.predict`.

        Args:
            job: The job, without its `kind`.
            step: Progress, in rows.

        Raises:
            StageError: The file cannot be loaded or run, or the process died or hung.
        """
        return self.run({**job, "kind": "predict"}, step, fresh=False)

    def latency(self, job: Mapping[str, Any], step: Step | None = None) -> Arrays:
        """Milliseconds per call of several files, in rounds that are spread over fresh processes.

        Args:
            job: A job of `compressor.measure.worker.latency`, without its `kind`.
            step: Progress, in rounds.

        Returns:
            The times by the files' names, in the order measured; and the rounds of each process, as `PROCESSES`.

        Raises:
            StageError: A file cannot be loaded or run, or a process died or hung.
        """
        found: list[Arrays] = []
        done = 0
        for rounds in shares(job["runs"], self._timing_processes):
            found.append(self.run({**job, "kind": "latency", "runs": rounds}, fresh=True))
            done += rounds
            if step:
                step.update(done, job["runs"])
        joined = {name: np.concatenate([samples[name] for samples in found]) for name in found[0]}
        return {**joined, PROCESSES: np.array([len(next(iter(samples.values()))) for samples in found])}

    def peak_memory(
        self, job: Mapping[str, Any], step: Step | None = None, processes: int | None = None
    ) -> list[float]:
        """Peak resident bytes of each of a few fresh processes that load a file and run it, two at a time.

        Args:
            job: A job of `compressor.measure.worker.memory`, without its `kind`.
            step: Progress, in processes.
            processes: Number of processes; None for as many as the client was made with.

        Raises:
            StageError: The file cannot be loaded or run, or a process died or hung.
        """
        count = min(processes or self._memory_processes, self._memory_processes)
        found: list[float] = []
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for result in pool.map(lambda _: self.run({**job, "kind": "memory"}, fresh=True), range(count)):
                found.append(float(result["peak_rss_bytes"]))
                if step:
                    step.update(len(found), count)
        return found

    def run(self, job: Mapping[str, Any], step: Step | None = None, *, fresh: bool) -> Arrays:
        """Does one job. The only method that starts processes: tests replace it to do jobs in their own.

        Args:
            job: The job, with its `kind`.
            step: Progress, in the job's own units.
            fresh: Whether the job needs a process that has done nothing else.
        """
        if fresh:
            process = _Process()
            try:
                return process.do(job, step, self.timeout_s)
            finally:
                process.close()
        runtime: str = job["runtime"]
        process = self._serving.pop(runtime) if runtime in self._serving else _Process()
        result = process.do(job, step, self.timeout_s)
        self._serving[runtime] = process  # only after a job that went well: the others close their process
        return result


def shares(rounds: int, processes: int) -> list[int]:
    """Rounds of each process: even numbers but for the last, since the files take turns in which comes first."""
    count = max(1, min(processes, rounds // _LEAST_ROUNDS))
    share = rounds // count // 2 * 2
    return [share] * (count - 1) + [rounds - share * (count - 1)]


class _Process:
    """A process that runs `compressor.measure.worker` and does one job after the other."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="compress-")
        self._log = Path(self._folder.name) / "log"
        self._logged = 0
        self._sender: threading.Thread | None = None
        self._connection, theirs = multiprocessing.Pipe()
        path = os.pathsep.join(entry for entry in sys.path if entry)
        environment = {**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1"}
        with theirs, self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "compressor.measure.worker", str(theirs.fileno()), self._folder.name],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                pass_fds=[theirs.fileno()],
            )

    def do(self, job: Mapping[str, Any], step: Step | None, timeout_s: float) -> Arrays:
        """Does a job; a process whose job did not end well, or that was silent for so many seconds, is closed.

        Raises:
            StageError: The job failed, or the process died or hung.
        """
        output = Path(self._folder.name) / "result.npz"
        # A job with many rows does not fit into the pipe: a process that hangs before it reads would be waited for.
        self._sender = threading.Thread(target=self._send, args=({**job, "output": str(output)},), daemon=True)
        try:
            self._sender.start()
            while (message := self._receive(job, step, timeout_s))[0] == "progress":
                if step:
                    step.update(message[1], message[2])
            self._copy_log()
            if message[0] == "failed":
                raise StageError(f"{_named(job)} failed: {message[1]}")
            with np.load(output, allow_pickle=False) as arrays:
                return {name: arrays[name] for name in arrays.files}
        except (EOFError, OSError) as error:  # the other end of the pipe is closed
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_END_S)
            last = next((line for line in reversed(self._copy_log()) if line.strip()), "no output")
            code = self._process.returncode
            self.close()
            how = "closed its connection and hung" if code is None else f"ended with {code}"
            raise StageError(f"{_named(job)} {how}: {last}") from error
        except BaseException:
            self.close()
            raise

    def _send(self, job: Mapping[str, Any]) -> None:
        with contextlib.suppress(OSError):  # the process has ended, which is found when its answer is read
            self._connection.send(job)

    def _receive(self, job: Mapping[str, Any], step: Step | None, timeout_s: float) -> tuple[Any, ...]:
        """The next message. Waits in slices, so that a run that was suspended and goes on is not taken to hang."""
        waited = 0.0
        while not self._connection.poll(_SLICE_S):
            waited += _SLICE_S
            if waited >= timeout_s:
                raise StageError(
                    f"{_named(job)} hung: it reported nothing for {waited:.0f} s (measure.timeout_s), and was ended. "
                    "Run the command again to resume; if this happens more than once, raise measure.timeout_s, or "
                    "choose another measure.runtime or fewer threads"
                )
            if step:
                step.check_interrupted()
        message: tuple[Any, ...] = self._connection.recv()
        return message

    def _copy_log(self) -> list[str]:
        """Copies what the process printed since the last job to our log; the last lines of it."""
        with self._log.open("rb") as file:
            file.seek(self._logged)
            text = file.read()
        self._logged += len(text)
        lines = text.decode(errors="replace").splitlines()[-_LOGGED_LINES:]
        for line in lines:
            logging.getLogger("compressor.measure").info("%s", line)
        return lines

    def close(self) -> None:
        """Ends the process: it holds nothing that would be lost."""
        self._process.kill()
        self._process.wait()
        if self._sender is not None:
            self._sender.join()
        self._connection.close()
        self._folder.cleanup()


def _named(job: Mapping[str, Any]) -> str:
    """The process that does a job, with the files that it runs."""
    paths = dict.fromkeys([job["path"]] if "path" in job else [entry["path"] for entry in job.get("files", ())])
    return f"the measuring process ({job['kind']}) of {', '.join(map(str, paths))}"
