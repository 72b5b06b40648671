"""The part of `compress verify` that runs a folder's formats and compares their answers."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from compressor.errors import CompressError
from compressor.gates.judge import judge, overall
from compressor.gates.spec import Gate
from compressor.measure import parity, recorded_answers
from compressor.measure.client import Client
from compressor.measure.parity import ComparedLogits
from compressor.measure.parity_inputs import ALONE, TEXTS_FILE, Comparison, Endpoint, ParityInputs
from compressor.measure.recorded_answers import RecordedAnswer, RecordedAnswers
from compressor.measure.token_rows import EDGES, TokenRows
from compressor.models.checkpoint import Checkpoint
from compressor.package.manifest import Check, Manifest
from compressor.progress import Progress
from compressor.stages.export import ExportSpec
from compressor.tasks import TASKS

_SAME_QUANTIZED = 0.95
"""Least share of recorded labels that a quantized graph must repeat: processors round and saturate differently."""


class Parity:
    """Runs all formats of a folder on the rows that came with it, and on made-up ones, and compares their answers.

    Args:
        folder: The folder.
        manifest: Its manifest.
        client: Runs the measuring processes.
        progress: Shows progress.
    """

    def __init__(self, folder: Path, manifest: Manifest, client: Client, progress: Progress) -> None:
        self._folder, self._manifest, self._client, self._progress = folder, manifest, client, progress
        self._answers: dict[Endpoint, ComparedLogits] = {}
        self._broken: dict[Endpoint, str] = {}

    @property
    def _answer(self) -> str:
        """What an answer is called."""
        return TASKS[self._manifest.task].HEAD.answer

    def checks(self) -> list[Check]:
        """Compares formats with each other, and with their recorded answers."""
        comparisons = parity.present(self._folder)
        if not comparisons:
            message = "there are no formats to compare: the export stage writes them"
            return [Check("parity", "formats", "pass", message)]
        if self._manifest.task not in TASKS:
            return [Check("parity", "formats", "fail", f"unknown task {self._manifest.task!r} in the manifest")]
        try:
            answers = self._recorded()
            with tempfile.TemporaryDirectory(prefix="compress-") as work:
                material = self._material(answers, Path(work))
                self._ask(comparisons, material)
        except Exception as error:  # a reader may raise anything for JSON of another form
            return [Check("parity", "formats", "fail", f"not compared: {first_line(error)}")]
        broken = [Check("parity", str(side), "fail", message) for side, message in self._broken.items()]
        compared = [self._compared(entry, material, answers) for entry in comparisons if self._answered(entry)]
        return [*broken, *compared, *(self._all_repeated(answers, comparisons) if answers else [])]

    def _all_repeated(self, answers: RecordedAnswers, comparisons: list[Comparison]) -> list[Check]:
        """Compares every format with its recorded answers; either without the other is a failed check."""
        asked = [side for side, given in self._answers.items() if ALONE in given]
        there = {str(side) for side in (*asked, *self._broken)}
        alone = [(name, "has recorded answers and is not there") for name in sorted(answers.answers.keys() - there)]
        alone += [(name, "has no recorded answers") for name in sorted(there - answers.answers.keys())]
        found = [Check("parity", f"{name}, recorded", "fail", message) for name, message in alone]
        for side in self._answers:
            if (answer := answers.answers.get(str(side))) is not None:
                found.append(self._repeated(side, answer, comparisons))
        return found

    def _answered(self, comparison: Comparison) -> bool:
        return {comparison.candidate, comparison.reference} <= set(self._answers)

    def _recorded(self) -> RecordedAnswers | None:
        there = recorded_answers.FILE in self._manifest.files
        answers = recorded_answers.read(self._folder / recorded_answers.FILE) if there else None
        rows = len(answers.rows) if answers else 0
        if rows != self._manifest.recorded_rows:
            what = (
                f"{recorded_answers.FILE} has answers to {rows} rows, the manifest says {self._manifest.recorded_rows}"
            )
            raise CompressError(f"{what}; copy the folder or make it again")
        return answers

    def _material(self, answers: RecordedAnswers | None, work: Path) -> ParityInputs:
        checkpoint, file = Checkpoint(self._folder), None
        if answers is not None:
            file = work / "rows.npz"
            TokenRows.of(answers.rows, int(checkpoint.config.get("pad_token_id") or 0)).save(file)
            if answers.texts is not None:
                (work / TEXTS_FILE).write_text(json.dumps(answers.texts), encoding="utf-8")
        return ParityInputs.of(checkpoint, file, len(answers.rows) if answers else 0, work)

    def _ask(self, comparisons: list[Comparison], material: ParityInputs) -> None:
        for side in parity.endpoints(self._folder, comparisons):
            with self._progress.step(f"verify: parity, {side}") as step:
                try:
                    task = self._manifest.task
                    self._answers[side] = parity.run_endpoint(
                        self._folder, task, side, comparisons, material, self._client, step
                    )
                except CompressError as error:
                    self._broken[side] = f"cannot be run: {first_line(error)}"

    def _compared(self, comparison: Comparison, material: ParityInputs, answers: RecordedAnswers | None) -> Check:
        """Compares one format with its reference, with the limits of the run's gates."""
        facts = parity.compare(comparison, self._answers, material)
        rows = len(material.lengths)
        found = parity.evidence({"rows": rows, "edges": len(EDGES), "formats": {comparison.name: facts}})
        verdicts = []
        for metric, evidence in found.items():
            if (gate := _limits(self._manifest, metric)) is not None:
                if metric.endswith("label_agreement") and answers is not None and gate.min is not None:
                    # A run judges all of its rows; a label may have differed among the few that ship.
                    gate = gate.model_copy(update={"min": min(gate.min, _agreed(comparison, answers))})
                verdicts += [result.verdict for result in judge(metric, gate, evidence, {})]
        asked = f"{facts['rows']} {'rows' if rows else 'made-up rows'}"
        message = (
            f"{facts['label_agreement']:.2%} of {asked} have the {self._answer} of {facts['against']}, the largest"
            f" difference is {facts['max_abs_diff']:.2e} ({facts['worst']}), the least cosine {facts['min_cosine']:.6f}"
        )
        subject = f"{comparison.candidate}, padded" if comparison.kind == "padded" else str(comparison.candidate)
        return Check("parity", subject, overall(verdicts), message)

    def _repeated(self, side: Endpoint, answer: RecordedAnswer, comparisons: list[Comparison]) -> Check:
        """Compares one format with its answers when it was published."""
        given = self._answers[side][ALONE]
        if not answer.fits(given):
            return Check("parity", str(side), "fail", "the recorded answers are those of another model")
        agreement, difference = answer.label_agreement(given), answer.max_abs_diff(given)
        good = repeats(side, comparisons, self._manifest, agreement, difference)
        message = repeated(self._manifest.task, len(given), agreement, difference)
        if not good:
            message += "; this machine or these versions give other answers: compare `compress doctor` with the"
            message += f" manifest's environment ({_environment(self._manifest.environment)})"
        return Check("parity", f"{side}, recorded", "pass" if good else "fail", message)


