"""A run's rows: read, split and tokenized once, and kept in the store."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from compressor import tasks
from compressor.data import queries
from compressor.data import splits as data_rows
from compressor.data.columns import values
from compressor.errors import Problem, RecipeError, path_text
from compressor.host import resident_pages
from compressor.measure.parity_inputs import TEXTS_FILE
from compressor.measure.token_rows import INPUTS, LABELS, REFERENCES_FILE, TEXTS, TokenRows
from compressor.models.checkpoint import Checkpoint
from compressor.models.loading import load_tokenizer
from compressor.pipeline.entry import Artifact
from compressor.pipeline.keys import check_unchanged
from compressor.pipeline.plan import Plan
from compressor.pipeline.store import Store
from compressor.progress import Progress
from compressor.tasks import label_names, sentence_similarity
from compressor.tasks.base import GROUPS, References

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase


def load_references(folder: Path) -> References:
    """The arrays that answers are scored against, of an entry of the store."""
    with np.load(folder / REFERENCES_FILE, allow_pickle=False) as arrays:
        return dict(arrays)


class PreparedRows:
    """The rows of a plan.

    Args:
        plan: Names the sources and their keys.
        store: Keeps the prepared data.
        progress: Shows progress.

    Attributes:
        task: The recipe's task.
        labels: Names of the head's outputs, in order.
        data: The files of the rows, and their key.
        notes: Remarks on the rows and their labels, for the report.
        counts: Numbers of rows, by split.

    Raises:
        RecipeError: The rows cannot be learned from or scored, or the checkpoint's head does not fit their labels.
    """

    def __init__(self, plan: Plan, store: Store, progress: Progress) -> None:
        recipe = plan.resolved.recipe
        self.task = tasks.learned_from_rows(recipe.task)
        self.data = plan.data[recipe.task]
        self._plan, self._store, self._progress = plan, store, progress
        self._splits = self._prepare()
        self._check_margins()
        assert plan.model is not None, "a run has its model"
        has_labels = self.task.HEAD.outputs_by_label and not plan.resolved.makes_teacher
        head = Checkpoint(plan.model).labels if has_labels else None
        renamed: dict[str, str] = self._splits.facts["renamed"]
        if head is not None:
            label_names.check_renamed(renamed, head)
        self._label_ids = self.task.label_ids(self._splits.facts["labels"], head)
        self.labels = tuple(head or self._splits.facts["labels"])
        found = self._splits.facts["labels"]
        self.notes = [*self._splits.facts["notes"], *_notes(renamed, found, self._label_ids, head)]
        splits = (data_rows.TRAIN, data_rows.VALIDATION, data_rows.SELECTION)
        self.counts: dict[str, int] = {name: count for name in splits if (count := self._splits.facts.get(name))}

    def _prepare(self) -> Artifact:
        recipe = self._plan.resolved.recipe

        def build(output: Path, work: Path) -> Mapping[str, Any]:
            with self._progress.step("reading the data"):
                facts = data_rows.prepare(
                    self.task.FORM,
                    recipe.data,
                    self.data.train,
                    self.data.validation,
                    tasks.columns(recipe.task, recipe.data),
                    recipe.seed,
                    output,
                    work,
                    new_head=self._plan.resolved.makes_teacher,
                    selects=self.data.selects,
                    raw_text=recipe.data.train is None,
                    retrieval=self.data.retrieval,
                )
            check_unchanged(
                "data.train" if recipe.data.train else "data.corpus", self.data.train, self.data.inputs["train"]
            )
            check_unchanged("data.validation", self.data.validation, self.data.inputs["validation"])
            return facts

        return self._store.build(self.data.inputs, build)[0]

    def _check_margins(self) -> None:
        """Raises RecipeError where a stage learns margins between rows of a query, and there are no two of one."""
        recipe = self._plan.resolved.recipe
        learns = [index for index, stage in enumerate(recipe.stages) if getattr(stage, "alpha_margin", None)]
        if learns and queries.largest(data_rows.load(self._splits.path / data_rows.TRAIN)) < 2:
            what = "is of two rows of one query, and each query of the training rows has one row"
            hint = "drop it, or name as data.query the column that is equal for all rows of a query"
            place = path_text(("stages", learns[0], "alpha_margin"), recipe.stages)
            raise RecipeError([Problem(place, what, hint)], str(self._plan.resolved.path))

    def _encoded(self, rows: Dataset, tokenizer: PreTrainedTokenizerBase, folder: Path, length: int) -> Dataset:
        """Rows as a checkpoint reads them."""
        how = {"embedding": Checkpoint(folder).embedding} if self.task.HEAD.vectors else {}
        return self.task.encode(rows, tokenizer, length, self._label_ids, self._plan.resolved.recipe.data, **how)

    def _texts(self, rows: Dataset, checkpoint: Checkpoint) -> list[Sequence[str]]:
        """The texts that a file which holds its tokenizer is given: a column or two, where rows are of texts."""
        if self.task.HEAD.vectors:
            return [sentence_similarity.prompted(rows[:], checkpoint.embedding)]
        return [list(values(rows, name)) for name in TEXTS if name in rows.column_names]

    @property
    def held_out(self) -> Callable[[PreTrainedTokenizerBase, Path, int], Dataset] | None:
        """Training rows to choose thresholds on, as `tokenized` has the others; None where none are chosen."""
        wanted = self._plan.resolved.recipe.data.tune_thresholds and data_rows.SELECTION in self.counts
        return partial(self.tokenized, split=data_rows.SELECTION) if wanted else None

    def tokenized(
        self, tokenizer: PreTrainedTokenizerBase, folder: Path, length: int, split: str = data_rows.TRAIN
    ) -> Dataset:
        """The training rows as a tokenizer reads them, memory-mapped.

        Args:
            tokenizer: The tokenizer.
            folder: The checkpoint it is of.
            length: Tokens a row is cut to.
            split: Other rows, instead.
        """

        def build(output: Path, work: Path) -> Mapping[str, Any]:
            rows = data_rows.load(self._splits.path / split)
            with self._progress.step(f"tokenizing {len(rows)} rows"):
                encoded = resident_pages.watched(self._encoded(rows, tokenizer, folder, length))
                data_rows.save(encoded, output / "rows")
            return {}

        entry, _ = self._store.build(self._inputs(Checkpoint(folder), split, length), build)
        return data_rows.load(entry.path / "rows")

    def validation(self, folder: Path) -> tuple[Path, References]:
        """The validation rows as a checkpoint's own tokenizer reads them.

        Returns:
            The file of `TokenRows`, and the right answers.
        """
        return self._scored(folder, data_rows.VALIDATION)

    def selection(self, folder: Path) -> tuple[Path, References]:
        """Rows that choose between variants of a model, at most as many as there are validation rows.

        The rows that judge it must not have chosen it: a gate would be held to the best of several measurements. Nor
        should those that taught it, which hide what a variant loses; where nothing is trained, they are training rows.
        """
        return self._scored(folder, data_rows.SELECTION if data_rows.SELECTION in self.counts else data_rows.TRAIN)

    def validation_texts(self) -> Iterable[tuple[str, ...]]:
        """The texts of each validation row."""
        return self.task.FORM.identities(data_rows.load(self._splits.path / data_rows.VALIDATION))

    def _scored(self, folder: Path, split: str) -> tuple[Path, References]:
        checkpoint = Checkpoint(folder)
        length = checkpoint.max_sequence_length()

        def build(output: Path, work: Path) -> Mapping[str, Any]:
            tokenizer = load_tokenizer(folder)
            train = data_rows.load(self._splits.path / data_rows.TRAIN)
            rows = data_rows.load(self._splits.path / split)
            most = max(self.counts[data_rows.VALIDATION], queries.largest(rows))
            rows = data_rows.sample(rows, most, self._plan.resolved.recipe.seed)
            with self._progress.step(f"tokenizing {len(rows)} rows"):
                encoded = self._encoded(rows, tokenizer, folder, length)
                names = {name: name for name in INPUTS if name in encoded.column_names}
                if self.task.TOKEN_LABELS is not None:
                    names[LABELS] = self.task.TOKEN_LABELS
                columns = zip(*(values(encoded, column) for column in names.values()), strict=True)
                lists = [dict(zip(names, row, strict=True)) for row in columns]
                TokenRows.of(lists, tokenizer.pad_token_id or 0).save(output / "rows.npz")
                if texts := self._texts(rows, checkpoint):
                    lines = json.dumps(list(zip(*texts, strict=True)), ensure_ascii=False)
                    (output / TEXTS_FILE).write_text(lines, encoding="utf-8")
                references: dict[str, Any] = dict(self.task.references(rows, encoded, self._label_ids, train))
                groups = np.unique(list(data_rows.groups(self.task.FORM, rows)), return_inverse=True)[1]
                references[GROUPS] = groups
                np.savez(output / REFERENCES_FILE, **references)
            return {}

        # The same split is stored as tokens for training, too.
        inputs = {**self._inputs(checkpoint, split, length), "kind": "scored rows"}
        entry, _ = self._store.build(inputs, build)
        return entry.path / "rows.npz", load_references(entry.path)

    def _inputs(self, checkpoint: Checkpoint, split: str, length: int) -> dict[str, Any]:
        return {
            "kind": "tokens",
            "split": split,
            "data": self.data.key,
            "tokenizer": checkpoint.tokenizer_digest(),
            "length": length,
            "label_ids": self._label_ids,
            **({"embedding": checkpoint.embedding.settings()} if self.task.HEAD.vectors else {}),
        }


def _notes(
    renamed: Mapping[str, str], labels: Sequence[str], label_ids: Mapping[str, int], head: Sequence[str] | None
) -> list[str]:
    """Which label of a head each label of the data is taken for, where the names differ; and labels without rows."""
    found = [f"{label!r} is {other!r} (data.labels)" for label, other in renamed.items()]
    if head is not None:
        found += [f"{label!r} is {head[index]!r}" for label, index in label_ids.items() if head[index] != label]
    notes = [f"labels: {', '.join(found)}"] if found else []
    used = {label_ids[label] for label in labels}
    if head and used and (unused := [name for i, name in enumerate(head) if i not in used]):
        notes.append(f"no row has these labels of the head: {', '.join(map(repr, unused[:10]))}")
    return notes
