"""Sentence similarity: a vector for each text, such that texts that belong together have a cosine near 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from compressor.data import queries, sentence_rows, sources
from compressor.data.columns import encoded_rows, values
from compressor.data.retrieval import DOCUMENT, TEXT
from compressor.data.spec import DEFAULT_MAX_SEQUENCE_LENGTH, DataSpec
from compressor.gates.rows import Rows
from compressor.models import heads, small_vectors
from compressor.models.heads import EMBEDDING
from compressor.models.sentence_embedding import SentenceEmbedding
from compressor.tasks.scoring import retrieval, vectors

if TYPE_CHECKING:
    import torch
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

NAME = "sentence-similarity"
COLUMNS: tuple[str, ...] = ("text", "text_pair", "score", "negative", "retrieval")
METRICS: tuple[str, ...] = ("spearman", *retrieval.METRICS)
HEAD = heads.SENTENCE_EMBEDDING
PIPELINE_TAG = "sentence-similarity"
FORM = sentence_rows
FORMATS = (*sources.FORMATS, sources.SQUAD)
TABLES = sources.FORMATS
PER_TOKEN = False
LABELS_PER_TOKEN = False
REGRESSION = True
TOKEN_LABELS: str | None = None
MAX_SEQUENCE_LENGTH = DEFAULT_MAX_SEQUENCE_LENGTH


def columns(data: DataSpec) -> dict[str, str]:
    """From `text`, `text_pair`, `negative` and `score` to the source's columns."""
    named = {"text_pair": data.text_pair, "negative": data.negative, "score": data.score}
    return {"text": data.text, **{key: column for key, column in named.items() if column is not None}}


def measured(data: DataSpec) -> tuple[str, ...]:
    """Spearman's correlation of pairs with a score; retrieval of other pairs, and of `data.retrieval`."""
    of_pairs = data.validation is not None or data.train is not None
    searches = data.retrieval is not None or (of_pairs and data.score is None)
    return (*(METRICS[:1] if of_pairs and data.score is not None else ()), *(METRICS[1:] if searches else ()))


def label_ids(labels: Sequence[str], head: Sequence[str] | None) -> dict[str, int]:
    """An empty dict: vectors do not have names."""
    return {}


