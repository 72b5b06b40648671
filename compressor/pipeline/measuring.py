"""The measurements of a run: made once and kept in the store, with the evidence for gates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compressor.files import SealedFolder, file_digest
from compressor.gates.estimate import Evidence
from compressor.gates.metrics import METRICS
from compressor.gates.spec import REGRESSION
from compressor.host import saturates
from compressor.measure import measurement
from compressor.measure.client import Client
from compressor.measure.measurement import Subject, deployed_file
from compressor.measure.spec import MeasureSpec
from compressor.models.checkpoint import Checkpoint
from compressor.pipeline.code_digest import made_with
from compressor.pipeline.prepared import Prepared
from compressor.pipeline.store import Store
from compressor.progress import Progress
from compressor.report.model import Measurement
from compressor.runtimes import RUNTIMES
from compressor.stages.base import StageSpec

CONFIDENCE = 0.95
"""Confidence of each bound in a report."""

_SATURATES = (
    "This processor has no VNNI instructions, so ONNX Runtime adds 8-bit products in 16 bits, which can clip sums. "
    "Its answers can be worse than on ARM or on processors with VNNI, and differ from other formats; "
    "reduce_range: true avoids this."
)


@dataclass(frozen=True)
class Measured:
    """A measurement.

    Attributes:
        evidence: The evidence, by metric.
        references: Evidence of the checkpoints that were timed in turn with it, by name.
        from_cache: Whether the measurement was in the store.
        parity: The comparison of each format with its reference; None where there are no formats.
        files: Folder and digests of the files that the measurement left, such as recorded answers to ship.
    """

    evidence: Mapping[str, Evidence]
    references: Mapping[str, Mapping[str, Evidence]]
    from_cache: bool
    parity: Mapping[str, Any] | None
    files: SealedFolder


def measurements(found: Mapping[str, Evidence]) -> dict[str, Measurement]:
    """Estimates of all metrics, for a report."""
    estimates = {}
    for name, evidence in found.items():
        estimate = evidence.estimate(CONFIDENCE)
        estimates[name] = Measurement(estimate.value, METRICS[name].unit, evidence.n, estimate.low, estimate.high)
    return estimates


def notes(spec: StageSpec) -> list[str]:
    """Warnings about a stage's measurements on this machine."""
    return [_SATURATES] if spec.eight_bit_products and saturates() else []


class Measurer:
    """Measures checkpoints of one run.

    Args:
        spec: Conditions.
        store: Keeps measurements and the files that are exported for them.
        client: Runs the measuring processes.
        progress: Shows progress.
        outside: Folders of checkpoints that are not in the store, by key.
    """

    def __init__(
        self, spec: MeasureSpec, store: Store, client: Client, progress: Progress, outside: Mapping[str, Path]
    ) -> None:
        self._spec, self._store, self._client, self._progress = spec, store, client, progress
        self._outside = outside
        self._evidence: dict[str, Mapping[str, Evidence]] = {}

    def measure(
        self, name: str, inputs: Mapping[str, Any], prepared: Prepared, *, recorded_rows: int = 0, parity: bool = True
    ) -> Measured:
        """Measures a checkpoint, or finds its measurement in the store.

        Args:
            name: The stage's name, or the baseline's, for progress.
            inputs: The values that make the measurement's key: among them `task`, `checkpoint` (its key) and
                `references` (keys of the checkpoints that are timed in turn with it, by name).
            prepared: The rows it is scored on.
            recorded_rows: Number of validation rows whose answers are recorded, to ship with it.
            parity: Whether its formats are compared with each other.
        """
        checkpoint: str = inputs["checkpoint"]
        others: Mapping[str, str] = inputs["references"]
        folder = self._folder(checkpoint)
        rows, answers = prepared.validation(folder)

        def build(output: Path, work: Path) -> Mapping[str, Any]:
            files = {other: self._deployed(other, key) for other, key in others.items()}
            file = self._deployed(name, checkpoint)
            subject = Subject(name, inputs["task"], folder, file, recorded_rows, parity)
            folders = [self._folder(key) for key in (checkpoint, *others.values())]
            vocab_size = min(int(Checkpoint(path).config["vocab_size"]) for path in folders)
            return measurement.measure(
                subject, files, vocab_size, rows, self._spec, output, self._client, self._progress
            )

        entry, from_cache = self._store.build(inputs, build, of=(checkpoint, *others.values()))

        def evidence(against: str) -> dict[str, Evidence]:
            return measurement.evidence(entry.path, entry.facts, prepared.task, answers, prepared.labels, against)

        self._evidence[checkpoint] = evidence("self")
        references = {other: {**self._evidence.get(key, {}), **evidence(other)} for other, key in others.items()}
        return Measured(
            evidence=self._evidence[checkpoint],
            references=references,
            from_cache=from_cache,
            parity=entry.facts.get("parity"),
            files=entry.sealed,
        )

    def same(self, key: str, other: str) -> bool:
        """Whether two checkpoints ship the same bytes: the file that runs, and the tokenizer."""
        files = [file_digest(self._deployed(REGRESSION, each)) for each in (key, other)]
        tokenizers = [Checkpoint(self._folder(each)).tokenizer_digest() for each in (key, other)]
        return files[0] == files[1] and tokenizers[0] == tokenizers[1]

    def _folder(self, key: str) -> Path:
        return self._outside.get(key) or self._store.folder(key)

    def _deployed(self, name: str, key: str) -> Path:
        """A checkpoint's file for the measured runtime; exported here if no stage exported it."""
        runtime = self._spec.runtime
        folder = self._folder(key)
        if (path := deployed_file(folder, runtime)) is not None:
            return path
        file = RUNTIMES[runtime].file.name

        def build(output: Path, work: Path) -> Mapping[str, Any]:
            with self._progress.step(f"{name}: exporting for {runtime}"):
                RUNTIMES[runtime].export(folder, output / file)
            return {}

        inputs = {
            "kind": "deploy",
            "checkpoint": key,
            "runtime": runtime,
            **made_with("compressor.runtimes", extras=RUNTIMES[runtime].requires),
        }
        return self._store.build(inputs, build, of=(key,))[0].path / file
