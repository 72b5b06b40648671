"""Runs measuring jobs in processes of their own, so that nothing else runs in the process that is measured."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compressor.device.worker import Arrays
from compressor.errors import StageError
from compressor.measure import asking, device_facts
from compressor.measure.disturbance import disturbed
from compressor.measure.link import Link
from compressor.measure.spec import Device, MeasureSpec
from compressor.measure.transport import transport
from compressor.measure.worker_process import WorkerProcess
from compressor.progress import Step
from compressor.runtimes import RUNTIMES

PROCESSES = "processes"
"""Name of the numbers of rounds, beside the times of files."""
DISTURBED = "disturbed"
"""Name of what disturbed the times, beside them: a text, empty for nothing."""
_LEAST_ROUNDS = 10
"""Rounds of timed calls that one more process is worth starting for."""
_AT_ONCE = 2
"""Processes at once whose memory is taken: what one of them has does not depend on the other."""
_LIBRARIES = {"onnxruntime": "onnxruntime", "ort": "onnxruntime", "torchscript": "torch", "executorch": "executorch"}
"""What a device needs for the files of a runtime."""


class Client:
    """The measuring processes of one run; a context manager that ends them.

    Answers come from one process for each runtime, which serves all jobs of the run: they do not depend on what the
    process did before. Times come from several fresh processes, and peak memory from one fresh process each.

    Args:
        device: Where the processes run.
        name: What messages call the device.
        timing_processes: Processes that timed calls are spread over. The ratio of the times of two equal files differs
            by up to a percent from one process to the next, for as long as the processes live: more rounds in one
            process would only measure that process more precisely.
        memory_processes: Processes whose peak memory is taken.
        timeout_s: Seconds without a sign of progress after which a job is stopped.

    Attributes:
        device: The same, which a recipe sets.
        name: The same.
        timeout_s: The same, which a recipe sets.
    """

    def __init__(
        self,
        device: Device = "local",
        name: str = "the device",
        *,
        timing_processes: int = 4,
        memory_processes: int = 3,
        timeout_s: float = MeasureSpec().timeout_s,
    ) -> None:
        self.device, self.name = device, name
        self._timing_processes, self._memory_processes, self.timeout_s = timing_processes, memory_processes, timeout_s
        self._serving: dict[str, Link] = {}
        self._others: dict[Device, Client] = {}

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Ends all processes."""
        while self._serving:
            self._serving.popitem()[1].close()
        while self._others:
            self._others.popitem()[1].close()

    def follow(self, spec: MeasureSpec) -> None:
        """Measures where, and waits as long as, a recipe says."""
        self.device, self.timeout_s = spec.device, spec.timeout_s

    def on(self, device: Device, name: str = "the device") -> Client:
        """A client of another device, which ends with this one."""
        if device == self.device:
            return self
        if device not in self._others:
            counts = {"timing_processes": self._timing_processes, "memory_processes": self._memory_processes}
            self._others[device] = type(self)(device, name, timeout_s=self.timeout_s, **counts)
        return self._others[device]

    @property
    def local(self) -> Client:
        """The client of this machine: for formats that are compared with each other, not measured on a device."""
        return self.on("local")

    @property
    def cores(self) -> int:
        """Cores of the device."""
        return device_facts.cores(self.device, self.name)

    def runs(self, runtime: str) -> bool:
        """Whether the device has what runs a runtime's files."""
        if self.device == "local":
            return RUNTIMES[runtime].runs_here
        library = _LIBRARIES.get(runtime)
        return library is not None and library in device_facts.of(self.device, self.name)["versions"]

    def check(self, runtime: str) -> None:
        """Checks that files of a runtime can be measured, before anything is made for it.

        Raises:
            StageError: They cannot.
        """
        if self.device == "local":
            if missing := RUNTIMES[runtime].missing():
                raise StageError(f"{runtime} needs {', '.join(missing)}, not installed: {RUNTIMES[runtime].install}")
        elif not self.runs(runtime):
            needed = _LIBRARIES.get(runtime)
            hint = f"install {needed} there" if needed else "choose another runtime, or measure on this machine"
            raise StageError(f"{transport(self.device, self.name).name} cannot run files of {runtime}; {hint}")

    def predict(self, job: Mapping[str, Any], step: Step | None = None) -> Arrays:
        """Answers of one file; see `compressor.measure.asking.predict`.

        Args:
            job: The job; `runtime`, `path` and `threads` of the file, and `workers` that ask it at once.
            step: Progress, in rows.

        Raises:
            StageError: The file cannot be loaded or run, or the process died or hung.
        """
        what, runtime = _named("predict", [job["path"]]), job["runtime"]
        self.check(runtime)
        link = self._serving.pop(runtime, None) or self.start()
        try:
            workers = job.get("workers", 1)
            fields = {
                **link.place(Path(job["path"]), self.timeout_s, step),
                **{"runtime": runtime, "threads": 1 if workers > 1 else job["threads"], "workers": workers},
                "outputs": asking.outputs_of(job),
            }

            def ask(batches: Iterator[Arrays]) -> Generator[Arrays, None, None]:
                return link.answers(what, fields, batches, self.timeout_s, step)

            result = asking.predict(job, ask, step.update if step else lambda done, total: None)
        except (KeyError, IndexError, ValueError) as error:
            link.close()
            if self.device == "local":
                raise
            raise StageError(f"{what}: {link.end.name} answered with something else than was asked for") from error
        except BaseException:
            link.close()
            raise
        self._serving[runtime] = link  # only after a job that went well
        return result

    def latency(self, job: Mapping[str, Any], step: Step | None = None) -> Arrays:
        """Milliseconds per call of several files, in rounds that are spread over fresh processes.

        A file with several names is timed once.

        Args:
            job: `files`, each with a `name`, a `path` and a `runtime`; `threads`, `runs`, and the batch, see
                `asking.full_batch`, which a file can have its own of.
            step: Progress, in rounds.

        Returns:
            The times by the files' names, in the order measured; the rounds of each process, as `PROCESSES`; and on a
            device what disturbed them, as `DISTURBED`.

        Raises:
            StageError: A file cannot be loaded or run, or a process died or hung.
        """
        what = _named("latency", [entry["path"] for entry in job["files"]])
        for runtime in {entry["runtime"] for entry in job["files"]}:
            self.check(runtime)
        files = {entry["path"]: entry for entry in job["files"]}
        arrays = {
            f"{index}/{name}": array
            for index, entry in enumerate(files.values())
            for name, array in asking.full_batch({**job, **entry}, entry["runtime"]).items()
        }
        samples: dict[str, list[NDArray[np.float64]]] = {path: [] for path in files}
        reasons: list[str] = []
        done = 0
        for rounds in shares(job["runs"], self._timing_processes):
            with self._fresh() as link:
                placed = [
                    {**link.place(Path(path), self.timeout_s, step), "runtime": entry["runtime"]}
                    for path, entry in files.items()
                ]
                fields = {"files": placed, "threads": job["threads"], "runs": rounds}
                header, given = link.do(what, "latency", fields, self.timeout_s, arrays)
            times = [given.get(str(index), np.empty(0)) for index in range(len(files))]
            if any(each.shape != (rounds,) or each.dtype != np.float64 for each in times):
                raise StageError(f"{what} answered with other times than {rounds} of each file")
            for path, each in zip(files, times, strict=True):
                samples[path].append(each)
            if self.device != "local":
                reasons += disturbed(header, times)
            done += rounds
            if step:
                step.update(done, job["runs"])
        joined: Arrays = {entry["name"]: np.concatenate(samples[entry["path"]]) for entry in job["files"]}
        counts = [len(found) for found in next(iter(samples.values()))]
        return {**joined, PROCESSES: np.array(counts), DISTURBED: np.array("; ".join(dict.fromkeys(reasons)))}

    def peak_memory(
        self, job: Mapping[str, Any], step: Step | None = None, processes: int | None = None
    ) -> list[float]:
        """Peak resident bytes of each of a few fresh processes that load a file and run it, two at a time.

        Args:
            job: The file's `path`, `runtime` and `threads`, and the batch, see `asking.full_batch`.
            step: Progress, in processes.
            processes: Number of processes; None for as many as the client was made with.

        Raises:
            StageError: The file cannot be loaded or run, or a process died or hung.
        """
        count = min(processes or self._memory_processes, self._memory_processes)
        found: list[float] = []
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for peak in pool.map(lambda _: self._peak(job), range(count)):
                found.append(peak)
                if step:
                    step.update(len(found), count)
        return found

    def _peak(self, job: Mapping[str, Any]) -> float:
        with self._fresh() as link:
            fields = {
                **link.place(Path(job["path"]), self.timeout_s),
                **{"runtime": job["runtime"], "threads": job["threads"]},
            }
            arrays = dict(asking.full_batch(job, job["runtime"]))
            header, _ = link.do(_named("memory", [job["path"]]), "memory", fields, self.timeout_s, arrays)
            if not isinstance(peak := header.get("peak_rss_bytes"), int):
                raise StageError(f"{link.end.name} does not say how much memory a process took")
            return float(peak)

    def start(self) -> Link:
        """Starts a worker. The only method that starts processes: tests replace it to have it in their own.

        Raises:
            StageError: It does not start.
        """
        return WorkerProcess(transport(self.device, self.name)).link

    @contextmanager
    def _fresh(self) -> Iterator[Link]:
        """A worker that has done nothing else."""
        link = self.start()
        try:
            yield link
        finally:
            link.close()


def shares(rounds: int, processes: int) -> list[int]:
    """Rounds of each process: even numbers but for the last, since the files take turns in which comes first."""
    count = max(1, min(processes, rounds // _LEAST_ROUNDS))
    share = rounds // count // 2 * 2
    return [share] * (count - 1) + [rounds - share * (count - 1)]


def _named(kind: str, paths: Iterable[str]) -> str:
    """A job, with the files that it runs."""
    return f"the measuring process ({kind}) of {', '.join(dict.fromkeys(paths))}"
