"""What a draft knows, or assumes, of the rows; and what it knows of the checkpoint's heads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from compressor.errors import Problem, RecipeError
from compressor.models.checkpoint import Checkpoint, input_names
from compressor.models.sentence_embedding import KEY, root
from compressor.tasks import TASKS, has_head

CHECKPOINT = "CHECKPOINT"
"""What errors call the checkpoint."""
ASSUMED = "assumed: "
"""Begins the comments on what may be otherwise."""


@dataclass(frozen=True)
class Heads:
    """What a checkpoint can do.

    Attributes:
        tasks: The tasks for which it has a trained head.
        labels: Names of the head's outputs.
        pairs: Whether it tells the second of two texts from the first.
    """

    tasks: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    pairs: bool = True

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> Heads:
        """Those of a checkpoint on disk."""
        alike = "token_type_ids" in input_names(checkpoint.family) and checkpoint.token_types < 2
        # Any encoder can give vectors; one that is meant to says how.
        means = KEY in checkpoint.config or root(checkpoint.path) is not None
        tasks = tuple(name for name in TASKS if has_head(checkpoint, name) and (means or not TASKS[name].HEAD.vectors))
        return cls(tasks, tuple(checkpoint.labels), not alike)


@dataclass(frozen=True)
class Guess:
    """What the rows are.

    Attributes:
        task: The task's name.
        data: Keys of the recipe's `data`, beside the files.
        texts: The text, the two texts or the words of each row.
        counts: How many rows, or words, have each label; empty where labels have no names.
        notes: Comments, by the key that they are about.
    """

    task: str
    data: dict[str, Any]
    texts: Sequence[Any]
    counts: Counter[str] = field(default_factory=Counter)
    notes: dict[str, str] = field(default_factory=dict)

    def noting(self, key: str, note: str) -> Guess:
        """The same with a comment; what was said of the key before stands in front of it."""
        before = self.notes.get(key)
        return replace(self, notes={**self.notes, key: f"{before}; {note}" if before else note})


def refused(place: str, what: str, hint: str = "", kind: str = "value") -> RecipeError:
    """The error of rows that no recipe can be drafted for."""
    return RecipeError([Problem(place, what, hint, kind=kind)])
