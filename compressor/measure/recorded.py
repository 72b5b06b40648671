"""Recorded answers: a few real rows and what each format said of them, small enough to ship with the formats."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compressor.errors import CompressError

FILE = "verification.json"
SCHEMA_VERSION = 1

_TOP = 5
"""Choices of a row whose logits are recorded, the highest ones: a language model has a whole vocabulary of them."""


@dataclass(frozen=True)
class Answer:
    """What one format said.

    Attributes:
        choices: The choices with the highest logits of each row, the highest first. `(rows, at most 5)`.
        logits: Theirs.
    """

    choices: NDArray[np.int64]
    logits: NDArray[np.float64]

    def label_agreement(self, given: NDArray[np.float32]) -> float:
        """Share of the rows that have the recorded label among other logits `(rows, all choices)`."""
        return float((given.argmax(axis=-1) == self.choices[:, 0]).mean())

    def max_abs_diff(self, given: NDArray[np.float32]) -> float:
        """Largest difference of a recorded logit; infinite where one is not a number."""
        difference = np.abs(np.take_along_axis(given, self.choices, axis=-1) - self.logits)
        return float(np.nan_to_num(difference, nan=np.inf).max())


@dataclass(frozen=True)
class Recorded:
    """Rows and answers.

    Attributes:
        task: What the formats do.
        rows: For `TokenRows.of`.
        answers: By the file that gave them, `torch` for the checkpoint itself.
    """

    task: str
    rows: list[dict[str, list[int]]]
    answers: dict[str, Answer]


def write(
    path: Path, task: str, rows: Sequence[Mapping[str, list[int]]], answers: Mapping[str, NDArray[np.float32]]
) -> None:
    """Writes recorded answers.

    Args:
        path: The file.
        task: What the formats do.
        rows: As `TokenRows.take` gives them.
        answers: All logits of each format, `(rows, choices)`.
    """
    document = {
        "schema_version": SCHEMA_VERSION,
        "task": task,
        "rows": list(rows),
        "answers": {name: _highest(logits) for name, logits in answers.items()},
    }
    path.write_text(json.dumps(document, separators=(",", ":")) + "\n", encoding="utf-8")


def _highest(logits: NDArray[np.float32]) -> dict[str, Any]:
    choices = np.argsort(-logits, axis=-1, kind="stable")[:, :_TOP]
    values = np.take_along_axis(logits, choices, axis=-1).astype(np.float64).round(6)
    return {"choices": choices.tolist(), "logits": values.tolist()}


def read(path: Path) -> Recorded:
    """Reads recorded answers.

    Raises:
        CompressError: It is no such file.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["schema_version"] != SCHEMA_VERSION:
            raise ValueError(f"schema_version is {document['schema_version']}, can read {SCHEMA_VERSION}")
        rows: list[dict[str, list[int]]] = [dict(row) for row in document["rows"]]
        answers = {
            str(name): Answer(np.array(entry["choices"], np.int64), np.array(entry["logits"], np.float64))
            for name, entry in document["answers"].items()
        }
        if not rows or any(
            a.choices.shape != a.logits.shape or not a.choices.size or len(a.choices) != len(rows)
            for a in answers.values()
        ):
            raise ValueError("not as many answers as rows")
        return Recorded(str(document["task"]), rows, answers)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CompressError(f"{path} cannot be read: {type(error).__name__}: {error}") from None
