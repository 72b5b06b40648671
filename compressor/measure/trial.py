"""Tries out models that are not finished: their size, latency and quality if they were deployed now."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compressor import tasks
from compressor.gates.metrics import METRICS
from compressor.measure import measurement as measuring
from compressor.measure.client import Client
from compressor.measure.spec import MeasureSpec
from compressor.models.checkpoint import Checkpoint
from compressor.runtimes import RUNTIMES
from compressor.tasks.base import References
from compressor.tasks.scoring.cosine import cosines

Selection = Callable[[Path], tuple[Path, References]]
"""From a checkpoint's folder to the rows that choose, as its tokenizer reads them, and the right answers."""


class DeploymentTrial:
    """Exports, times and scores checkpoints in the way finished stages are measured.

    Args:
        spec: Conditions.
        task: The checkpoints' task.
        selection: Reads the rows that choose; gates judge on others.
        labels: Names of the head's outputs.
        client: Runs the measuring processes.
    """

    def __init__(
        self, spec: MeasureSpec, task: str, selection: Selection, labels: Sequence[str], client: Client
    ) -> None:
        self._spec, self._task, self._selection, self._labels = spec, task, selection, labels
        self._client = client
        self._of_floats: dict[Path, NDArray[np.float32]] = {}

    def size_bytes(self, folders: Sequence[Path]) -> list[float]:
        """Bytes of the file that ships of each checkpoint, which is written into its folder."""
        return [float(self._exported(folder).stat().st_size) for folder in folders]

    def latency_p50_ms(self, folders: Sequence[Path]) -> list[float]:
        """Median milliseconds per call of each checkpoint, timed in turn in fresh processes."""
        spec = self._spec
        job: dict[str, Any] = {
            "threads": spec.threads,
            "batch_size": spec.batch_size,
            "sequence_length": spec.sequence_length,
            "runs": spec.runs,
            "vocab_size": min(int(Checkpoint(folder).config["vocab_size"]) for folder in folders),
            "files": [
                {"name": str(index), "runtime": spec.runtime, "path": str(self._exported(folder))}
                for index, folder in enumerate(folders)
            ],
        }
        samples = self._client.latency(job)
        return [float(np.median(samples[str(index)])) for index in range(len(folders))]

    def quality(self, checkpoint: Path, file: Path, whole: Path) -> float:
        """How good a checkpoint's exported file is on the rows that choose; more is better.

        It is the task's main metric, which takes labels. Vectors are scored by their mean cosine with those of the
        float file: it takes texts alone, and tells smaller changes than what is found with them.

        Args:
            checkpoint: The checkpoint's folder.
            file: The file.
            whole: The same in float.
        """
        rows, references = self._selection(checkpoint)
        answers = self._answers(file, checkpoint, rows)
        if tasks.TASKS[self._task].HEAD.vectors:
            if whole not in self._of_floats:
                self._of_floats = {whole: self._answers(whole, checkpoint, rows)}
            return float(cosines(answers, self._of_floats[whole]).mean())
        scores = tasks.TASKS[self._task].score(answers, references, self._labels)
        metric = tasks.main_metric(self._task, scores)
        assert METRICS[metric].kind == "quality", "of a main metric, more is better"
        return scores[metric].value

    def _answers(self, file: Path, checkpoint: Path, rows: Path) -> NDArray[np.float32]:
        """A file's answers to the rows that choose."""
        return measuring.answers(file, checkpoint, self._task, rows, self._spec, self._client)

    def _exported(self, folder: Path) -> Path:
        runtime = RUNTIMES[self._spec.runtime]
        path = folder / runtime.file
        if not path.is_file():
            runtime.export(folder, path)
        return path
