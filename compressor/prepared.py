"""A run's rows: read, split and tokenized once, and kept in the store."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from compressor import tasks
from compressor.checkpoint import Checkpoint, load_tokenizer
from compressor.data import rows as data_rows
from compressor.fingerprint import code_digest, versions
from compressor.measure.rows import INPUTS, TokenRows
from compressor.plan import Plan
from compressor.progress import Progress
from compressor.store import Entry, Store

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase


class PreparedRows:
    """The rows of a plan.

    Args:
        plan: Names the sources and their keys.
        store: Keeps what is prepared.
        progress: Tells the user.

    Attributes:
        task: The recipe's task.
        task_code: Digest of the code that makes tokens of rows.
        labels: Names of the head's outputs, in order.

    Raises:
        RecipeError: The rows cannot be learned from or scored, or the checkpoint's head does not fit them.
    """

    def __init__(self, plan: Plan, store: Store, progress: Progress) -> None:
        recipe = plan.resolved.recipe
        self.task = tasks.get(recipe.task)
        self.task_code = code_digest(f"compressor.tasks.{recipe.task.replace('-', '_')}", "compressor.measure.rows")
        self._plan, self._store, self._progress = plan, store, progress
        self._splits = self._prepare()
        assert plan.model is not None, "a run has its model"
        head = None if plan.resolved.makes_teacher else Checkpoint(plan.model).labels
        self._label_ids = self.task.label_ids(self._splits.facts["labels"], head)
        self.labels = tuple(head or self._splits.facts["labels"])

    def _prepare(self) -> Entry:
        recipe = self._plan.resolved.recipe

        def build(output: Path, work: Path) -> Mapping[str, Any]:
            with self._progress.step("reading the data"):
                return data_rows.prepare(
                    recipe.data,
                    self._plan.train,
                    self._plan.validation,
                    self.task.columns(recipe.data),
                    recipe.seed,
                    output,
                    work,
                )

        return self._store.build(self._plan.data_inputs, build)[0]

    def tokenized(self, tokenizer: PreTrainedTokenizerBase, folder: Path, length: int) -> Dataset:
        """The training rows as a tokenizer reads them, memory-mapped.

        Args:
            tokenizer: The tokenizer.
            folder: The checkpoint it is of.
            length: Tokens a row is cut to.
        """

        def build(output: Path, work: Path) -> Mapping[str, Any]:
            rows = data_rows.load(self._splits.path / data_rows.TRAIN)
            with self._progress.step(f"tokenizing {len(rows)} rows"):
                encoded = self.task.encode(rows, tokenizer, length, self._label_ids)
                encoded.save_to_disk(str(output / "rows"))
            return {}

        entry, _ = self._store.build(self._inputs(Checkpoint(folder), data_rows.TRAIN, length), build)
        return data_rows.load(entry.path / "rows")

    def validation(self, folder: Path) -> tuple[Path, NDArray[np.int64]]:
        """The validation rows as a checkpoint's own tokenizer, which ships with it, reads them.

        Returns:
            The file of `TokenRows`, and the right label of each row.
        """
        checkpoint = Checkpoint(folder)
        length = checkpoint.max_sequence_length()

        def build(output: Path, work: Path) -> Mapping[str, Any]:
            tokenizer = load_tokenizer(folder)
            rows = data_rows.load(self._splits.path / data_rows.VALIDATION)
            with self._progress.step(f"tokenizing {len(rows)} rows"):
                encoded = self.task.encode(rows, tokenizer, length, self._label_ids)
                names = [name for name in INPUTS if name in encoded.column_names]
                columns = zip(*(encoded[name] for name in names), strict=True)
                lists = [dict(zip(names, row, strict=True)) for row in columns]
                TokenRows.of(lists, tokenizer.pad_token_id or 0).save(output / "rows.npz")
                np.save(output / "references.npy", np.asarray(encoded["labels"], dtype=np.int64))
            return {}

        entry, _ = self._store.build(self._inputs(checkpoint, data_rows.VALIDATION, length), build)
        return entry.path / "rows.npz", np.load(entry.path / "references.npy", allow_pickle=False)

    def _inputs(self, checkpoint: Checkpoint, split: str, length: int) -> dict[str, Any]:
        return {
            "kind": "tokens",
            "split": split,
            "data": self._plan.data_key,
            "tokenizer": checkpoint.tokenizer_digest(),
            "length": length,
            "label_ids": self._label_ids,
            "code": self.task_code,
            "versions": versions(("tokenizers", "transformers")),
        }
