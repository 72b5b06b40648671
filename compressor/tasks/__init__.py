"""Tasks: what the rows look like, how they become tensors, and how answers are scored. One module each.

A task is a module, found by its name in the recipe with `-` as `_`. Every one has `answers`, `compared` and `score`;
those that learn from rows have `TOKEN_LABELS`, `columns`, `label_ids`, `encode` and `references` too. Only `encode` may
import anything heavy, when it is called.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from compressor.data.spec import DataSpec
from compressor.gates.rows import Rows

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Outputs = Mapping[str, Floats]
"""What a model gives, by name; see `compressor.models.outputs`."""
Batch = Mapping[str, Ints]
"""What it was given, `attention_mask` among them, and the tokens' `labels`. `(batch, sequence)` each."""
References = Mapping[str, NDArray[Any]]
"""What answers are scored against: arrays by name, each task has its own."""

NOTHING = -np.inf
"""Logit of a choice that there is not: rows of tokens are filled up with it."""


class Scoring(Protocol):
    """How a task's answers are judged."""

    def answers(self, outputs: Outputs, batch: Batch) -> Floats:
        """What is kept of a model's outputs for scoring, `(batch, …)`; shorter rows are filled up with -1."""

    def compared(self, outputs: Outputs, batch: Batch) -> Floats:
        """What is kept of a model's outputs for holding formats against each other: logits `(batch, items, choices)`.

        `NOTHING` stands where a row has no such item or choice.
        """

    def score(self, answers: Floats, references: References, labels: Sequence[str]) -> dict[str, Rows]:
        """The task's metrics over rows, given the names of the head's outputs."""


class Task(Scoring, Protocol):
    """A task that is learned from rows.

    Attributes:
        TOKEN_LABELS: Column with a label for each token that `answers` needs; None where there is none.
        MAX_SEQUENCE_LENGTH: Tokens that a row is cut to where the recipe does not say.
    """

    TOKEN_LABELS: str | None
    MAX_SEQUENCE_LENGTH: int

    def columns(self, data: DataSpec) -> dict[str, str]:
        """From the task's column names to the source's."""

    def label_ids(self, labels: Sequence[str], head: Sequence[str] | None) -> dict[str, int]:
        """Index of each label in the head; raises RecipeError when the head does not fit."""

    def encode(
        self,
        rows: Dataset,
        tokenizer: PreTrainedTokenizerBase,
        max_length: int,
        label_ids: Mapping[str, int],
        data: DataSpec,
    ) -> Dataset:
        """Token ids, `length` and `labels`, unpadded; a long row may become several."""

    def references(self, rows: Dataset, encoded: Dataset, label_ids: Mapping[str, int]) -> References:
        """What answers to encoded rows are scored against."""


def module_name(name: str) -> str:
    """Dotted name of a task's module."""
    return f"compressor.tasks.{name.replace('-', '_')}"


def get(name: str) -> Task:
    """The module of a task that is learned from rows."""
    return cast(Task, import_module(module_name(name)))


def scoring(name: str) -> Scoring:
    """A task's module, for scoring."""
    return cast(Scoring, import_module(module_name(name)))
