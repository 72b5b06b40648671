"""Precision, recall and F1 of single labels, or of single types of entities."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from compressor.gates.estimate import Floats
from compressor.gates.metrics import ANY_LABEL, metric_of
from compressor.gates.rows import Rows
from compressor.tasks.base import References


class Labelled(Protocol):
    """What a task defines beside `Scoring`, if its answers are labels that can be told apart."""

    def scored_labels(self, labels: Sequence[str]) -> tuple[str, ...]:
        """The names in brackets of `recall[NAME]`, given those of the head's outputs."""

    def by_label(
        self, answers: NDArray[np.float32], references: References, labels: Sequence[str], wanted: Collection[str]
    ) -> dict[str, Floats]:
        """What each row adds to the sums of `FORMULAS`, by name; see `score`.

        Args:
            answers: As of `Scoring.score`.
            references: The right answers.
            labels: Names of the head's outputs.
            wanted: The names that are asked for.

        Returns:
            For each name, of each row: right answers with the name, true ones, and given ones. `(rows, 3)`.
        """


def names_of(task: Any, labels: Sequence[str]) -> tuple[str, ...]:
    """The names that a task's answers can be scored by; none where they have none."""
    return cast(Labelled, task).scored_labels(labels) if hasattr(task, "by_label") else ()


def score(
    task: Any,
    answers: NDArray[np.float32],
    references: References,
    labels: Sequence[str],
    metrics: Collection[str],
) -> dict[str, Rows]:
    """Metrics of single labels over rows.

    Args:
        task: The task.
        answers: As of `Scoring.score`.
        references: The right answers.
        labels: Names of the head's outputs.
        metrics: Such as `recall[PASSPORT]`.
    """
    asked = {name: metric_of(name) for name in metrics}
    if not asked or not names_of(task, labels):
        return {}
    wanted = {metric.label for metric in asked.values()}
    counts = cast(Labelled, task).by_label(answers, references, labels, wanted)
    return {name: Rows(counts[metric.label], FORMULAS[metric.base], only_adding=True) for name, metric in asked.items()}


def expanded(metric: str, names: Sequence[str]) -> list[str]:
    """The metrics that a name stands for: itself, or with `[*]` those of all labels."""
    found = metric_of(metric)
    return [f"{found.base}[{name}]" for name in names] if found.label == ANY_LABEL else [found.name]


def _share(part: Floats, whole: Floats) -> Floats:
    """A share, NaN of nothing."""
    return np.asarray(np.divide(part, whole, out=np.full_like(part, np.nan), where=whole > 0))


FORMULAS = {
    "precision": lambda sums: _share(sums[..., 0], sums[..., 2]),
    "recall": lambda sums: _share(sums[..., 0], sums[..., 1]),
    "f1": lambda sums: _share(2 * sums[..., 0], sums[..., 1] + sums[..., 2]),
}
"""From sums of right, true and given answers, `(…, 3)`, to the metric; NaN where no row tells."""
