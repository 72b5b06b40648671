"""Recorded answers: a few real rows and the answer of each format to them, small enough to ship with the formats."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compressor.errors import CompressError
from compressor.models.heads import Head
from compressor.tasks import TASKS
from compressor.tasks.base import ABSENT_LOGIT
from compressor.tasks.scoring.cosine import cosines

FILE = "verification.json"
SCHEMA_VERSION = 3

_TOP, _TOP_OF_MANY = 5, 2
"""Highest choices of an answer that are recorded, since a language model has a whole vocabulary of choices; fewer where
rows have an answer for every token."""
_MANY = 8
_NONE = -1
_SAME_VECTOR = 0.99
"""Cosine from which a vector is the recorded one, of another format or on another processor."""


@dataclass(frozen=True)
class RecordedAnswer:
    """The answers of one format.

    Attributes:
        choices: The choices with the highest logits of each answer, the highest first; -1 where a row has no such
            answer or choice. `(rows, items, at most 5)`.
        logits: Their logits, of the same shape.
        sets: Whether an answer is the set of all choices with a logit above 0, which are recorded, however many.
        vectors: Whether an answer is a vector, all of which is recorded.
    """

    choices: NDArray[np.int64]
    logits: NDArray[np.float64]
    sets: bool = False
    vectors: bool = False

    def fits(self, given: NDArray[np.float32]) -> bool:
        """Whether logits `(rows, items, all choices)` have every recorded item and choice."""
        rows, items, _ = self.choices.shape
        within = _NONE <= int(self.choices.min()) and int(self.choices.max()) < given.shape[2]
        return within and rows == given.shape[0] and items <= given.shape[1]

    def label_agreement(self, given: NDArray[np.float32]) -> float:
        """Share of the answers to which logits `(rows, items, all choices)` give the recorded label, or labels."""
        given = given[:, : self.choices.shape[1]]
        if self.vectors:
            return float((cosines(given, self._vectors()) >= _SAME_VECTOR).mean())
        if self.sets:
            return float(((given > 0) == self._members(given.shape[-1])).all(axis=-1).mean())
        return self._same(given.argmax(axis=-1))

    def first(self, rows: int) -> RecordedAnswer:
        """The answers to the first rows alone, with as many items as these have."""
        choices, logits = self.choices[:rows], self.logits[:rows]
        items = int((choices[..., 0] != _NONE).any(axis=0).sum())
        return replace(self, choices=choices[:, :items], logits=logits[:, :items])

    def agreement(self, other: RecordedAnswer) -> float:
        """Share of the answers with the same label, or labels, as another format's to the same rows."""
        if self.vectors:
            return float((cosines(other._vectors(), self._vectors()) >= _SAME_VECTOR).mean())
        if not self.sets:
            return self._same(other.choices[..., 0])
        count = 1 + max(int(self.choices.max()), int(other.choices.max()))
        return float((self._members(count) == other._members(count)).all(axis=-1).mean())

    def _same(self, choices: NDArray[np.int64]) -> float:
        first = self.choices[..., 0]
        return float((choices == first)[first != _NONE].mean())

    def _vectors(self) -> NDArray[np.float64]:
        """The recorded vectors. `(rows, items, dimensions)`."""
        found = np.zeros_like(self.logits)
        np.put_along_axis(found, np.where(self.choices == _NONE, 0, self.choices), self.logits, axis=-1)
        return found

    def _members(self, count: int) -> NDArray[np.bool_]:
        """Whether each of so many choices is in the recorded set. `(rows, items, count)`."""
        found = np.zeros((*self.choices.shape[:2], count + 1), dtype=np.bool_)
        places = np.where(self.choices == _NONE, count, self.choices)
        np.put_along_axis(found, places, self.logits > 0, axis=-1)
        return found[..., :count]

    def max_abs_diff(self, given: NDArray[np.float32]) -> float:
        """Largest difference from a recorded logit; infinite where a logit is NaN."""
        there = self.choices != _NONE
        found = np.take_along_axis(given[:, : self.choices.shape[1]], np.where(there, self.choices, 0), axis=-1)
        difference = np.where(there, np.abs(np.where(there, found, 0) - self.logits), 0)
        return float(np.nan_to_num(difference, nan=np.inf).max())


