"""Serves a job until it is over, and writes what devices hand back into the run's report."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from compressor.errors import Problem, RecipeError, StageError
from compressor.gates.judge import overall
from compressor.package import verify_device
from compressor.package.manifest import Check
from compressor.pipeline import lock
from compressor.pipeline.locks import try_lock
from compressor.pipeline.run_folder import LOCK
from compressor.report import devices
from compressor.report import model as reports
from compressor.report.files import LOCK_FILE
from compressor.serve import result
from compressor.serve.job import Job
from compressor.serve.server import Server

Tell = Callable[[list[Check]], None]
"""Hears the checks of each result that was taken."""


class Desk:
    """Takes results, one after the other.

    Args:
        job: What devices are asked.
        device: The name that devices have to have; None for any.
        tell: Hears the checks of each result.
    """

    def __init__(self, job: Job, device: str | None, tell: Tell) -> None:
        self._job, self._device, self._tell = job, device, tell
        self._one_by_one = threading.Lock()

    def take(self, body: bytes) -> Mapping[str, Any]:
        """Writes a result into report.json and its forms.

        Args:
            body: The result, in JSON.

        Returns:
            What the page shows.

        Raises:
            RefusedResult: It is not an answer to what was asked.
            StageError: The run's folder is in use, or was run again.
        """
        with self._one_by_one:
            found = result.measured(self._job, body)
            if self._device not in (None, found.name):
                raise result.RefusedResult(f"device: is {found.name!r}, and --device says {self._device!r}")
            checks = verify_device.checks(found.name, found.device, self._job.model, self._job.manifest)
            self._write(found)
            self._tell(checks)
        return {
            "device": found.name,
            "verdict": overall([check.verdict for check in checks]),
            "checks": [asdict(check) for check in checks],
            "files": asdict(found.device)["files"],
            "labels": found.labels,
        }

    def _write(self, found: result.TakenResult) -> None:
        run = self._job.run
        held = try_lock(run / LOCK)
        if held is None:
            raise StageError(f"{run} belongs to a run that is not finished; send the result again later")
        try:
            if reports.read(run).manifest_sha256 != self._job.manifest_sha256:
                raise StageError(f"{run} was run again, and ships other files now; start `compress serve` again")
            devices.add(run, found.name, found.device, lock.text(run / LOCK_FILE))
        finally:
            held.release()


def opened(
    job: Job,
    at: tuple[str, int],
    library: Mapping[str, Path],
    tell: Tell,
    device: str | None = None,
    threads: int | None = None,
) -> Server:
    """A server that listens.

    Args:
        job: What devices are asked.
        at: An address of this machine and its port, 0 for one that is free.
        library: The files of onnxruntime-web, by name.
        tell: Hears the checks of each result.
        device: The device's name; None if the page asks for it.
        threads: Threads that run the files, where a page may have several; None for as many as suit the device.

    Raises:
        RecipeError: The port cannot be used.
    """
    files = {f"model/{entry.file.as_posix()}": (job.model / entry.file, job.model) for entry in job.files}
    files |= {f"web/{name}": (path, path.parent) for name, path in library.items()}
    document = json.dumps(job.document(device, threads)).encode()
    try:
        return Server(*at, files, document, Desk(job, device, tell).take)
    except OSError as error:
        what = f"{at[0]}, port {at[1]} cannot be listened on: {error.strerror or error}"
        raise RecipeError([Problem("--port", what, "take another one, or 0 for one that is free")]) from None


def run(server: Server, once: bool) -> None:
    """Serves until the first result that is taken, if asked to, else until it is interrupted.

    Args:
        server: A server that listens.
        once: Whether the first result is the last.
    """
    serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
    serving.start()
    try:
        if once:
            server.answered.wait()
        else:
            serving.join()
    finally:
        server.shutdown()
