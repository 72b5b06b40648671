"""What a device is asked: the recorded rows, and a batch to be timed with, of each ONNX file that ships."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from compressor.errors import Problem, RecipeError
from compressor.files import file_digest
from compressor.measure import recorded_answers
from compressor.measure.asking import full_batch
from compressor.measure.recorded_answers import RecordedAnswers
from compressor.measure.spec import MeasureSpec
from compressor.measure.token_rows import INPUTS, TokenRows
from compressor.models.checkpoint import Checkpoint
from compressor.models.heads import MASKED_LM, SENTENCE_ORDER, TOKENS
from compressor.package import manifest as manifests
from compressor.package import verify_device
from compressor.package.manifest import Manifest
from compressor.report import model as reports
from compressor.runtimes.shipped import Format
from compressor.tasks import TASKS

MOST_BYTES = 64 * 2**20
"""The largest result that is taken."""
_BASE64 = 4 / 3


@dataclass(frozen=True)
class Job:
    """What a device is asked.

    Attributes:
        run: The run's folder.
        manifest: The manifest of what ships.
        manifest_sha256: Its digest.
        files: The files that it runs.
        answers: The recorded rows and answers.
        rows: The rows that it is asked, which are the first of those that were recorded.
        outputs: Names of the outputs that it hands back.
        batch: The inputs of a timed call. `(batch, sequence)` each.
        runs: Timed calls of each file.
    """

    run: Path
    manifest: Manifest
    manifest_sha256: str
    files: tuple[Format, ...]
    answers: RecordedAnswers
    rows: tuple[Mapping[str, NDArray[np.int64]], ...]
    outputs: tuple[str, ...]
    batch: Mapping[str, NDArray[np.int64]]
    runs: int

    @property
    def model(self) -> Path:
        """The folder that ships."""
        return self.run / "model"

    def document(self, device: str | None, threads: int | None) -> dict[str, Any]:
        """What the page reads.

        Args:
            device: The name that the command line gives the device; None if the page asks for it.
            threads: Threads that run the files, where a page may have several; None for as many as suit the device.
        """
        files = [{"name": entry.name, "path": f"model/{entry.file.as_posix()}"} for entry in self.files]
        return {
            "recipe": self.manifest.recipe,
            "device": device,
            "threads": threads,
            "files": files,
            "rows": [{name: row[name][0].tolist() for name in INPUTS} for row in self.rows],
            "outputs": list(self.outputs),
            "batch": {name: self.batch[name].tolist() for name in INPUTS},
            "runs": self.runs,
        }


def prepare(path: Path, runs: int | None = None) -> Job:
    """What a device is asked of a run.

    Args:
        path: The run's folder, or its report.json.
        runs: Timed calls of each file; None for as many as the run timed.

    Raises:
        RecipeError: It is no run's folder, was changed, or ships no ONNX file with recorded answers.
        CompressError: A file in it is damaged.
    """
    run, folder = manifests.locate(path)
    if run is None:
        _refuse(path, "is only what ships", "name the run's folder above it: its report.json takes the results")
    report = reports.read(run)
    if not folder.is_dir():
        _refuse(path, f"has no model/: the run's verdict is {report.verdict}", "run the recipe until it publishes one")
    manifest = manifests.read(folder)
    wrong = [f"{check.subject} {check.message}" for check in manifests.check_files(folder, manifest.files)]
    digest = file_digest(folder / manifests.NAME)
    if report.manifest_sha256 != digest:
        wrong.append(f"{manifests.NAME} is not the one that report.json names")
    if wrong:
        _refuse(path, wrong[0], "`compress verify` lists all that differs", "changed")
    recorded = folder / recorded_answers.FILE
    answers = recorded_answers.read(recorded) if manifest.recorded_rows else None
    files = verify_device.asked(folder, answers) if answers is not None else []
    if answers is None or not files:
        what = "ships no ONNX file with recorded answers"
        _refuse(path, what, "put onnx into the export stage's targets, with verification_rows above 0", "missing")
    measure = {**MeasureSpec().conditions(), **report.measure}
    checkpoint = Checkpoint(folder)
    batch = full_batch({**measure, "vocab_size": checkpoint.vocab_size}, files[0].runtime)
    head = TASKS[manifest.task].HEAD
    outputs = tuple(name for name in head.outputs if name not in (TOKENS, SENTENCE_ORDER))
    rows = _rows(answers, checkpoint, len(files))
    calls = runs or int(measure["runs"])
    return Job(run, manifest, digest, tuple(files), answers, rows, outputs, batch, calls)


def _rows(answers: RecordedAnswers, checkpoint: Checkpoint, files: int) -> tuple[Mapping[str, NDArray[np.int64]], ...]:
    """The recorded rows, one in a batch each.

    A language model has a vocabulary of logits for each token: of it, as many rows as have answers that fit a result.
    """
    rows = TokenRows.of(answers.rows, int(checkpoint.config.get("pad_token_id") or 0))
    every = tuple(rows.batch([index]) for index in range(len(rows)))
    if TASKS[answers.task].HEAD is not MASKED_LM:
        return every
    sizes = np.cumsum(rows.lengths * checkpoint.vocab_size * np.dtype(np.float32).itemsize * _BASE64 * files)
    return every[: max(1, int(np.searchsorted(sizes, MOST_BYTES / 2)))]


def _refuse(path: Path, what: str, hint: str, kind: str = "unsupported") -> NoReturn:
    raise RecipeError([Problem(str(path), what, hint, kind=kind)])
