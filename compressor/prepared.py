"""A run's rows and its corpus: read, split and tokenized once, and kept in the store."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from compressor import tasks
from compressor.checkpoint import Checkpoint, load_tokenizer, splitting_digest
from compressor.data import corpus, packing, pairs
from compressor.data import rows as data_rows
from compressor.data.masking import Vocabulary, mask
from compressor.fingerprint import code_digest, versions
from compressor.measure.rows import INPUTS, LABELS, NO_LABEL, TokenRows
from compressor.plan import Data, Plan, score_length
from compressor.progress import Progress
from compressor.recipe import MASKED_LM
from compressor.store import Entry, Store

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase


_VALIDATION_MASK = 0.15
_REFERENCES = "references.npz"


class Prepared(Protocol):
    """What a task of a plan learns from and is scored on."""

    @property
    def task(self) -> tasks.Scoring:
        """How answers are scored."""

    @property
    def task_code(self) -> str:
        """Digest of the code that makes tokens of the data."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the head's outputs, in order."""

    @property
    def data(self) -> Data:
        """Where the data is."""

    def validation(self, folder: Path) -> tuple[Path, tasks.References]:
        """The validation rows as a checkpoint's tokenizer reads them (`TokenRows`), and what answers are scored by."""


def _references(folder: Path) -> tasks.References:
    with np.load(folder / _REFERENCES, allow_pickle=False) as arrays:
        return dict(arrays)


