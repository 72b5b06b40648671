"""Text classification: one label for a sentence or for a pair of sentences."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from compressor.data import sources, text_rows
from compressor.data.columns import encoded_rows, numbers
from compressor.data.spec import DEFAULT_MAX_SEQUENCE_LENGTH, DataSpec
from compressor.gates.estimate import Floats
from compressor.gates.rows import Rows
from compressor.models import heads
from compressor.models.outputs import LOGITS
from compressor.tasks import label_names

if TYPE_CHECKING:
    import torch
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

NAME = "text-classification"
TEXT_COLUMNS = ("text", "text_pair", "label", "labels", "group")
"""Keys of `data` that describe rows of texts, whatever their label is."""
COLUMNS: tuple[str, ...] = (*TEXT_COLUMNS, "multi_label")
METRICS: tuple[str, ...] = ("accuracy", "f1", "matthews_correlation")
HEAD = heads.SEQUENCE_CLASSIFICATION
PIPELINE_TAG = "text-classification"
FORM = text_rows
FORMATS = sources.FORMATS
TABLES = FORMATS
PER_TOKEN = False
LABELS_PER_TOKEN = False
REGRESSION = False
TOKEN_LABELS: str | None = None
MAX_SEQUENCE_LENGTH = DEFAULT_MAX_SEQUENCE_LENGTH


def columns(data: DataSpec) -> dict[str, str]:
    """From `text`, `text_pair` and `label` to the source's columns."""
    pair = {"text_pair": data.text_pair} if data.text_pair else {}
    return {"text": data.text, **pair, "label": data.label}


def label_ids(labels: Sequence[str], head: Sequence[str] | None) -> dict[str, int]:
    """Index of each label of the data in the head's output.

    Args:
        labels: The data's labels, in order.
        head: Names of a trained head's outputs, in order; None for a head that is made for these labels.

    Raises:
        RecipeError: A trained head has no output for a label.
    """
    return label_names.match(labels, head, "data.label")


def encode(
    rows: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int, label_ids: Mapping[str, int], data: DataSpec
) -> Dataset:
    """Tokenizes rows.

    Args:
        rows: With `text`, maybe `text_pair`, and `label`.
        tokenizer: The checkpoint's.
        max_length: Tokens a row is cut to, special tokens included; of a pair, the longer text is cut first.
        label_ids: Index of each label.
        data: The recipe's.

    Returns:
        `input_ids`, `attention_mask`, `token_type_ids` if the tokenizer has them, `length` and `labels`.
    """
    return encode_texts(rows, tokenizer, max_length, label_ids.__getitem__)


def encode_texts(
    rows: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int, label: Callable[[Any], Any]
) -> Dataset:
    """Tokenizes rows of texts or pairs of texts; see `encode`.

    Args:
        rows: With `text`, maybe `text_pair`, and `label`.
        tokenizer: The checkpoint's.
        max_length: Tokens a row is cut to.
        label: From a row's label to the value that is learned.
    """
    paired = "text_pair" in rows.column_names

    def convert(batch: dict[str, list[str]]) -> dict[str, list[Any]]:
        encoded = tokenizer(
            batch["text"], batch["text_pair"] if paired else None, truncation="longest_first", max_length=max_length
        )
        lengths = [len(ids) for ids in encoded["input_ids"]]
        return {**encoded, "length": lengths, "labels": list(map(label, batch["label"]))}

    return encoded_rows(rows, convert)


def references(
    rows: Dataset, encoded: Dataset, label_ids: Mapping[str, int], train: Dataset
) -> dict[str, NDArray[np.int64]]:
    """`labels`: index of the right label of each row. `(rows,)`."""
    return {"labels": numbers(encoded, "labels", np.int64)}


def head_logits(outputs: Mapping[str, Any]) -> torch.Tensor:
    """The logits, `(batch, labels)`."""
    logits: torch.Tensor = outputs[LOGITS]
    return logits


