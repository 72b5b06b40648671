"""Text regression: one number for a text or for a pair of texts, such as how alike they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from compressor.data import number_rows, queries
from compressor.data.spec import DataSpec
from compressor.gates.estimate import Floats
from compressor.gates.rows import Rows
from compressor.models import heads
from compressor.tasks.base import GROUPS, QUERIES
from compressor.tasks.scoring import ranking
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
    "references",
    "score",
]

NAME = "text-regression"
COLUMNS: tuple[str, ...] = (*TEXT_COLUMNS, "query")
METRICS: tuple[str, ...] = ("spearman", "ndcg_at_10", "mrr_at_10")
FORM = number_rows
REGRESSION = True
HEAD = heads.REGRESSION


def label_ids(labels: Sequence[str], head: Sequence[str] | None) -> dict[str, int]:
    """An empty dict: a number does not have a name."""
    return {}


def encode(
    rows: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int, label_ids: Mapping[str, int], data: DataSpec
) -> Dataset:
    """Tokenizes rows, as text-classification does; `labels` are numbers, and so are queries, where rows have them."""
    encoded = encode_texts(rows, tokenizer, max_length, float)
    if queries.QUERY in rows.column_names:
        encoded = encoded.add_column(queries.QUERY, queries.numbers(rows[queries.QUERY]))
    return encoded


def references(
    rows: Dataset, encoded: Dataset, label_ids: Mapping[str, int], train: Dataset
) -> dict[str, NDArray[Any]]:
    """`values`: the right number of each row; where rows have queries, `QUERIES`, a number for each. `(rows,)` each."""
    found: dict[str, NDArray[Any]] = {"values": np.asarray(encoded["labels"], dtype=np.float64)}
    if queries.QUERY in encoded.column_names:
        found[QUERIES] = np.asarray(encoded[queries.QUERY], dtype=np.int64)
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
    found = {"spearman": _spearman(answers[:, 0], references["values"])}
    if (query := references.get(QUERIES)) is not None:
        found |= ranking.score(answers[:, 0], references["values"], query, references.get(GROUPS))
    return found


def _spearman(answers: NDArray[np.float32], values: NDArray[np.float64]) -> Rows:
    """Pearson's correlation of ranks, where equal numbers share the mean of theirs.

    Its bounds come from rows drawn with the ranks that they have among all.

    Args:
        answers: Numbers `(rows,)`.
        values: The right ones. `(rows,)`.

    Source: Spearman 1904; Fieller, Hartley & Pearson 1957 for ties.
    """
    from scipy.stats import rankdata

    n = len(answers)
    # Around 0 and below 1, so that sums of squares keep their digits.
    x, y = ((rankdata(numbers) - (n + 1) / 2) / n for numbers in (answers, values))

    def correlation(sums: Floats) -> Floats:
        count = sums[..., 0]
        mean_x, mean_y = sums[..., 1] / count, sums[..., 2] / count
        covariance = sums[..., 5] / count - mean_x * mean_y
        spread = np.sqrt((sums[..., 3] / count - mean_x**2) * (sums[..., 4] / count - mean_y**2))
        return np.asarray(np.divide(covariance, spread, out=np.zeros_like(covariance), where=spread > 0))

    return Rows(np.column_stack([np.ones(n), x, y, x * x, y * y, x * y]), correlation)
