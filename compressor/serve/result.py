"""What a device hands back: checked, and its answers compared with those that were recorded."""

from __future__ import annotations

import base64
import binascii
import datetime
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from compressor.errors import CompressError
from compressor.gates.timings import Timings
from compressor.measure.asking import kept, stacked
from compressor.measure.recorded_answers import RecordedAnswer
from compressor.models import thresholds
from compressor.models.checkpoint import Checkpoint
from compressor.report.model import DeviceFileReport, DeviceReport, Measurement
from compressor.runtimes.shipped import Format
from compressor.serve.job import MOST_BYTES, Job
from compressor.spec import Spec
from compressor.tasks import TASKS
from compressor.tasks.base import ABSENT_LOGIT

KIND = "browser"
NAME = r"^\w[\w .,()+-]{0,59}$"
"""What a device may be called."""
_CONFIDENCE = 0.95
_MOST_AXES = 3

Text = Annotated[str, Field(max_length=500)]
Milliseconds = Annotated[float, Field(gt=0, lt=1e7, allow_inf_nan=False)]


class GivenOutput(Spec):
    """An output of a model."""

    shape: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=1, max_length=_MOST_AXES)]
    """Its shape, of which the first axis is a batch of 1."""
    data: str
    """Its numbers in float32, little-endian, in base64."""

    def array(self) -> NDArray[np.float32]:
        """The numbers.

        Raises:
            ValueError: They are not as many as the shape says, or not finite.
        """
        try:
            numbers = np.frombuffer(base64.b64decode(self.data, validate=True), dtype="<f4")
        except binascii.Error as error:
            raise ValueError(f"an output is not base64: {error}") from None
        if self.shape[0] != 1 or numbers.size != math.prod(self.shape):
            raise ValueError(f"an output has {numbers.size} numbers, and the shape {self.shape}")
        if not np.isfinite(numbers).all():
            raise ValueError("an output has numbers that are not finite")
        return numbers.astype(np.float32).reshape(self.shape)


class GivenFile(Spec):
    """What a device hands back of a file."""

    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    """Digest of the bytes that it ran."""
    rows: list[dict[str, GivenOutput]]
    """For each row, the outputs by name."""
    latency_ms: list[Milliseconds]
    """Time of each timed call, in the order of the calls."""


class GivenDescription(Spec):
    """What a device says of itself."""

    user_agent: Text
    """The browser, in its own words."""
    cores: Annotated[int, Field(ge=0, le=4096)]
    """Cores that the browser tells of; 0 if it tells of none."""
    threads: Annotated[int, Field(ge=1, le=4096)]
    """Threads that ran the files."""
    simd: bool
    """Whether WebAssembly has instructions for vectors here."""
    isolated: bool
    """Whether the page is cross-origin isolated, without which there is one thread."""
    runtime: Text
    """onnxruntime-web's version."""


class GivenResult(Spec):
    """What a device hands back."""

    device: Annotated[str, Field(pattern=NAME)]
    """The device's name."""
    description: GivenDescription
    """What it is."""
    files: dict[Text, GivenFile]
    """By the files' names."""


class RefusedResult(CompressError):
    """A result that is not taken, and why."""


@dataclass(frozen=True)
class TakenResult:
    """A result that was taken.

    Attributes:
        name: The device's name.
        device: What was measured on it.
        labels: For each file, the label that each row was given and the recorded one; empty where an answer is none.
    """

    name: str
    device: DeviceReport
    labels: Mapping[str, list[tuple[str, str]]]


