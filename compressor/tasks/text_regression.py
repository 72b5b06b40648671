"""Text regression: one number for a text or for a pair of texts, such as how alike they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from compressor.data import number_rows, queries
from compressor.data.columns import numbers, values
from compressor.data.spec import DataSpec
from compressor.gates.rows import Rows
from compressor.models import heads
from compressor.tasks.base import GROUPS, QUERIES
from compressor.tasks.scoring import ranking
from compressor.tasks.scoring.spearman import spearman
from compressor.tasks.text_classification import (
    FORMATS,
    LABELS_PER_TOKEN,
    MAX_SEQUENCE_LENGTH,
    PER_TOKEN,
    PIPELINE_TAG,
    TABLES,
    TEXT_COLUMNS,
    TOKEN_LABELS,
    answers,
    choices,
    columns,
    compared,
    encode_texts,
    head_logits,
)

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "COLUMNS",
    "FORM",
    "FORMATS",
    "HEAD",
    "LABELS_PER_TOKEN",
    "MAX_SEQUENCE_LENGTH",
    "METRICS",
    "NAME",
    "PER_TOKEN",
    "PIPELINE_TAG",
    "REGRESSION",
    "TABLES",
    "TOKEN_LABELS",
    "answers",
    "choices",
    "columns",
    "compared",
    "encode",
    "head_logits",
    "label_ids",
    "measured",
    "references",
    "score",
]

NAME = "text-regression"
COLUMNS: tuple[str, ...] = (*TEXT_COLUMNS, "query")
METRICS: tuple[str, ...] = ("spearman", "ndcg_at_10", "mrr_at_10")
FORM = number_rows
REGRESSION = True
HEAD = heads.REGRESSION


def measured(data: DataSpec) -> tuple[str, ...]:
    """Its metrics: rankings only where the recipe names queries."""
    return METRICS if data.query is not None else METRICS[:1]


def label_ids(labels: Sequence[str], head: Sequence[str] | None) -> dict[str, int]:
    """An empty dict: a number does not have a name."""
    return {}


def encode(
    rows: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int, label_ids: Mapping[str, int], data: DataSpec
) -> Dataset:
    """Tokenizes rows, as text-classification does; `labels` are numbers, and so are queries, where rows have them."""
    encoded = encode_texts(rows, tokenizer, max_length, float)
    if queries.QUERY in rows.column_names:
        encoded = encoded.add_column(queries.QUERY, queries.numbers(values(rows, queries.QUERY)))
    return encoded


def references(
    rows: Dataset, encoded: Dataset, label_ids: Mapping[str, int], train: Dataset
) -> dict[str, NDArray[Any]]:
    """`values`: the right number of each row; where rows have queries, `QUERIES`, a number for each. `(rows,)` each."""
    found: dict[str, NDArray[Any]] = {"values": numbers(encoded, "labels", np.float64)}
    if queries.QUERY in encoded.column_names:
        found[QUERIES] = numbers(encoded, queries.QUERY, np.int64)
    return found


def score(
    answers: NDArray[np.float32], references: Mapping[str, NDArray[Any]], labels: Sequence[str]
) -> dict[str, Rows]:
    """Spearman's rank correlation over all rows and, where these have queries, rankings of the rows of each query.

    Args:
        answers: Numbers `(rows, 1)`.
        references: `values`: the right ones; `QUERIES`: which rows are candidates for one query. `(rows,)` each.
        labels: None.
    """
    found = {"spearman": spearman(answers[:, 0], references["values"])}
    if (query := references.get(QUERIES)) is not None:
        found |= ranking.score(answers[:, 0], references["values"], query, references.get(GROUPS))
    return found
