"""Rows of a text, or a pair of texts, with a number."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from compressor.data import queries
from compressor.data.columns import values
from compressor.data.text_rows import groups, identities, read
from compressor.errors import Problem, RecipeError

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["groups", "identities", "labels", "read"]


def labels(train: Dataset, validation: Dataset, known: Dataset, new_head: bool) -> tuple[list[str], list[str]]:
    """An empty list, since numbers do not have names, and notes on queries.

    Raises:
        RecipeError: A label is not a number, or all labels are equal; or there is nothing to rank, though the recipe
            names queries.
    """
    found = []
    for name, rows in (("training", train), ("validation", validation)):
        wrong = next((i for i, value in enumerate(values(rows, "label")) if not _is_number(value)), None)
        if wrong is not None:
            what = f"row {wrong + 1} of the {name} rows has {rows['label'][wrong]!r}, which is not a number"
            found.append(
                Problem("data.label", what, "map the labels to numbers, or choose a task that classifies", kind="type")
            )
        elif (new_head or rows is validation) and _constant(values(rows, "label")):
            what = f"all {name} rows have the number {rows['label'][0]}"
            found.append(
                Problem(
                    "data.label",
                    what,
                    "a correlation needs different numbers; check that this is the right column",
                    kind="value",
                )
            )
    ranked = queries.QUERY in validation.column_names
    if ranked and not found:
        found = queries.problems(validation)
    if found:
        raise RecipeError(found)
    return [], queries.notes(validation) if ranked else []


def _is_number(value: str) -> bool:
    try:
        return math.isfinite(float(value))
    except ValueError:
        return False


def _constant(values: Iterable[str]) -> bool:
    return len(set(map(float, values))) == 1
