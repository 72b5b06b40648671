"""The measurements of a run: made once and kept in the store, with the evidence for gates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from compressor.files import SealedFolder, file_digest
from compressor.gates.estimate import Evidence
from compressor.gates.judge import GateResult, overall
from compressor.gates.metrics import metric_of
from compressor.gates.spec import FLOAT, REGRESSION
from compressor.host.machine import saturates
from compressor.measure import formats, measurement
from compressor.measure.client import Client
from compressor.measure.measurement import Subject, deployed_file
from compressor.measure.spec import MeasureSpec
from compressor.models import quantized
from compressor.models.checkpoint import Checkpoint
from compressor.pipeline.code_digest import made_with
from compressor.pipeline.entry import Artifact, key_of
from compressor.pipeline.prepared import Prepared
from compressor.pipeline.store import Store
from compressor.progress import Progress
from compressor.report.model import FormatReport, Measurement
from compressor.runtimes import RUNTIMES
from compressor.runtimes.shipped import shipped
from compressor.stages.base import StageSpec
from compressor.tasks.base import References

CONFIDENCE = 0.95
"""Confidence of each bound in a report."""

_SATURATES = (
    "The measured processor has no VNNI instructions, so ONNX Runtime adds 8-bit products in 16 bits, which can clip "
    "sums. Its answers can be worse than on ARM or on processors with VNNI, and differ from other formats; "
    "reduce_range: true avoids this."
)


@dataclass(frozen=True)
class MeasuredFormat:
    """A file that ships.

    Attributes:
        entry: Its entry among the measurement's facts; see `compressor.measure.formats`.
        evidence: The evidence, by metric.
        references: Evidence of what it is compared with: `float` (the same format in float), and checkpoints by name.
        parity: Its comparison with its reference; None where it is a reference itself.
    """

    entry: Mapping[str, Any]
    evidence: Mapping[str, Evidence]
    references: Mapping[str, Mapping[str, Evidence]]
    parity: Mapping[str, Any] | None

    @property
    def name(self) -> str:
        """The name in reports and gates."""
        return str(self.entry["name"])


@dataclass(frozen=True)
class Measured:
    """A measurement.

    Attributes:
        evidence: The evidence, by metric.
        references: Evidence of the checkpoints that were timed in turn with it, by name.
        from_cache: Whether the measurement was in the store.
        parity: The comparison of each format with its reference; None where there are no formats.
        saturation: The products of the deployed file that are clipped on some processors; None where that is not known.
        files: Folder and digests of the files that the measurement left, such as recorded answers to ship.
        formats: Each file that ships, of a stage that ships.
    """

    evidence: Mapping[str, Evidence]
    references: Mapping[str, Mapping[str, Evidence]]
    from_cache: bool
    parity: Mapping[str, Any] | None
    saturation: Mapping[str, Any] | None
    files: SealedFolder
    formats: Sequence[MeasuredFormat] = ()

    @property
    def on_device(self) -> list[str]:
        """The metrics that differ from device to device."""
        return [name for name in self.evidence if metric_of(name).noisy]


def measurements(found: Mapping[str, Evidence]) -> dict[str, Measurement]:
    """Estimates of all metrics, for a report."""
    estimates = {}
    for name, evidence in found.items():
        estimate = evidence.estimate(CONFIDENCE)
        estimates[name] = Measurement(estimate.value, metric_of(name).unit, evidence.n, estimate.low, estimate.high)
    return estimates


def formats_of(measured: Measured, gates: Sequence[GateResult]) -> list[FormatReport]:
    """The files that ship, for a report.

    Args:
        measured: The stage's measurement.
        gates: The stage's judged gates.
    """
    found = []
    for form in measured.formats:
        own = [gate.verdict for gate in gates if metric_of(gate.metric).form == form.name]
        times = form.references.get(FLOAT)
        faster = None
        if times is not None:
            faster = round(times["latency_p50_ms"].ratio(form.evidence["latency_p50_ms"], CONFIDENCE).value, 3)
        found.append(
            FormatReport(
                name=form.name,
                path=form.entry["file"],
                precision=form.entry["precision"],
                ran=form.entry["ran"],
                measurements=measurements(form.evidence),
                parity=form.parity or {},
                verdict=overall(own),
                rows=form.entry["sample"] and len(form.entry["sample"]),
                speedup_over_float=faster,
                saturation=form.entry.get("saturation"),
            )
        )
    return found


def notes(spec: StageSpec, measured: Measured, machine: Mapping[str, Any]) -> list[str]:
    """Warnings about a stage's measurements on a machine, which is described as by `host`."""
    return [_SATURATES] if spec.quantizes and measured.saturation and saturates(machine) else []