def encode(
    rows: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    label_ids: Mapping[str, int],
    data: DataSpec,
    embedding: SentenceEmbedding | None = None,
) -> Dataset:
    """Tokenizes texts, each with the prompt of its side.

    Args:
        rows: See `compressor.data.sentence_rows`.
        tokenizer: The checkpoint's.
        max_length: Tokens a text is cut to, special tokens included.
        label_ids: None.
        data: The recipe's.
        embedding: The checkpoint's settings, for its prompts; see `prompted`.

    Returns:
        `input_ids`, `attention_mask`, `token_type_ids` if the tokenizer has them, `length`; `labels`: the side,
        of a first text how well its second belongs to it, from 0 to 1, and whether that is a score; and `query`, where
        texts belong together.
    """
    least, most = _range(rows)

    def convert(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        sides = batch[sentence_rows.SIDE]
        encoded = tokenizer(prompted(batch, embedding or SentenceEmbedding()), truncation=True, max_length=max_length)
        given = [(max(row, default=least) - least) / (most - least or 1.0) for row in batch[sentence_rows.GRADES]]
        scored = map(float, batch[sentence_rows.SCORED])
        labels = [list(row) for row in zip(map(float, sides), given, scored, strict=True)]
        return {**encoded, "length": [len(ids) for ids in encoded["input_ids"]], "labels": labels}

    encoded = encoded_rows(rows, convert)
    if queries.QUERY in rows.column_names:
        encoded = encoded.add_column(queries.QUERY, queries.numbers(values(rows, queries.QUERY)))
    return encoded


def prompted(rows: Mapping[str, Sequence[Any]], embedding: SentenceEmbedding) -> list[str]:
    """The texts of rows as a model reads them, and an app has to give them: each with the prompt of its side.

    Args:
        rows: Columns of `compressor.data.sentence_rows`.
        embedding: Whose prompts.
    """
    searches = queries.QUERY in rows

    def prompt(side: int, scored: bool) -> str:
        return embedding.prompt(("query", "document")[side != TEXT] if searches and not scored else "")

    columns = (rows[sentence_rows.SIDE], rows[sentence_rows.SCORED], rows["text"])
    return [prompt(side, scored) + text for side, scored, text in zip(*columns, strict=True)]


def _range(rows: Dataset) -> tuple[float, float]:
    """The least grade of rows with scores, 0 if all are positive, and the largest; 0 and 1 of rows without."""
    if queries.QUERY not in rows.column_names or not any(values(rows, sentence_rows.SCORED)):  # raw text may be large
        return 0.0, 1.0
    grades = [grade for row in values(rows, sentence_rows.GRADES) for grade in row]
    return min(0.0, *grades), max(grades)


def references(
    rows: Dataset, encoded: Dataset, label_ids: Mapping[str, int], train: Dataset
) -> dict[str, NDArray[Any]]:
    """What belongs to what, by the numbers of rows.

    `scored` `(pairs, 2)` and `scores` `(pairs,)`: the two texts of each pair with a score. `documents` `(documents,)`
    and `relevant` `(n, 2)`, `grades` `(n,)`: what is searched; each query with each document that answers it, and how
    well. Documents of one text are one.
    """
    sides, items, texts = (values(rows, name) for name in (sentence_rows.SIDE, sentence_rows.ITEM, "text"))
    scored = list(values(rows, sentence_rows.SCORED))
    row_of: dict[str, int] = {}
    by_text: dict[str, int] = {}
    for index, (side, item, text) in enumerate(zip(sides, items, texts, strict=True)):
        if side == DOCUMENT:
            row_of[item] = index if scored[index] else by_text.setdefault(text, index)
    pairs: dict[bool, list[tuple[int, int]]] = {True: [], False: []}
    graded: dict[bool, list[float]] = {True: [], False: []}
    answered = (values(rows, name) for name in (sentence_rows.RELEVANT, sentence_rows.GRADES))
    for index, (names, grades) in enumerate(zip(*answered, strict=True)):
        for name, grade in zip(names, grades, strict=True):
            if name in row_of:
                pairs[scored[index]].append((index, row_of[name]))
                graded[scored[index]].append(grade)
    searched = by_text.values() if pairs[False] else ()
    found: dict[str, NDArray[Any]] = {"documents": np.array(sorted(searched), dtype=np.int64)}
    for name, grades_of, of in (("scored", "scores", True), ("relevant", "grades", False)):
        found[name] = np.array(pairs[of], dtype=np.int64).reshape(-1, 2)
        found[grades_of] = np.array(graded[of], dtype=np.float64)
    return found


def head_logits(outputs: Mapping[str, Any]) -> torch.Tensor:
    """The vectors. `(batch, dimensions)`."""
    found: torch.Tensor = outputs[EMBEDDING]
    return found


def choices(head: torch.Tensor, batch: Mapping[str, Any]) -> torch.Tensor:
    """One item for each text. `(batch, dimensions)`."""
    return head


def answers(outputs: Mapping[str, NDArray[np.float32]], batch: Mapping[str, Any]) -> NDArray[np.float32]:
    """The vectors. `(batch, dimensions)`."""
    return outputs[EMBEDDING]


def compared(outputs: Mapping[str, NDArray[np.float32]], batch: Mapping[str, Any]) -> NDArray[np.float32]:
    """The vectors. `(batch, 1, dimensions)`."""
    return outputs[EMBEDDING][:, None]


def score(
    answers: NDArray[np.float32], references: Mapping[str, NDArray[Any]], labels: Sequence[str]
) -> dict[str, Rows]:
    """Spearman's correlation of cosines with the scores of pairs, and how well queries find their documents.

    Args:
        answers: Vectors `(rows, dimensions)`.
        references: See `references`; `tasks.base.GROUPS`: a number for each row, equal for rows that belong together.
        labels: None.
    """
    return vectors.score(small_vectors.normalised(answers), references)