def repeats(
    side: Endpoint, comparisons: Sequence[Comparison], manifest: Manifest, agreement: float, difference: float
) -> bool:
    """Whether a file's answers, on this machine or on a device, are near enough to those that were recorded of it.

    Args:
        side: The file.
        comparisons: All comparisons of the folder: a file that is held to logits there is held to them here.
        manifest: Has the run's limits.
        agreement: Share of the answers that are the recorded ones.
        difference: Largest difference from a recorded logit.
    """
    if any(side in (entry.candidate, entry.reference) for entry in comparisons if entry.kind == "float"):
        gate = _limits(manifest, "parity_max_abs_diff")
        return difference <= (gate.max if gate is not None and gate.max is not None else np.inf)
    return agreement >= _SAME_QUANTIZED


def repeated(task: str, rows: int, agreement: float, difference: float) -> str:
    """How a file's answers compare with those that were recorded of it, in words."""
    head = TASKS[task].HEAD
    numbers = "numbers" if head.vectors else "logits"
    return f"{agreement:.2%} of {rows} rows have the recorded {head.answer}, {numbers} differ by {difference:.2e}"


def _limits(manifest: Manifest, metric: str) -> Gate | None:
    """The run's gate of a metric, else the export stage's default."""
    rules: dict[str, Any] = {
        gate.result.rule: gate.result.limit
        for gate in manifest.gates
        if gate.result.metric == metric and gate.result.relative_to is None
    }
    return Gate(**rules) if rules else ExportSpec(stage="export").default_gates.get(metric)


def _agreed(comparison: Comparison, answers: RecordedAnswers) -> float:
    """Share of the recorded rows where two formats gave the same label."""
    both = [answers.answers.get(str(side)) for side in (comparison.candidate, comparison.reference)]
    first, second = both
    return 1.0 if first is None or second is None else first.agreement(second)


def _environment(values: Mapping[str, str | int]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def first_line(error: Exception) -> str:
    """The first line of a library's message."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
