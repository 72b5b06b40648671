"""Protocols that each task's module satisfies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from compressor.data.spec import DataSpec
from compressor.data.splits import Form
from compressor.gates.rows import Rows
from compressor.models.heads import Head

if TYPE_CHECKING:
    import torch
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Outputs = Mapping[str, Floats]
"""A model's outputs by name; see `compressor.models.outputs`."""
Batch = Mapping[str, Ints]
"""A model's inputs, `attention_mask` among them, and the tokens' `labels`. `(batch, sequence)` each."""
References = Mapping[str, NDArray[Any]]
"""Arrays that answers are scored against, by name; each task has its own, and those of rows have `GROUPS`."""
GROUPS = "groups"
"""A number for each scored row, equal for rows that belong together, such as the questions of one text. `(rows,)`."""
QUERIES = "queries"
"""A number for each scored row, equal for those that are candidates for one query; only where rows have queries."""

ABSENT_LOGIT = -np.inf
"""Logit of a choice that a row does not have: shorter rows of tokens are filled up with it."""
MASKED_LOGIT = -1e4
"""Logit of a padded token in training: its probability is 0, and gradients stay finite."""


class Scoring(Protocol):
    """A task whose answers are scored.

    Attributes:
        NAME: The name in recipes.
        COLUMNS: Keys of `data` that describe its rows.
        METRICS: Its quality metrics, the main one first.
        HEAD: The kind of head that its models have.
        PIPELINE_TAG: The hub's name of the task, for the model card.
    """

    NAME: str
    COLUMNS: tuple[str, ...]
    METRICS: tuple[str, ...]
    HEAD: Head
    PIPELINE_TAG: str

    def answers(self, outputs: Outputs, batch: Batch) -> Floats:
        """The part of a model's outputs that scoring needs, `(batch, …)`; shorter rows are filled up with -1."""

    def compared(self, outputs: Outputs, batch: Batch) -> Floats:
        """The logits by which formats are compared, `(batch, items, choices)`.

        `ABSENT_LOGIT` stands where a row does not have the item or the choice.
        """

    def score(self, answers: Floats, references: References, labels: Sequence[str]) -> dict[str, Rows]:
        """The task's metrics over rows, given the names of the head's outputs."""


@runtime_checkable
class OfPositions(Protocol):
    """A task that needs its model's outputs at some tokens alone."""

    def positions(self, batch: Batch) -> NDArray[np.bool_]:
        """The tokens. `(batch, sequence)`."""


@runtime_checkable
class ByData(Protocol):
    """A task some of whose metrics need what a recipe's `data` may leave out."""

    def measured(self, data: DataSpec) -> tuple[str, ...]:
        """The metrics that are measured."""


class Task(Scoring, Protocol):
    """A task that is learned from rows.

    Attributes:
        FORM: The module that reads its rows.
        FORMATS: Suffixes of the files that its rows are read from.
        TABLES: Those of them that are tables, whose columns have names.
        TOKEN_LABELS: Column with a label for each token that `answers` needs; None where there is none.
        MAX_SEQUENCE_LENGTH: Tokens that a row is cut to where the recipe does not say.
        PER_TOKEN: Whether the head gives logits for each token: then a teacher must split texts as its student does.
        LABELS_PER_TOKEN: Whether a row has a label for each token.
        REGRESSION: Whether the head gives numbers: losses are squared errors, not cross-entropies.
    """

    FORM: Form
    FORMATS: tuple[str, ...]
    TABLES: tuple[str, ...]
    TOKEN_LABELS: str | None
    MAX_SEQUENCE_LENGTH: int
    PER_TOKEN: bool
    LABELS_PER_TOKEN: bool
    REGRESSION: bool

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

    def references(self, rows: Dataset, encoded: Dataset, label_ids: Mapping[str, int], train: Dataset) -> References:
        """The arrays that answers to encoded rows are scored against.

        Args:
            rows: The rows.
            encoded: The rows as tokens.
            label_ids: Index of each label in the head.
            train: The training rows, for what scoring must not read off the rows that it scores.
        """

    def head_logits(self, outputs: Mapping[str, Any]) -> torch.Tensor:
        """The head's logits, `(batch, labels)` or `(batch, sequence, channels)`, as a teacher's are kept."""

    def choices(self, head: torch.Tensor, batch: Mapping[str, Any]) -> torch.Tensor:
        """The logits that losses compare, `(items, choices)`.

        Args:
            head: `head_logits` of the model or of its teacher.
            batch: The rows, with `labels` and `attention_mask`.
        """