def choices(head: torch.Tensor, batch: Mapping[str, Any]) -> torch.Tensor:
    """One item for each row. `(batch, labels)`."""
    return head


def answers(outputs: Mapping[str, NDArray[np.float32]], batch: Mapping[str, Any]) -> NDArray[np.float32]:
    """The logits as they are. `(batch, labels)`."""
    return outputs[LOGITS]


def compared(outputs: Mapping[str, NDArray[np.float32]], batch: Mapping[str, Any]) -> NDArray[np.float32]:
    """The logits. `(batch, 1, labels)`."""
    return outputs[LOGITS][:, None]


def score(
    answers: NDArray[np.float32], references: Mapping[str, NDArray[Any]], labels: Sequence[str]
) -> dict[str, Rows]:
    """Accuracy, F1 and Matthews correlation.

    Args:
        answers: Logits `(rows, labels)`.
        references: `labels`: index of the right label. `(rows,)`.
        labels: Names of the labels.
    """
    from scipy import sparse

    n, count = answers.shape
    predictions, right = answers.argmax(axis=1), references["labels"]
    hits = (predictions == right).astype(np.float64)
    # Each row adds to its right label's references and hits, and to its predicted label's predictions: three numbers
    # of 3 x labels, where a confusion matrix would have labels^2.
    columns = np.stack([right, count + right, 2 * count + predictions], axis=1)
    values = np.stack([hits, np.ones(n), np.ones(n)], axis=1)
    places = np.arange(0, 3 * n + 1, 3)
    sums = sparse.csr_array((values.ravel(), columns.ravel(), places), shape=(n, 3 * count))
    return {
        "accuracy": Rows(hits[:, None], lambda sums: sums[..., 0] / n, binomial=True),
        "f1": Rows(sums, lambda sums: _f1(*np.split(sums, 3, axis=-1))),
        "matthews_correlation": Rows(sums, lambda sums: _matthews(*np.split(sums, 3, axis=-1))),
    }


def scored_labels(labels: Sequence[str]) -> tuple[str, ...]:
    """See `per_label.Labelled`: the labels."""
    return tuple(labels)


def by_label(
    answers: NDArray[np.float32],
    references: Mapping[str, NDArray[Any]],
    labels: Sequence[str],
    wanted: Collection[str],
) -> dict[str, Floats]:
    """See `per_label.Labelled`: rows with a label. `(rows, 3)` each."""
    given, right = answers.argmax(axis=1), references["labels"]
    found = {}
    for index, name in enumerate(labels):
        if name in wanted:
            true, said = right == index, given == index
            found[name] = np.stack([true & said, true, said], axis=1).astype(np.float64)
    return found


def _f1(hits: Floats, true: Floats, predicted: Floats) -> Floats:
    """F1 of label 1 for two labels, macro F1 over the labels that occur for more. Numbers of each: `(…, labels)`."""
    total = true + predicted
    scores = np.divide(2 * hits, total, out=np.zeros_like(hits), where=total > 0)
    if hits.shape[-1] == 2:
        return np.asarray(scores[..., 1])
    return np.asarray(scores.sum(axis=-1) / np.maximum((total > 0).sum(axis=-1), 1))


def _matthews(hits: Floats, true: Floats, predicted: Floats) -> Floats:
    """Matthews correlation for any number of labels, 0 when a side is constant.

    Source: Gorodkin 2004, "Comparing two K-category assignments by a K-category correlation coefficient", eq. 8.
    """
    right, n = hits.sum(axis=-1), true.sum(axis=-1)
    covariance = right * n - (true * predicted).sum(axis=-1)
    spread = np.sqrt((n**2 - (true**2).sum(axis=-1)) * (n**2 - (predicted**2).sum(axis=-1)))
    return np.asarray(np.divide(covariance, spread, out=np.zeros_like(covariance), where=spread > 0))
