"""Tasks: what the rows look like, how they become tensors, and how answers are scored. One module each.

A task is a module, found by its name in the recipe with `-` as `_`. It has `columns`, `label_ids`, `encode`, and
`score`; only `encode` may import anything heavy, and only when it is called.
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


class Task(Protocol):
    """What a task module has."""

    def columns(self, data: DataSpec) -> dict[str, str]:
        """From the task's column names to the source's."""

    def label_ids(self, labels: Sequence[str], head: Sequence[str] | None) -> dict[str, int]:
        """Index of each label in the head; raises RecipeError when the head does not fit."""

    def encode(
        self, rows: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int, label_ids: Mapping[str, int]
    ) -> Dataset:
        """Token ids and `labels`, unpadded."""

    def score(self, logits: NDArray[np.float32], references: NDArray[np.int64]) -> dict[str, Rows]:
        """The task's metrics over rows."""


def get(name: str) -> Task:
    """The task's module."""
    return cast(Task, import_module(f"compressor.tasks.{name.replace('-', '_')}"))
