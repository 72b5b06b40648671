"""Tries out models that are not finished: how large and how fast they would ship."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from compressor.checkpoint import Checkpoint
from compressor.measure import process
from compressor.recipe import MeasureSpec
from compressor.runtimes import RUNTIMES


class Trial:
    """Exports checkpoints as they would be exported to be measured, and times them under the same conditions.

    Args:
        spec: Conditions.
    """

    def __init__(self, spec: MeasureSpec) -> None:
        self._spec = spec

    def size_bytes(self, folders: Sequence[Path]) -> list[float]:
        """Bytes of the file that ships of each checkpoint, which is written into its folder."""
        return [float(self._exported(folder).stat().st_size) for folder in folders]

    def latency_p50_ms(self, folders: Sequence[Path]) -> list[float]:
        """Median milliseconds per call of each checkpoint, timed in turn in one fresh process."""
        spec = self._spec
        job: dict[str, Any] = {
            "kind": "latency",
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
        samples = process.run(job)
        return [float(np.median(samples[str(index)])) for index in range(len(folders))]

    def _exported(self, folder: Path) -> Path:
        runtime = RUNTIMES[self._spec.runtime]
        path = folder / runtime.file
        if not path.is_file():
            runtime.export(folder, path)
        return path
