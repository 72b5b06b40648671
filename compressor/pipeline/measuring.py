"""A run's measurements: of the file that ships, kept in the store, with the evidence that gates are judged by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compressor.files import file_digest
from compressor.gates.estimate import Evidence
from compressor.gates.metrics import METRICS
from compressor.gates.spec import REGRESSION
from compressor.host import BUILD_LIBRARIES, saturates, versions
from compressor.measure import measurement as measuring
from compressor.measure import recorded_answers
from compressor.measure.spec import MeasureSpec
from compressor.models.checkpoint import Checkpoint
from compressor.pipeline.code_digest import code_digest
from compressor.pipeline.prepared import Prepared
from compressor.pipeline.store import Store
from compressor.progress import Progress
from compressor.quantization.spec import INTEGER_SCHEMES
from compressor.report.model import Measurement
from compressor.runtimes import RUNTIMES
from compressor.stages.base import StageSpec
from compressor.stages.quantize import QuantizeSpec

CONFIDENCE = 0.95
"""Of each bound in a report."""

_SATURATES = (
    "This processor has no VNNI: ONNX Runtime adds products of 8 bits in 16 here, where they can saturate. What it "
    "answers can be worse than on ARM and on processors that have it, and differ from other formats; "
    "reduce_range: true avoids it."
)


@dataclass(frozen=True)
class Subject:
    """What is measured.

    Attributes:
        name: The stage's name, or the baseline's.
        task: What the checkpoint does.
        key: The checkpoint's key.
        recorded_rows: How many validation rows' answers are recorded, to ship with it.
        parity: Whether its formats are held against each other.
    """

    name: str
    task: str
    key: str
    recorded_rows: int = 0
    parity: bool = True


@dataclass(frozen=True)
class Measured:
    """A measurement.

    Attributes:
        evidence: By metric.
        references: Evidence of what it was measured beside, by name; their timings are from the same process.
        from_cache: Whether it was in the store.
        parity: What was found of each format; None where there are none.
        recorded: Answers recorded to ship; None where none are.
    """

    evidence: Mapping[str, Evidence]
    references: Mapping[str, Mapping[str, Evidence]]
    from_cache: bool
    parity: Mapping[str, Any] | None
    recorded: Path | None


def measurements(found: Mapping[str, Evidence]) -> dict[str, Measurement]:
    """Evidence as reports tell it."""
    told = {}
    for name, evidence in found.items():
        estimate = evidence.estimate(CONFIDENCE)
        told[name] = Measurement(estimate.value, METRICS[name].unit, evidence.n, estimate.low, estimate.high)
    return told


def notes(spec: StageSpec) -> list[str]:
    """What is to be known about a stage's measurements on this machine."""
    eight_bits = isinstance(spec, QuantizeSpec) and spec.scheme in INTEGER_SCHEMES and not spec.reduce_range
    return [_SATURATES] if eight_bits and saturates() else []


class Measurer:
    """Measures checkpoints of one run.

    Args:
        spec: Conditions.
        store: Keeps measurements and what is exported for them.
        progress: Tells the user.
        outside: Folders of checkpoints that are not in the store, by key.
    """

    def __init__(self, spec: MeasureSpec, store: Store, progress: Progress, outside: Mapping[str, Path]) -> None:
        self._spec, self._store, self._progress, self._outside = spec, store, progress, outside
        self._evidence: dict[str, Mapping[str, Evidence]] = {}

    def measure(self, subject: Subject, inputs: Mapping[str, Any], prepared: Prepared) -> Measured:
        """Measures a checkpoint, or finds its measurement.

        Args:
            subject: The checkpoint.
            inputs: What the measurement depends on; its `references` are keys of the checkpoints it is measured beside.
            prepared: The rows it is scored on.
        """
        folder = self._folder(subject.key)
        rows, answers = prepared.validation(folder)
        others: Mapping[str, str] = inputs["references"]

        def build(output: Path, work: Path) -> Mapping[str, Any]:
            files = {name: self._deployed(name, key) for name, key in others.items()}
            deployed = self._deployed(subject.name, subject.key)
            measured = measuring.Subject(
                subject.name, subject.task, folder, deployed, subject.recorded_rows, subject.parity
            )
            folders = [self._folder(key) for key in (subject.key, *others.values())]
            known = min(int(Checkpoint(path).config["vocab_size"]) for path in folders)
            return measuring.measure(measured, files, known, rows, self._spec, output, self._progress)

        entry, from_cache = self._store.build(inputs, build)

        def evidence(against: str) -> dict[str, Evidence]:
            return measuring.evidence(entry.path, entry.facts, prepared.task, answers, prepared.labels, against)

        self._evidence[subject.key] = evidence("self")
        references = {name: {**self._evidence.get(key, {}), **evidence(name)} for name, key in others.items()}
        file = entry.path / recorded_answers.FILE
        return Measured(
            evidence=self._evidence[subject.key],
            references=references,
            from_cache=from_cache,
            parity=entry.facts.get("parity"),
            recorded=file if file.is_file() else None,
        )

    def same(self, key: str, other: str) -> bool:
        """Whether two checkpoints ship the same bytes: the file that runs, and the tokenizer."""
        files = [file_digest(self._deployed(REGRESSION, each)) for each in (key, other)]
        tokenizers = [Checkpoint(self._folder(each)).tokenizer_digest() for each in (key, other)]
        return files[0] == files[1] and tokenizers[0] == tokenizers[1]

    def _folder(self, key: str) -> Path:
        return self._outside.get(key) or self._store.folder(key)

    def _deployed(self, name: str, key: str) -> Path:
        """The file of a checkpoint that ships for the measured runtime; exported for measuring if no stage did."""
        runtime = self._spec.runtime
        folder = self._folder(key)
        if (path := measuring.deployed_file(folder, runtime)) is not None:
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
            "code": code_digest("compressor.runtimes"),
            "versions": versions(BUILD_LIBRARIES),
        }
        return self._store.build(inputs, build)[0].path / file
