"""Tasks: what the rows look like, how they become tensors, and how answers are scored. One module each.

A task is a module, found by its name in the recipe with `-` as `_`. Every one has `answers`, `compared` and `score`;
those that learn from rows have `columns`, `label_ids` and `encode` too. Only `encode` may import anything heavy, when
it is called.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from compressor.evidence import Rows
from compressor.recipe import DataSpec

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Outputs = Mapping[str, Floats]
"""What a model gives, by name; see `compressor.outputs`."""


class Scoring(Protocol):
    """How a task's answers are judged."""

    def answers(self, outputs: Outputs, labels: Ints) -> Floats:
        """What is kept of a model's outputs `(batch, …)` for scoring, given the tokens' labels `(batch, sequence)`."""

    def compared(self, outputs: Outputs, labels: Ints) -> Floats:
        """What is kept of a model's outputs for holding formats against each other: logits `(batch, choices)`."""

    def score(self, answers: Floats, references: Ints) -> dict[str, Rows]:
        """The task's metrics over rows."""


class Task(Scoring, Protocol):
    """A task that is learned from rows."""

    def columns(self, data: DataSpec) -> dict[str, str]:
        """From the task's column names to the source's."""

    def label_ids(self, labels: Sequence[str], head: Sequence[str] | None) -> dict[str, int]:
        """Index of each label in the head; raises RecipeError when the head does not fit."""

    def encode(
        self, rows: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int, label_ids: Mapping[str, int]
    ) -> Dataset:
        """Token ids and `labels`, unpadded."""


def module_name(name: str) -> str:
    """Dotted name of a task's module."""
    return f"compressor.tasks.{name.replace('-', '_')}"


def get(name: str) -> Task:
    """The module of a task that is learned from rows."""
    return cast(Task, import_module(module_name(name)))


def scoring(name: str) -> Scoring:
    """A task's module, for scoring."""
    return cast(Scoring, import_module(module_name(name)))
