"""The part of `compress verify --device` that holds what a device measured against the manifest and its limits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from compressor.errors import Problem, RecipeError, suggest
from compressor.gates.judge import GateResult, recorded_verdict
from compressor.gates.metrics import metric_of
from compressor.measure import parity, recorded_answers
from compressor.measure.parity_inputs import Comparison, Endpoint
from compressor.measure.recorded_answers import RecordedAnswers
from compressor.package.manifest import Check, Manifest
from compressor.package.verify_parity import repeated, repeats
from compressor.report.model import LATENCIES, DeviceFileReport, DeviceReport, Report
from compressor.report.numbers import gate_text
from compressor.runtimes.shipped import Format, shipped

_CONFIDENCE = 0.95
"""Of each bound of a device's times."""


def asked(folder: Path, answers: RecordedAnswers) -> list[Format]:
    """The files that devices run: the ONNX graphs of free sizes, whose answers to token ids were recorded.

    Args:
        folder: The folder that ships.
        answers: Its recorded answers.
    """
    return [
        entry
        for entry in shipped(folder)
        if entry.runtime == parity.FLOAT.runtime and entry.file.as_posix() in answers.answers
    ]


def find(report: Report | None, names: Sequence[str]) -> dict[str, DeviceReport]:
    """Some of a report's devices.

    Args:
        report: The report; None where only what ships is there.
        names: Their names.

    Raises:
        RecipeError: A device is not in it.
    """
    there = {} if report is None else report.devices
    hint = suggest("", list(there)) if there else "name a run's folder, and measure with `compress serve RUN` first"
    problems = [
        Problem("--device", f"{name!r} is not among the devices of report.json", hint, kind="unknown")
        for name in names
        if name not in there
    ]
    if problems:
        raise RecipeError(problems)
    return {name: there[name] for name in names}


def checks(name: str, device: DeviceReport, folder: Path, manifest: Manifest) -> list[Check]:
    """Whether a device ran the files that ship, gave the recorded answers, and met the run's limits on time.

    Args:
        name: The device's name.
        device: What was measured on it.
        folder: The folder that ships.
        manifest: Its manifest.
    """
    answers = recorded_answers.read(folder / recorded_answers.FILE)
    comparisons = parity.present(folder)
    found = []
    for entry in asked(folder, answers):
        ran, subject = device.files.get(entry.name), f"{name}: {entry.name}"
        if ran is None:
            found.append(Check("device", subject, "fail", "it did not run this file; measure it again"))
        elif ran.digest != manifest.files[entry.file.as_posix()]["sha256"]:
            found.append(Check("device", subject, "fail", "it ran another file (sha256); measure it again"))
        else:
            found.append(_answers(subject, entry, ran, manifest, comparisons))
            found += _times(subject, entry, ran, manifest)
    return found


def _answers(
    subject: str, entry: Format, ran: DeviceFileReport, manifest: Manifest, comparisons: Sequence[Comparison]
) -> Check:
    side = Endpoint(entry.runtime, entry.file)
    good = repeats(side, comparisons, manifest, ran.label_agreement, ran.max_abs_diff)
    message = repeated(manifest.task, ran.rows, ran.label_agreement, ran.max_abs_diff)
    return Check("device", subject, "pass" if good else "fail", message)


def _times(subject: str, entry: Format, ran: DeviceFileReport, manifest: Manifest) -> Iterator[Check]:
    """Whether a file meets each limit on its time, in milliseconds, that the run had."""
    for limit in _limits(entry, manifest):
        metric = metric_of(limit.metric)
        time = getattr(ran, next(name for name in LATENCIES if metric.name.endswith(name)))
        judged = GateResult(
            limit.metric, limit.rule, limit.limit, None, _CONFIDENCE, time.value, time.low, time.high, "pass"
        )
        yield Check("device", subject, recorded_verdict(judged), gate_text(judged))


def _limits(entry: Format, manifest: Manifest) -> list[GateResult]:
    """The run's limits in milliseconds on a file.

    Those of its name and, of the deployed file, those of the last stage that has such a gate.
    """
    given = [gate for gate in manifest.gates if gate.result.relative_to is None]
    own = [gate.result for gate in given if gate.result.metric in [f"{entry.name}.{name}" for name in LATENCIES]]
    if entry.file.as_posix() == manifest.file:
        for name in LATENCIES:
            stages = [gate for gate in given if gate.result.metric == name]
            own += [gate.result for gate in stages if gate.stage == stages[-1].stage]
    return own
