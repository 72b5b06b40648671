"""A measuring client that does its jobs in the tests' own process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compressor.errors import StageError
from compressor.measure import worker
from compressor.measure.client import Arrays, Client
from compressor.progress import Step


class InProcess(Client):
    """Answers and times are as real as in processes; peak memory is that of the process that runs the tests."""

    def __init__(self) -> None:
        super().__init__(timing_processes=1, memory_processes=1)

    def run(self, job: Mapping[str, Any], step: Step | None = None, *, fresh: bool) -> Arrays:
        """Does one job."""
        try:
            return dict(worker.JOBS[job["kind"]](job, step.update if step else lambda done, total: None))
        except Exception as error:
            raise StageError(
                f"the measuring process ({job['kind']}) failed: {type(error).__name__}: {error}"
            ) from error
