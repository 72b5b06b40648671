"""Multi-label classification: any number of labels for a text or for a pair of texts, or none.

A recipe's `text-classification` becomes this task where its rows have lists of labels; see `compressor.tasks.of_rows`.

Each label is a decision of its own: a text is given it if the label's logit is above 0. Where the checkpoint has
thresholds, the measuring process takes their offsets off the logits first; see `compressor.models.thresholds`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from compressor.data import label_set_rows
from compressor.data.columns import values
from compressor.data.spec import DataSpec
from compressor.gates.estimate import Floats
from compressor.gates.rows import Rows
from compressor.models import heads
from compressor.tasks import label_names
from compressor.tasks.scoring.average_precision import average_precision
from compressor.tasks.text_classification import (
    FORMATS,
    LABELS_PER_TOKEN,
    MAX_SEQUENCE_LENGTH,
    PER_TOKEN,
    PIPELINE_TAG,
    REGRESSION,
    TABLES,
    TEXT_COLUMNS,
    TOKEN_LABELS,
    answers,
    columns,
    compared,
    encode_texts,
    head_logits,
    scored_labels,
)

if TYPE_CHECKING:
    import torch
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
    "by_label",
    "choices",
    "columns",
    "compared",
    "encode",
    "head_logits",
    "label_ids",
    "references",
    "score",
    "scored_labels",
]

NAME = "multi-label-classification"
COLUMNS: tuple[str, ...] = (*TEXT_COLUMNS, "label_separator", "multi_label", "tune_thresholds")
METRICS: tuple[str, ...] = ("f1_micro", "f1_macro", "average_precision", "exact_match")
FORM = label_set_rows
HEAD = heads.MULTI_LABEL


def label_ids(labels: Sequence[str], head: Sequence[str] | None) -> dict[str, int]:
    """Index of each label of the data in the head's output, and of every other label of the head.

    Args:
        labels: The data's labels, in order.
        head: Names of a trained head's outputs, in order; None for a head that is made for these labels.

    Raises:
        RecipeError: A trained head has no output for a label.
    """
    return {**{name: index for index, name in enumerate(head or ())}, **label_names.match(labels, head, "data.label")}


def encode(
    rows: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int, label_ids: Mapping[str, int], data: DataSpec
) -> Dataset:
    """Tokenizes rows, as text-classification does; `labels` are 1 for each label of the row and 0 for the others."""
    count = max(label_ids.values()) + 1

    def indicators(names: Iterable[str]) -> list[int]:
        there = {label_ids[name] for name in names}
        return [int(index in there) for index in range(count)]

    return encode_texts(rows, tokenizer, max_length, indicators)


def references(
    rows: Dataset, encoded: Dataset, label_ids: Mapping[str, int], train: Dataset
) -> dict[str, NDArray[np.bool_]]:
    """`labels`: whether each row has each label. `(rows, labels)`."""
    return {"labels": np.array(list(values(encoded, "labels")), dtype=np.bool_)}


def choices(head: torch.Tensor, batch: Mapping[str, Any]) -> torch.Tensor:
    """One item for each label of each row, with the logits 0 for "no" and the label's for "yes". `(batch * labels, 2)`.

    Of two such choices the softmax is the sigmoid, so cross-entropy is the binary one, and the divergence of a teacher
    that of Bernoulli distributions, softened by the temperature; both are means over labels and rows.
    """
    import torch

    return torch.stack([torch.zeros_like(head), head], dim=-1).flatten(0, 1)


def score(
    answers: NDArray[np.float32], references: Mapping[str, NDArray[Any]], labels: Sequence[str]
) -> dict[str, Rows]:
    """F1 over all decisions and as the mean over labels, average precision, and the share of rows with no error.

    F1 is 0 where no row has or is given a label. Labels that no row has and none is given are not in the mean, as with
    scikit-learn's `zero_division=nan`; the mean of average precisions is over the labels that rows have. A row with a
    logit that is not a number is never an exact match, even if it has no label.

    Args:
        answers: Logits without their offsets `(rows, labels)`; a row is given the labels above 0.
        references: `labels`: whether each row has each label. `(rows, labels)`.
        labels: Names of the labels.
    """
    from scipy import sparse

    n, given, right = len(answers), answers > 0, references["labels"]
    hits = given & right
    each = sparse.csr_array(np.concatenate([hits, right, given], axis=1).astype(np.float64))
    totals = np.stack([hits.sum(axis=1), right.sum(axis=1), given.sum(axis=1)], axis=1).astype(np.float64)
    whole = ((given == right) & ~np.isnan(answers)).all(axis=1, keepdims=True).astype(np.float64)
    return {
        "f1_micro": Rows(totals, lambda sums: _f1(sums[..., 0], sums[..., 1] + sums[..., 2])),
        "f1_macro": Rows(each, lambda sums: _macro(*np.split(sums, 3, axis=-1))),
        "average_precision": average_precision(answers, right),
        "exact_match": Rows(whole, lambda sums: sums[..., 0] / n, binomial=True),
    }


def by_label(
    answers: NDArray[np.float32],
    references: Mapping[str, NDArray[Any]],
    labels: Sequence[str],
    wanted: Collection[str],
) -> dict[str, Floats]:
    """See `per_label.Labelled`: rows with a label. `(rows, 3)` each."""
    given, right = answers > 0, references["labels"]
    return {
        name: np.stack([given[:, i] & right[:, i], right[:, i], given[:, i]], axis=1).astype(np.float64)
        for i, name in enumerate(labels)
        if name in wanted
    }


def _f1(hits: Floats, total: Floats) -> Floats:
    """F1 from right answers and the sum of true and given ones; 0 of nothing."""
    return np.asarray(np.divide(2 * hits, total, out=np.zeros_like(hits), where=total > 0))


def _macro(hits: Floats, true: Floats, given: Floats) -> Floats:
    """Mean F1 of the labels that occur. Numbers of each: `(…, labels)`."""
    total = true + given
    return np.asarray(_f1(hits, total).sum(axis=-1) / np.maximum((total > 0).sum(axis=-1), 1))
