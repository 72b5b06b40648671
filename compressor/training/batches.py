"""Training rows as batches: the task's rows padded to the longest, or masked sequences of a corpus."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from compressor.data.columns import numbers
from compressor.data.corpus import sentence_pairs
from compressor.data.corpus.masking import Masked
from compressor.data.queries import QUERY
from compressor.files import gather, gather_spans
from compressor.models.outputs import NO_LABEL
from compressor.training.sequences import Ints, Sequences

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

_ROWS_AT_ONCE = 4096

LOGITS, TOKEN_LOGITS = "logits.npy", "token_logits.npy"
"""Files of a teacher's logits: one line per row, or one per token of all rows."""

Batch = dict[str, Any]


class RowBatches:
    """A task's rows, tokenized.

    Args:
        rows: Token ids, `length` and `labels`.
        tokenizer: Pads the batches.
        names: The model's inputs.
        answers: A teacher's answers.
        token_labels: Whether each token has a label, and not the row.
        by_query: Whether rows of one query come together, and batches have a `query`.

    Attributes:
        lengths: Tokens of each row.
        queries: Where rows of one query come together, a number for each row, equal for those of one; else None.
        mean_length: Tokens of a row, on average.
        maskings: How often each row is among the rows.
    """

    maskings = 1

    def __init__(
        self,
        rows: Dataset,
        tokenizer: PreTrainedTokenizerBase,
        names: Sequence[str],
        answers: Answers | None = None,
        token_labels: bool = False,
        by_query: bool = False,
    ) -> None:
        self.lengths = numbers(rows, "length", np.int32)
        self.queries: Ints | None = numbers(rows, QUERY, np.int64) if by_query else None
        self.mean_length = float(self.lengths.mean())
        self._rows, self._tokenizer = rows, tokenizer
        self._names = [name for name in names if name in rows.column_names]
        self._answers, self._token_labels = answers, token_labels
        self._tokens = self._padded = 0

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def padding(self) -> float:
        """Share of padding among the tokens of the batches so far."""
        return self._padded / max(1, self._tokens)

    def batch(self, rows: list[int]) -> Batch:
        """The model's inputs `(batch, sequence)`, the rows' `labels`, and the teacher's answers.

        There is one label for a row `(batch,)`, two for a question `(batch, 2)`, or one for each token
        `(batch, sequence)`, -100 where there is none.
        """
        chunk = self._rows[rows]
        batch: Batch = dict(self._tokenizer.pad({name: chunk[name] for name in self._names}, return_tensors="pt"))
        labels = chunk["labels"]
        if self._token_labels:
            width = batch["input_ids"].shape[1]
            labels = [row + [NO_LABEL] * (width - len(row)) for row in labels]
        batch["labels"] = torch.tensor(labels)
        size = batch["input_ids"].numel()
        self._tokens += size
        self._padded += size - int(self.lengths[rows].sum())
        if self.queries is not None:
            batch[QUERY] = torch.from_numpy(self.queries[rows])
        if self._answers:
            batch.update(self._answers.of(np.asarray(rows), batch["input_ids"].shape[1]))
        return batch

    def token_ids(self) -> Iterator[list[Ints]]:
        """The tokens of every row, some rows at a time."""
        for chunk in self._rows.with_format("numpy").iter(_ROWS_AT_ONCE):
            yield list(chunk["input_ids"])

    def token_counts(self, vocabulary: int) -> torch.Tensor:
        """How often each token occurs in the rows. `(vocabulary,)`."""
        counts = np.zeros(vocabulary, dtype=np.int64)
        for rows in self.token_ids():
            counts += np.bincount(np.concatenate(rows), minlength=vocabulary)
        return torch.from_numpy(counts)


class Answers:
    """A teacher's outputs for each row: logits, and hidden states and attention of some of its layers.

    Args:
        folder: What `compressor.training.teacher_outputs.write_answers` left.
        hidden: Layers whose hidden states are read; None for all that the folder has.
    """

    def __init__(self, folder: Path, hidden: Sequence[int] | None = None) -> None:
        self._folder = folder
        self._layers = {
            name: sorted(int(path.stem.removeprefix(f"{name}_layer")) for path in folder.glob(f"{name}_layer*.npy"))
            for name in ("hidden", "attention")
        }
        if hidden is not None:
            self._layers["hidden"] = sorted(set(hidden))

    def of(self, rows: Ints, width: int) -> Batch:
        """`teacher_logits`, `teacher_hidden` `(layers, batch, width, hidden)` and `teacher_attention`.

        Logits are `(batch, labels)` or `(batch, width, channels)`. Padding is zero.
        """
        found: Batch = {"teacher_logits": torch.from_numpy(self._logits(rows, width))}
        if self._layers["hidden"]:
            layers = [self._padded("hidden", layer, rows, width) for layer in self._layers["hidden"]]
            found["teacher_hidden"] = torch.from_numpy(np.stack(layers))
        if self._layers["attention"]:
            layers = [self._attention(layer, rows, width) for layer in self._layers["attention"]]
            found["teacher_attention"] = torch.from_numpy(np.stack(layers))
        return found

    def _logits(self, rows: Ints, width: int) -> NDArray[np.float32]:
        if (self._folder / LOGITS).is_file():
            return np.asarray(gather(self._folder / LOGITS, rows), dtype=np.float32)
        return _in_rows(gather_spans(self._folder / TOKEN_LOGITS, *self._spans("hidden", rows)), width)

    def _spans(self, name: str, rows: Ints) -> tuple[Ints, Ints]:
        """Where the rows' values start, and how many they are."""
        starts, lengths = gather(self._folder / f"{name}_spans.npy", rows).T
        return starts, lengths

    def _read(self, name: str, layer: int, rows: Ints) -> list[NDArray[Any]]:
        return gather_spans(self._folder / f"{name}_layer{layer}.npy", *self._spans(name, rows))

    def _padded(self, name: str, layer: int, rows: Ints, width: int) -> NDArray[np.float32]:
        return _in_rows(self._read(name, layer, rows), width)

    def _attention(self, layer: int, rows: Ints, width: int) -> NDArray[np.float32]:
        """`(batch, heads, width, width)` of spans that hold `(heads, n, n)` end to end."""
        spans = self._read("attention", layer, rows)
        _, lengths = self._spans("hidden", rows)
        heads = len(spans[0]) // int(lengths[0]) ** 2
        padded = np.zeros((len(rows), heads, width, width), dtype=np.float32)
        for index, (span, n) in enumerate(zip(spans, lengths, strict=True)):
            padded[index, :, :n, :n] = span.reshape(heads, n, n)
        return padded


