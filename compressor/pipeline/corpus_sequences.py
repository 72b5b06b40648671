"""A run's corpus: packed into sequences once, and kept in the store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from compressor import tasks
from compressor.data.corpus import packing, seen, sentence_pairs, stream
from compressor.data.corpus.masking import Vocabulary, mask
from compressor.measure.token_rows import LABELS, REFERENCES_FILE, TokenRows
from compressor.models.checkpoint import Checkpoint
from compressor.models.loading import load_tokenizer
from compressor.models.outputs import NO_LABEL
from compressor.models.tokenizer_files import splitting_digest
from compressor.pipeline.keys import check_unchanged
from compressor.pipeline.plan import Plan
from compressor.pipeline.plan_data import score_length
from compressor.pipeline.store import Store
from compressor.pipeline.task_rows import load_references
from compressor.progress import Progress
from compressor.tasks import MASKED_LM
from compressor.tasks.base import References

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


_VALIDATION_MASK = 0.15


class PreparedCorpus:
    """The corpus of a plan, packed into sequences.

    Args:
        plan: Names the corpus and its key.
        store: Keeps the prepared data.
        progress: Shows progress.

    Attributes:
        task: The masked-lm task.
        labels: None: a language model chooses among tokens.
        notes: Remarks on the corpus, for the report.
        data: Where the corpus is.
    """

    labels: tuple[str, ...] = ()

    def __init__(self, plan: Plan, store: Store, progress: Progress) -> None:
        self.task = tasks.TASKS[MASKED_LM]
        self.data = plan.data[MASKED_LM]
        self.notes: Sequence[str] = ()
        self._recipe, self._store, self._progress = plan.resolved.recipe, store, progress
        spec = self._recipe.data.corpus_spec
        assert spec is not None, "a plan with a corpus has it in the recipe"
        self._spec = spec

    def packed(self, tokenizer: PreTrainedTokenizerBase, length: int) -> Path:
        """The corpus as sequences of one length: a folder, see `compressor.data.corpus.packing.pack`.

        Args:
            tokenizer: The tokenizer.
            length: Tokens of a sequence, special tokens included.
        """
        spec = self._spec

        def build(output: Path, work: Path) -> Mapping[str, Any]:
            texts = stream.texts(self.data.train, spec)
            with self._progress.step("packing the corpus") as step:
                fraction, selects = spec.validation_fraction, self.data.selects
                facts = packing.pack(texts, spec, tokenizer, length, fraction, output, step.update, selects=selects)
            check_unchanged("data.corpus", self.data.train, self.data.inputs["corpus"])
            return facts

        return self._store.build(self._inputs(tokenizer, length), build)[0].path

    def compare(self, rows: Iterable[tuple[str, ...]], folder: Path) -> None:
        """Notes how many validation rows have a text that is trained on.

        Args:
            rows: The texts of each row.
            folder: A checkpoint, whose tokenizer the corpus is packed for anyway.
        """
        packed = self.packed(load_tokenizer(folder), self._score_length(folder))
        self.notes = seen.overlap(rows, packed / seen.SEEN_FILE, stream.PLACE)

    def validation(self, folder: Path) -> tuple[Path, References]:
        """Held-out sequences, masked once, so that every checkpoint of the run is scored on the same tokens.

        Returns:
            The file of `TokenRows`, and the right order of each pair of segments; nothing where there are no pairs.
        """
        return self._scored(folder, packing.VALIDATION)

    def selection(self, folder: Path) -> tuple[Path, References]:
        """Sequences, masked once, which choose between variants of a model that others taught and others judge.

        Where nothing is trained, and where none could be held out, they are training sequences.
        """
        held_out = self.packed(load_tokenizer(folder), self._score_length(folder)) / packing.SELECTION
        found = held_out.is_file() and len(np.load(held_out, mmap_mode="r"))
        return self._scored(folder, packing.SELECTION if found else packing.TRAIN)

    def _scored(self, folder: Path, side: str) -> tuple[Path, References]:
        tokenizer, length = load_tokenizer(folder), self._score_length(folder)
        packed = self.packed(tokenizer, length)
        seed, wanted = self._recipe.seed, self._spec.max_validation_sequences

        def build(output: Path, work: Path) -> Mapping[str, Any]:
            path = packed / side
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
                second = np.load(sentence_pairs.second_file(path), mmap_mode="r")[chosen]
                columns["token_type_ids"] = sentence_pairs.token_types(tokens, second, padding)
                order = np.load(sentence_pairs.order_file(path), mmap_mode="r")[chosen].astype(np.int64)
            lengths = (tokens != padding).sum(axis=1)
            lists = [
                {name: values[row, :length].tolist() for name, values in columns.items()}
                for row, length in enumerate(lengths)
            ]
            TokenRows.of(lists, padding).save(output / "rows.npz")
            np.savez(output / REFERENCES_FILE, order=order)
            return {"sequences": len(tokens)}

        inputs = {"kind": "masked", "sequences": self._inputs(tokenizer, length), "seed": seed, "wanted": wanted}
        inputs["side"] = side
        entry, _ = self._store.build(inputs, build)
        return entry.path / "rows.npz", load_references(entry.path)

    def _score_length(self, folder: Path) -> int:
        """Tokens of the sequences that a checkpoint is scored on."""
        return min(score_length(self._recipe), Checkpoint(folder).max_position_embeddings)

    def _inputs(self, tokenizer: PreTrainedTokenizerBase, length: int) -> dict[str, Any]:
        return {
            "kind": "sequences",
            "data": self.data.key,
            "tokenizer": splitting_digest(tokenizer),
            "length": length,
        }
