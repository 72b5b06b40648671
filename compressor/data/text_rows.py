"""Rows of a text, or a pair of texts, with a label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressor.data import tables
from compressor.data.spec import DataSpec, HubDataset
from compressor.errors import Problem, RecipeError

if TYPE_CHECKING:
    from datasets import Dataset


def read(source: Path | HubDataset, columns: Mapping[str, str], spec: DataSpec, work: Path, place: str) -> Dataset:
    """The rows of a table, all columns as text.

    Args:
        source: Where they are.
        columns: From `text`, maybe `text_pair`, and `label` to the source's columns.
        spec: The recipe's `data`.
        work: Folder for intermediate files.
        place: The recipe's key, for errors.

    Raises:
        RecipeError: They cannot be read, a value is missing, or is no text.
    """
    from datasets import Features, Value

    def convert(row: Mapping[str, Any]) -> dict[str, Any] | Problem:
        found = {name: tables.required_text(row, name, column, place) for name, column in columns.items()}
        return next((value for value in found.values() if isinstance(value, Problem)), found)

    rows = tables.read(source, columns, spec.where, work, place)
    features = Features({name: Value("string") for name in columns})
    return tables.converted(rows, convert, features, tables.name_of(source), work / f"{place}.arrow")


def identities(rows: Dataset) -> Iterable[tuple[str, ...]]:
    """The texts of each row; rows with equal texts stay on one side of a split."""
    return zip(*(rows[name] for name in rows.column_names if name != "label"), strict=True)


def labels(train: Dataset, validation: Dataset) -> list[str]:
    """The labels in order: as numbers when all are, else by alphabet.

    Raises:
        RecipeError: A label cannot be learned or scored.
    """
    counts, held_out = Counter(train["label"]), Counter(validation["label"])
    labels = sorted(counts, key=lambda label: (0, int(label), label) if label.lstrip("-").isdigit() else (1, 0, label))
    found = []
    if len(labels) < 2:
        found.append(
            Problem(
                "data.label", f"the training rows have only the label {labels[0]!r}", "two are needed", kind="value"
            )
        )
    if once := [label for label in labels if counts[label] == 1]:
        what = f"{', '.join(map(repr, once[:5]))} occurs once in the training rows"
        hint = "one example can neither be learned nor held out: drop the row with data.where, or merge the label"
        found.append(Problem("data.label", what, hint, kind="value"))
    if unseen := sorted(set(held_out) - set(counts)):
        first = next(i for i, label in enumerate(validation["label"]) if label == unseen[0])
        what = f"the validation rows have labels that the training rows lack: {', '.join(map(repr, unseen[:5]))} "
        what += f"({unseen[0]!r} first in row {first + 1} of those used)"
        found.append(Problem("data.label", what, f"the training rows have {', '.join(labels[:10])}", kind="unknown"))
    if len(labels) > max(100, len(train) // 4):
        what = f"{len(labels)} labels in {len(train)} training rows"
        hint = "is this the label column? It looks like text or an id; numbers need a task that learns numbers"
        found.append(Problem("data.label", what, hint, kind="value"))
    if found:
        raise RecipeError(found)
    return labels