def _in_rows(spans: list[NDArray[Any]], width: int) -> NDArray[np.float32]:
    """Values of tokens as `(rows, width, …)`, zero behind the last."""
    padded = np.zeros((len(spans), width, *spans[0].shape[1:]), dtype=np.float32)
    for index, span in enumerate(spans):
        padded[index, : len(span)] = span
    return padded


class MaskedBatches:
    """Sequences under one or more maskings, which count as rows of their own.

    Args:
        sequences: The sequences.
        maskings: Folders with `positions.npy` and `inputs.npy`, see `compressor.training.masked_corpus.write_masking`.
        targets: For each masking a folder with a teacher's answers, see `teacher_outputs.write_targets`.

    Attributes:
        queries: Of pairs in both orders, a number for each row, equal for the two orders of a pair: they come together,
            so that their gradients leave what the text is about out.
    """

    lengths = None

    def __init__(self, sequences: Sequences, maskings: Sequence[Path], targets: Sequence[Path] = ()) -> None:
        self.maskings, self.mean_length = len(maskings), float(sequences.length)
        self._sequences, self._maskings, self._targets = sequences, maskings, targets
        self._files = sorted(path.name for path in targets[0].glob("*.npy")) if targets else []
        self.queries: Ints | None = None
        if sequences.pairs and len(maskings) > 1:
            masking, row = np.divmod(np.arange(len(self)), len(sequences))
            self.queries = masking // 2 * len(sequences) + row
        self._tokens = self._padded = 0

    @property
    def padding(self) -> float:
        """Share of padding among the tokens of the batches so far."""
        return self._padded / max(1, self._tokens)

    def __len__(self) -> int:
        return len(self._sequences) * len(self._maskings)

    def token_counts(self, vocabulary: int) -> torch.Tensor:
        """How often each token occurs in the sequences, nothing hidden. `(vocabulary,)`."""
        counts = np.zeros(vocabulary, dtype=np.int64)
        for start in range(0, len(self._sequences), _ROWS_AT_ONCE):
            rows = np.arange(start, min(start + _ROWS_AT_ONCE, len(self._sequences)))
            counts += np.bincount(self._sequences.tokens(rows).ravel(), minlength=vocabulary)
        counts[self._sequences.pad_token_id] = 0  # padding is read by nobody
        return torch.from_numpy(counts)

    def batch(self, rows: list[int]) -> Batch:
        """Sequences with their tokens hidden.

        Returns:
            `input_ids` and `attention_mask` `(batch, length)`; of the hidden tokens, in the order of the batch, `row`,
            `column` and the right `labels` `(hidden,)`; the teacher's targets, `(hidden, …)`, or `(batch, …)` for the
            first token of each sequence; and of pairs `token_type_ids` `(batch, length)` and, 0 for segments in order
            and 1 for swapped ones, `order` `(batch,)`.
        """
        masking, row = np.divmod(np.asarray(rows, dtype=np.int64), len(self._sequences))
        parts = [self._part(int(index), row[masking == index]) for index in np.unique(masking)]
        arrays = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        arrays["row"] = np.repeat(np.arange(len(rows)), arrays.pop("count"))
        mask = arrays["attention_mask"]
        self._tokens += mask.size
        self._padded += mask.size - int(mask.sum())
        return {name: torch.from_numpy(array) for name, array in arrays.items()}

    def _part(self, index: int, rows: Ints) -> Mapping[str, NDArray[Any]]:
        sequences, pairs = self._sequences.under(index), self._sequences.pairs
        tokens, second, order = sequences.segments(rows) if pairs else (sequences.tokens(rows), None, None)
        folder = self._maskings[index]
        masked = Masked(gather(folder / "positions.npy", rows), gather(folder / "inputs.npy", rows))
        hidden = masked.positions >= 0
        part: dict[str, NDArray[Any]] = {
            "input_ids": masked.apply(tokens),
            "attention_mask": (tokens != self._sequences.pad_token_id).astype(np.int64),
            "column": masked.positions[hidden].astype(np.int64),
            "labels": masked.labels(tokens)[hidden],
            "count": hidden.sum(axis=1),
        }
        if second is not None and order is not None:
            part["token_type_ids"] = sentence_pairs.token_types(tokens, second, sequences.pad_token_id)
            part["order"] = order
        for file in self._files:
            values = gather(self._targets[index] / file, rows)
            kept = values if file.startswith("first_") else values[hidden]
            part[file.removesuffix(".npy")] = kept.astype(np.int64 if kept.dtype.kind in "iu" else np.float32)
        return part