def measured(job: Job, body: bytes) -> TakenResult:
    """What a device handed back.

    Args:
        job: What it was asked.
        body: Its result, in JSON.

    Raises:
        RefusedResult: It is not an answer to what was asked.
    """
    try:
        given = GivenResult.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        raise RefusedResult(f"{'.'.join(map(str, first['loc'])) or 'the result'}: {first['msg']}") from None
    names = {entry.name for entry in job.files}
    if wrong := sorted(names ^ given.files.keys()):
        known = "was asked and is missing" if wrong[0] in names else "is not a file that was asked"
        raise RefusedResult(f"{wrong[0]}: {known}")
    checkpoint = Checkpoint(job.model)
    files, labels = {}, {}
    for entry in job.files:
        answer = job.answers.answers[entry.file.as_posix()].first(len(job.rows))
        try:
            found = _logits(job, entry, given.files[entry.name], thresholds.offsets(checkpoint))
            if found.ndim != _MOST_AXES or not answer.fits(found):
                raise ValueError("its outputs are those of another model: the recorded answers have other choices")
        except (ValueError, IndexError) as error:  # IndexError: an output of another shape
            raise RefusedResult(f"{entry.name}: {error}") from None
        files[entry.name] = _report(given.files[entry.name], answer, found)
        labels[entry.name] = _labels(job, checkpoint, answer, found)
    taken = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    device = DeviceReport(KIND, {**given.description.model_dump(), "measured": taken}, files)
    return TakenResult(given.device, device, labels)


def _logits(job: Job, entry: Format, given: GivenFile, offsets: list[float] | None) -> NDArray[np.float32]:
    """The logits by which answers are compared. `(rows, items, choices)`.

    Raises:
        ValueError: The file is not the one that was asked, or the outputs are not those of the rows.
        IndexError: An output has too few axes or tokens.
    """
    if given.sha256 != job.manifest.files[entry.file.as_posix()]["sha256"]:
        raise ValueError("the file that ran is not the one in the manifest: its sha256 differs; load the page again")
    for what, there, wanted in (("rows", given.rows, len(job.rows)), ("timed calls", given.latency_ms, job.runs)):
        if len(there) != wanted:
            raise ValueError(f"has {len(there)} {what}, and {wanted} were asked")
    compared = TASKS[job.manifest.task].compared
    rows = []
    for row, inputs in zip(given.rows, job.rows, strict=True):
        if row.keys() != set(job.outputs):
            raise ValueError(f"has the outputs {', '.join(sorted(row))}, and {', '.join(job.outputs)} were asked")
        outputs = {name: output.array() for name, output in row.items()}
        rows.append(np.asarray(kept(compared, outputs, inputs, offsets)[0], dtype=np.float32))
    longest = np.max([row.shape for row in rows], axis=0)
    if len(rows) * math.prod(longest.tolist()) > MOST_BYTES:
        raise ValueError("its outputs are larger than those of any row")
    return stacked(rows, ABSENT_LOGIT)


def _report(given: GivenFile, answer: RecordedAnswer, found: NDArray[np.float32]) -> DeviceFileReport:
    times = np.array(given.latency_ms)
    return DeviceFileReport(
        digest=given.sha256,
        rows=len(found),
        label_agreement=answer.label_agreement(found),
        max_abs_diff=answer.max_abs_diff(found),
        latency_p50_ms=_time(times, 0.5),
        latency_p95_ms=_time(times, 0.95),
    )


def _time(samples: NDArray[np.float64], quantile: float) -> Measurement:
    estimate = Timings(samples, quantile, (len(samples),)).estimate(_CONFIDENCE)
    return Measurement(estimate.value, "ms", len(samples), estimate.low, estimate.high)


def _labels(
    job: Job, checkpoint: Checkpoint, answer: RecordedAnswer, found: NDArray[np.float32]
) -> list[tuple[str, str]]:
    """The label of each row and the recorded one, where a row has one answer and that is a label."""
    head, names = TASKS[job.manifest.task].HEAD, checkpoint.labels
    if not head.outputs_by_label or head.per_token or head.sets:
        return []
    given = found[:, 0].argmax(axis=-1).tolist()
    return [(names[one], names[other]) for one, other in zip(given, answer.choices[:, 0, 0].tolist(), strict=True)]