def prepare(plan: Plan, task: str, store: Store, progress: Progress) -> PreparedRows | PreparedCorpus:
    """What a task of a plan learns from."""
    return (PreparedCorpus if task == MASKED_LM else PreparedRows)(plan, store, progress)


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
        data: Where the rows are.
        counts: Numbers of training and validation rows, by split.

    Raises:
        RecipeError: The rows cannot be learned from or scored, or the checkpoint's head does not fit them.
    """

    def __init__(self, plan: Plan, store: Store, progress: Progress) -> None:
        recipe = plan.resolved.recipe
        self.task = tasks.get(recipe.task)
        self.task_code = code_digest(tasks.module_name(recipe.task), "compressor.measure.rows")
        self.data = plan.data[recipe.task]
        self._plan, self._store, self._progress = plan, store, progress
        self._splits = self._prepare()
        assert plan.model is not None, "a run has its model"
        head = None if plan.resolved.makes_teacher else Checkpoint(plan.model).labels
        self._label_ids = self.task.label_ids(self._splits.facts["labels"], head)
        self.labels = tuple(head or self._splits.facts["labels"])
        splits = (data_rows.TRAIN, data_rows.VALIDATION)
        self.counts: dict[str, int] = {name: self._splits.facts[name] for name in splits}

    def _prepare(self) -> Entry:
        recipe = self._plan.resolved.recipe

        def build(output: Path, work: Path) -> Mapping[str, Any]:
            with self._progress.step("reading the data"):
                return data_rows.prepare(
                    recipe.task,
                    recipe.data,
                    self.data.train,
                    self.data.validation,
                    self.task.columns(recipe.data),
                    recipe.seed,
                    output,
                    work,
                )

        return self._store.build(self.data.inputs, build)[0]

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
                encoded = self.task.encode(rows, tokenizer, length, self._label_ids, self._plan.resolved.recipe.data)
                encoded.save_to_disk(str(output / "rows"))
            return {}

        entry, _ = self._store.build(self._inputs(Checkpoint(folder), data_rows.TRAIN, length), build)
        return data_rows.load(entry.path / "rows")

    def validation(self, folder: Path) -> tuple[Path, tasks.References]:
        """The validation rows as a checkpoint's own tokenizer, which ships with it, reads them.

        Returns:
            The file of `TokenRows`, and what answers are scored by.
        """
        checkpoint = Checkpoint(folder)
        length = checkpoint.max_sequence_length()

        def build(output: Path, work: Path) -> Mapping[str, Any]:
            tokenizer = load_tokenizer(folder)
            rows = data_rows.load(self._splits.path / data_rows.VALIDATION)
            with self._progress.step(f"tokenizing {len(rows)} rows"):
                encoded = self.task.encode(rows, tokenizer, length, self._label_ids, self._plan.resolved.recipe.data)
                names = {name: name for name in INPUTS if name in encoded.column_names}
                if self.task.TOKEN_LABELS is not None:
                    names[LABELS] = self.task.TOKEN_LABELS
                columns = zip(*(encoded[column] for column in names.values()), strict=True)
                lists = [dict(zip(names, row, strict=True)) for row in columns]
                TokenRows.of(lists, tokenizer.pad_token_id or 0).save(output / "rows.npz")
                references: dict[str, Any] = dict(self.task.references(rows, encoded, self._label_ids))
                np.savez(output / _REFERENCES, **references)
            return {}

        entry, _ = self._store.build(self._inputs(checkpoint, data_rows.VALIDATION, length), build)
        return entry.path / "rows.npz", _references(entry.path)

    def _inputs(self, checkpoint: Checkpoint, split: str, length: int) -> dict[str, Any]:
        return {
            "kind": "tokens",
            "split": split,
            "data": self.data.key,
            "tokenizer": checkpoint.tokenizer_digest(),
            "length": length,
            "label_ids": self._label_ids,
            "code": self.task_code,
            "versions": versions(("tokenizers", "transformers")),
        }


class PreparedCorpus:
    """The corpus of a plan, packed into sequences.

    Args:
        plan: Names the corpus and its key.
        store: Keeps what is prepared.
        progress: Tells the user.

    Attributes:
        task: The masked-lm task.
        task_code: Digest of the code that makes sequences of texts.
        labels: None: a language model chooses among tokens.
        data: Where the corpus is.
    """

    labels: tuple[str, ...] = ()

    def __init__(self, plan: Plan, store: Store, progress: Progress) -> None:
        self.task = tasks.scoring(MASKED_LM)
        self.task_code = code_digest("compressor.data.packing", "compressor.data.masking", "compressor.measure.rows")
        self.data = plan.data[MASKED_LM]
        self._recipe, self._store, self._progress = plan.resolved.recipe, store, progress
        spec = self._recipe.data.corpus_spec
        assert spec is not None, "a plan with a corpus has it in the recipe"
        self._spec = spec

    def packed(self, tokenizer: PreTrainedTokenizerBase, length: int) -> Path:
        """The corpus as sequences of one length: a folder, see `compressor.data.packing.pack`.

        Args:
            tokenizer: The tokenizer.
            length: Tokens of a sequence, special tokens included.
        """
        spec = self._spec

        def build(output: Path, work: Path) -> Mapping[str, Any]:
            texts = corpus.texts(self.data.train, spec)
            with self._progress.step("packing the corpus") as step:
                return packing.pack(texts, spec, tokenizer, length, spec.validation_fraction, output, step.update)

        return self._store.build(self._inputs(tokenizer, length), build)[0].path

    def validation(self, folder: Path) -> tuple[Path, tasks.References]:
        """Held-out sequences, masked once and for all: every checkpoint of the run guesses the same tokens.

        Returns:
            The file of `TokenRows`, and the right order of each pair of segments; nothing where there are no pairs.
        """
        checkpoint = Checkpoint(folder)
        tokenizer = load_tokenizer(folder)
        length = min(score_length(self._recipe), checkpoint.max_position_embeddings)
        packed = self.packed(tokenizer, length)
        seed, wanted = self._recipe.seed, self._spec.max_validation_sequences

        def build(output: Path, work: Path) -> Mapping[str, Any]:
            path = packed / packing.VALIDATION
            tokens = np.load(path, mmap_mode="r")
            chosen = np.sort(np.random.default_rng(seed).permutation(len(tokens))[:wanted])
            tokens = np.asarray(tokens[chosen])
            vocabulary = Vocabulary.of(tokenizer)
            masked = mask(tokens, vocabulary, probability=_VALIDATION_MASK, whole_words=False, seed=(seed, len(tokens)))
            labels = np.full(tokens.shape, NO_LABEL, dtype=np.int64)
            rows, slots = np.nonzero(masked.positions >= 0)
            labels[rows, masked.positions[rows, slots]] = masked.labels(tokens)[rows, slots]
            padding = tokenizer.pad_token_id or 0
            columns = {"input_ids": masked.apply(tokens), LABELS: labels}
            order = np.zeros(0, dtype=np.int64)
            if self._spec.sentence_order:
                second = np.load(pairs.second_file(path), mmap_mode="r")[chosen]
                columns["token_type_ids"] = pairs.token_types(tokens, second, padding)
                order = np.load(pairs.order_file(path), mmap_mode="r")[chosen].astype(np.int64)
            lengths = (tokens != padding).sum(axis=1)
            lists = [
                {name: values[row, :length].tolist() for name, values in columns.items()}
                for row, length in enumerate(lengths)
            ]
            TokenRows.of(lists, padding).save(output / "rows.npz")
            np.savez(output / _REFERENCES, order=order)
            return {"sequences": len(tokens)}

        inputs = {"kind": "masked", "sequences": self._inputs(tokenizer, length), "seed": seed, "wanted": wanted}
        entry, _ = self._store.build({**inputs, "code": self.task_code}, build)
        return entry.path / "rows.npz", _references(entry.path)

    def _inputs(self, tokenizer: PreTrainedTokenizerBase, length: int) -> dict[str, Any]:
        return {
            "kind": "sequences",
            "data": self.data.key,
            "tokenizer": splitting_digest(tokenizer),
            "length": length,
            "code": self.task_code,
            "versions": versions(("tokenizers", "transformers")),
        }
