"""Rows of tokens as plain arrays, which a measuring process can read without a tokenizer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compressor.models.outputs import NO_LABEL

Ints = NDArray[np.int64]

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
TEXTS = ("text", "text_pair")
"""Inputs of a file that holds its tokenizer, and the columns of rows that it can take."""
LABELS = "labels"

REFERENCES_FILE = "references.npz"
"""Beside a file of rows: the arrays that answers to them are scored against."""

_FILL = {"attention_mask": 1, "token_type_ids": 0, LABELS: NO_LABEL}


@dataclass(frozen=True)
class TokenRows:
    """Rows of different lengths, end to end.

    Attributes:
        tokens: `input_ids`, `attention_mask`, `token_type_ids` and `labels` (of each token, -100 for none), all rows
            concatenated. `(tokens,)` each.
        starts: Where each row starts, and the end. `(rows + 1,)`.
        pad_token_id: Fills the gap to a batch's longest row.
    """

    tokens: dict[str, Ints]
    starts: Ints
    pad_token_id: int

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def lengths(self) -> Ints:
        """Tokens of each row. `(rows,)`."""
        return np.diff(self.starts)

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, Sequence[int]]], pad_token_id: int) -> TokenRows:
        """Rows from lists; a missing `attention_mask` is all ones, `token_type_ids` zeros, and there are no labels."""
        lengths = [len(row["input_ids"]) for row in rows]
        tokens = {
            name: np.array(
                [
                    token
                    for row, length in zip(rows, lengths, strict=True)
                    for token in (row[name] if name in row else [_FILL[name]] * length)
                ],
                dtype=np.int64,
            )
            for name in (*INPUTS, LABELS)
        }
        return cls(tokens, np.cumsum([0, *lengths]).astype(np.int64), pad_token_id)

    def batch(self, indices: Sequence[int] | Ints, least: int = 0) -> dict[str, Ints]:
        """Rows padded on the right to the longest of them, or to a length that is longer. `(batch, sequence)` each."""
        width = max(least, *(int(self.lengths[index]) for index in indices))
        fill = {"input_ids": self.pad_token_id, "attention_mask": 0, "token_type_ids": 0, LABELS: NO_LABEL}
        batch = {name: np.full((len(indices), width), value, dtype=np.int64) for name, value in fill.items()}
        for position, index in enumerate(indices):
            start, end = int(self.starts[index]), int(self.starts[index + 1])
            for name in batch:
                batch[name][position, : end - start] = self.tokens[name][start:end]
        return batch

    def take(self, indices: Sequence[int]) -> list[dict[str, list[int]]]:
        """Some rows as lists, for `of`; columns that hold only their default value are left out."""
        taken = []
        for index in indices:
            start, end = int(self.starts[index]), int(self.starts[index + 1])
            row = {name: values[start:end].tolist() for name, values in self.tokens.items()}
            taken.append({name: row[name] for name in row if any(value != _FILL.get(name) for value in row[name])})
        return taken

    def save(self, path: Path) -> None:
        """Writes an .npz file."""
        arrays: dict[str, Any] = {"starts": self.starts, "pad_token_id": np.array(self.pad_token_id), **self.tokens}
        np.savez(path, **arrays)

    @classmethod
    def load(cls, path: Path) -> TokenRows:
        """Reads an .npz file."""
        with np.load(path, allow_pickle=False) as arrays:
            tokens = {name: arrays[name] for name in (*INPUTS, LABELS)}
            return cls(tokens, arrays["starts"], int(arrays["pad_token_id"]))


def in_order(count: int, batch_size: int) -> list[list[int]]:
    """Batches of consecutive rows, as an app makes them that fills batches in the order texts arrive."""
    return [list(range(start, min(start + batch_size, count))) for start in range(0, count, batch_size)]


def by_length(lengths: Ints, tokens: int) -> list[list[int]]:
    """Batches of rows of similar length, each of at most `tokens` tokens with padding."""
    order = np.argsort(lengths, kind="stable").tolist()
    batches: list[list[int]] = []
    current: list[int] = []
    for index in order:
        if current and int(lengths[index]) * (len(current) + 1) > tokens:
            batches.append(current)
            current = []
        current.append(index)
    return [*batches, current] if current else batches


EDGES = ("one", "two", "middle", "left", "interior", "pair", "max", "right")
"""Names of the rows of `edge_cases`: by length, by where they are padded, or for having two segments."""


def edge_cases(
    max_length: int, vocab_size: int, pad_token_id: int, token_types: int = 2, first_padded: bool = True
) -> TokenRows:
    """Rows where exported graphs go wrong first: length 1 and the maximum, padding on any side, two segments.

    Args:
        max_length: Longest sequence.
        vocab_size: Upper bound of the ids, which are drawn with a fixed seed.
        pad_token_id: Id of padded positions.
        token_types: Rows of the model's table of token types; of one, the second segment is like the first.
        first_padded: Whether padding on the left takes the first token, which heads read, or starts behind it.

    Returns:
        A row for each of `EDGES`.
    """
    random = np.random.default_rng(0)
    middle = max(4, min(24, max_length))
    third = middle // 3
    lengths = {"one": 1, "two": 2, "max": max_length}
    padded = {
        "left": slice(0 if first_padded else 1, third),
        "interior": slice(third, middle // 2),
        "right": slice(middle - third, None),
    }
    rows: list[dict[str, Sequence[int]]] = []
    for name in EDGES:
        length = min(lengths.get(name, middle), max_length)
        ids = random.integers(1, vocab_size, length)
        mask, types = np.ones(length, dtype=np.int64), np.zeros(length, dtype=np.int64)
        mask[padded.get(name, slice(0))] = 0
        if name == "pair":
            types[length // 2 :] = min(1, token_types - 1)
        ids[mask == 0] = pad_token_id
        rows.append({"input_ids": ids.tolist(), "attention_mask": mask.tolist(), "token_type_ids": types.tolist()})
    return TokenRows.of(rows, pad_token_id)