@dataclass(frozen=True)
class RecordedAnswers:
    """Rows and answers.

    Attributes:
        task: The formats' task.
        rows: For `TokenRows.of`.
        texts: Their texts, one or two each, where a format takes texts; None elsewhere.
        answers: By the file that gave them, `torch` for the checkpoint itself.
    """

    task: str
    rows: list[dict[str, list[int]]]
    texts: list[list[str]] | None
    answers: dict[str, RecordedAnswer]


def write(
    path: Path,
    task: str,
    rows: Sequence[Mapping[str, list[int]]],
    answers: Mapping[str, NDArray[np.float32]],
    texts: Sequence[Sequence[str]] | None = None,
) -> None:
    """Writes recorded answers.

    Args:
        path: The file.
        task: The formats' task.
        rows: Rows in the form of `TokenRows.take`.
        answers: All logits of each format, `(rows, items, choices)`; see `compressor.tasks`.
        texts: The rows' texts, if a format takes texts.
    """
    document = {
        "schema_version": SCHEMA_VERSION,
        "task": task,
        "rows": list(rows),
        "texts": texts,
        "answers": {name: _highest(logits, TASKS[task].HEAD) for name, logits in answers.items()},
    }
    path.write_text(json.dumps(document, separators=(",", ":")) + "\n", encoding="utf-8")


def _highest(logits: NDArray[np.float32], head: Head) -> dict[str, Any]:
    """The highest choices and their logits as lists of rows of answers, without absent answers and choices."""
    top = _TOP if logits.shape[1] < _MANY else _TOP_OF_MANY
    if head.vectors:
        top = logits.shape[2]
    elif head.sets:
        top = max(top, int((logits > 0).sum(axis=-1).max()))
    order = np.argsort(-logits, axis=-1, kind="stable")[..., :top]
    values = np.take_along_axis(logits, order, axis=-1).astype(np.float64).round(6)
    choices: list[list[list[int]]] = []
    kept: list[list[list[float]]] = []
    for row, numbers in zip(order.tolist(), values.tolist(), strict=True):
        there = [index for index, item in enumerate(numbers) if item[0] != ABSENT_LOGIT]
        sizes = [sum(value != ABSENT_LOGIT for value in numbers[index]) for index in there]
        choices.append([row[index][:size] for index, size in zip(there, sizes, strict=True)])
        kept.append([numbers[index][:size] for index, size in zip(there, sizes, strict=True)])
    return {"choices": choices, "logits": kept}


def _filled(lists: Any, fill: float, dtype: type) -> NDArray[Any]:
    """Lists of lists of lists as one array."""
    rows = [[list(item) for item in row] for row in lists]
    items = max((len(row) for row in rows), default=0)
    width = max((len(item) for row in rows for item in row), default=0)
    filled: NDArray[Any] = np.full((len(rows), items, width), fill, dtype=dtype)
    for index, row in enumerate(rows):
        for place, item in enumerate(row):
            filled[index, place, : len(item)] = item
    return filled


def read(path: Path) -> RecordedAnswers:
    """Reads recorded answers.

    Raises:
        CompressError: The file cannot be read.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["schema_version"] != SCHEMA_VERSION:
            raise ValueError(f"schema_version is {document['schema_version']}, must be {SCHEMA_VERSION}")
        rows: list[dict[str, list[int]]] = [dict(row) for row in document["rows"]]
        head = TASKS[document["task"]].HEAD
        answers = {
            str(name): RecordedAnswer(
                _filled(entry["choices"], _NONE, np.int64),
                _filled(entry["logits"], 0.0, np.float64),
                head.sets,
                head.vectors,
            )
            for name, entry in document["answers"].items()
        }
        texts = document["texts"] and [[str(text) for text in row] for row in document["texts"]]
        if texts is not None and len(texts) != len(rows):
            raise ValueError("not as many texts as rows")
        if not rows or any(
            a.choices.shape != a.logits.shape or not a.choices.size or len(a.choices) != len(rows)
            for a in answers.values()
        ):
            raise ValueError("not as many answers as rows")
        return RecordedAnswers(str(document["task"]), rows, texts, answers)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CompressError(f"{path} cannot be read: {type(error).__name__}: {error}") from None