class Measurer:
    """Measures checkpoints of one run.

    Args:
        spec: Conditions.
        store: Keeps measurements and the files that are exported for them.
        client: Runs the measuring processes.
        progress: Shows progress.
        outside: Folders of checkpoints that are not in the store, by key.
        in_brackets: Metrics of single labels that gates want, such as `recall[PASSPORT]`, and of smaller vectors that
            the recipe names, such as `recall_at_1[128]`.
    """

    def __init__(
        self,
        spec: MeasureSpec,
        store: Store,
        client: Client,
        progress: Progress,
        outside: Mapping[str, Path],
        in_brackets: Sequence[str] = (),
    ) -> None:
        self._spec, self._store, self._client, self._progress = spec, store, client, progress
        self._outside, self._in_brackets = outside, in_brackets
        self._evidence: dict[str, Mapping[str, Evidence]] = {}
        self._entries: dict[str, Path] = {}
        self._seen: set[str] = set()

    def measure(
        self,
        name: str,
        inputs: Mapping[str, Any],
        prepared: Prepared,
        *,
        recorded_rows: int = 0,
        parity: bool = True,
        ships: bool = False,
    ) -> Measured:
        """Measures a checkpoint, or finds its measurement in the store.

        Args:
            name: The stage's name, or the baseline's, for progress.
            inputs: The values that make the measurement's key: among them `task`, `checkpoint` (its key) and
                `references` (keys of the checkpoints that are timed in turn with it, by name).
            prepared: The rows it is scored on.
            recorded_rows: Number of validation rows whose answers are recorded, to ship with it.
            parity: Whether its formats are compared with each other.
            ships: Whether each of its files is measured.
        """
        checkpoint: str = inputs["checkpoint"]
        others: Mapping[str, str] = inputs["references"]
        folder = self._folder(checkpoint)
        rows, answers = prepared.validation(folder)

        def build(output: Path, work: Path) -> Mapping[str, Any]:
            files = {other: self._deployed(other, key) for other, key in others.items()}
            file = self._deployed(name, checkpoint)
            floats = self._floats(name, checkpoint, folder) if ships else None
            subject = Subject(name, inputs["task"], folder, file, recorded_rows, parity, floats)
            folders = [self._folder(key) for key in (checkpoint, *others.values())]
            vocab_size = min(int(Checkpoint(path).config["vocab_size"]) for path in folders)
            return measurement.measure(
                subject, files, vocab_size, rows, self._spec, output, self._client, self._progress
            )

        key = key_of(inputs)
        if key not in self._seen and (known := self._store.get(key)) is not None and known.facts["disturbed"]:
            self._store.discard(key)  # by an earlier run: the device may have cooled down
        self._seen.add(key)
        entry, from_cache = self._store.build(inputs, build, of=(checkpoint, *others.values()))

        def evidence(against: str) -> dict[str, Evidence]:
            given = (prepared.task, answers, prepared.labels, against, self._in_brackets)
            return measurement.evidence(entry.path, entry.facts, *given)

        self._evidence[checkpoint], self._entries[checkpoint] = evidence("self"), entry.path
        references = {other: {**self._evidence.get(key, {}), **evidence(other)} for other, key in others.items()}
        return Measured(
            evidence=self._evidence[checkpoint],
            references=references,
            from_cache=from_cache,
            parity=entry.facts.get("parity"),
            saturation=entry.facts["saturation"],
            files=entry.sealed,
            formats=[self._format(entry, facts, others, prepared, answers) for facts in entry.facts.get("formats", ())],
        )

    def _format(
        self,
        entry: Artifact,
        facts: Mapping[str, Any],
        others: Mapping[str, str],
        prepared: Prepared,
        answers: References,
    ) -> MeasuredFormat:
        """A file's evidence, and that of the checkpoints that it is compared with, on the rows that it answered."""
        rows = (prepared.task, answers, prepared.labels, self._in_brackets)
        found = formats.evidence(entry.path, entry.facts, facts, *rows)
        references: dict[str, dict[str, Evidence]] = {}
        for other, key in others.items():
            references[other] = {**self._evidence.get(key, {})}
            if facts["sample"] is not None and key in self._entries:
                given = np.load(self._entries[key] / "answers.npy")[facts["sample"]]
                chosen = formats.taken(answers, facts["sample"])
                references[other] |= formats.scored(given, prepared.task, chosen, prepared.labels, self._in_brackets)
            references[other] |= formats.timings(entry.path, other)
        if (times := formats.float_timings(entry.path, facts["name"])) is not None:
            references[FLOAT] = times
        parity = (entry.facts.get("parity") or {"formats": {}})["formats"].get(facts["name"])
        return MeasuredFormat(facts, found, references, parity)

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
        return deployed_file(self._folder(key), runtime) or self._exported(name, key, runtime)

    def _floats(self, name: str, key: str, folder: Path) -> dict[str, Path]:
        """The float form of each quantized file that has one, by the file's name."""
        found = {}
        for entry in shipped(folder):
            runtime = RUNTIMES[entry.runtime]
            if entry.quantized and entry.ran and entry.length is None and not runtime.takes_texts:
                there = folder / runtime.file
                beside = there != folder / entry.file and there.is_file()
                found[entry.name] = there if beside else self._exported(name, key, entry.runtime)
        return found

    def _exported(self, name: str, key: str, runtime: str) -> Path:
        """A checkpoint in a runtime's float form."""
        folder, file = self._folder(key), RUNTIMES[runtime].file.name

        def build(output: Path, work: Path) -> Mapping[str, Any]:
            source = work / "float"
            source.mkdir()
            for path in folder.iterdir():
                if path.is_file() and path.name != quantized.FILE:
                    (source / path.name).symlink_to(path.resolve())
            with self._progress.step(f"{name}: exporting for {runtime}"):
                RUNTIMES[runtime].export(source, output / file)
            return {}

        inputs = {
            "kind": "deploy",
            "checkpoint": key,
            "runtime": runtime,
            **made_with("compressor.runtimes", extras=RUNTIMES[runtime].requires),
        }
        return self._store.build(inputs, build, of=(key,))[0].path / file
