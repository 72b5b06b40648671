"""The prepared data of a task: its rows, or its corpus."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from compressor.pipeline.corpus_sequences import PreparedCorpus
from compressor.pipeline.plan import Plan
from compressor.pipeline.plan_data import Data
from compressor.pipeline.store import Store
from compressor.pipeline.task_rows import PreparedRows
from compressor.progress import Progress
from compressor.tasks import MASKED_LM
from compressor.tasks.base import References, Scoring


class Prepared(Protocol):
    """The data that a task of a plan learns from and is scored on."""

    @property
    def task(self) -> Scoring:
        """How answers are scored."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the head's outputs, in order."""

    @property
    def notes(self) -> Sequence[str]:
        """Remarks on the data, for the report."""

    @property
    def data(self) -> Data:
        """The files of the data, and their key."""

    def validation(self, folder: Path) -> tuple[Path, References]:
        """The file of validation rows as a checkpoint's tokenizer reads them (`TokenRows`), and the right answers."""

    def selection(self, folder: Path) -> tuple[Path, References]:
        """The same of rows that choose between variants of a checkpoint, held out of training if there is any."""


def prepare(plan: Plan, task: str, store: Store, progress: Progress) -> PreparedRows | PreparedCorpus:
    """Reads and splits the data of a task."""
    return (PreparedCorpus if task == MASKED_LM else PreparedRows)(plan, store, progress)
