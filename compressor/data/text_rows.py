"""Rows of a text, or a pair of texts, with a label."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressor.data import tables
from compressor.data.columns import values
from compressor.data.renames import Renames
from compressor.data.spec import DataSpec, HubDataset
from compressor.errors import Problem, RecipeError, shown

if TYPE_CHECKING:
    from datasets import Dataset

_WHOLE = re.compile(r"-?(0|[1-9][0-9]{0,17})")
_MOST_SHOWN = 10


def read(
    source: Path | HubDataset, columns: Mapping[str, str], spec: DataSpec, work: Path, place: str, rename: Renames
) -> Dataset:
    """The rows of a table, all columns as text.

    Args:
        source: Where they are.
        columns: From `text`, maybe `text_pair`, and `label` to the source's columns.
        spec: The recipe's `data`.
        work: Folder for intermediate files.
        place: The recipe's key, for errors.
        rename: From a label to the one that it stands for.

    Raises:
        RecipeError: They cannot be read, a value is missing, or is no text.
    """
    from datasets import Features, Value

    def convert(row: Mapping[str, Any]) -> dict[str, Any] | Problem:
        found = {name: tables.required_text(row, name, column, place) for name, column in columns.items()}
        wrong = next((value for value in found.values() if isinstance(value, Problem)), None)
        return wrong or {**found, "label": rename(str(found["label"]))}

    rows = tables.read(source, columns, spec.where, work, place)
    features = Features({name: Value("string") for name in columns})
    return tables.converted(rows, convert, features, tables.name_of(source), work / f"{place}.arrow")


def identities(rows: Dataset) -> Iterable[tuple[str, ...]]:
    """The texts of each row; rows with equal texts stay on one side of a split."""
    return zip(*(values(rows, name) for name in ("text", "text_pair") if name in rows.column_names), strict=True)


def groups(rows: Dataset) -> Iterable[str]:
    """The text of each row, of pairs the first: pairs that share it are easy or hard together."""
    return values(rows, "text")


def labels(train: Dataset, validation: Dataset, known: Dataset, new_head: bool) -> tuple[list[str], list[str]]:
    """The labels in order, as numbers when all are, else by alphabet, and notes on rare ones.

    Raises:
        RecipeError: A new head cannot learn a label.
    """
    return named(
        Counter(values(train, "label")), set(values(known, "label")), set(values(validation, "label")), new_head
    )


def named(counts: Counter[str], there: set[str], held_out: set[str], new_head: bool) -> tuple[list[str], list[str]]:
    """The labels in order, and notes; see `labels`.

    Args:
        counts: How often the training rows have each label.
        there: Labels of all training rows that are known.
        held_out: Labels of the validation rows.
        new_head: Whether a head is made for the labels.

    Raises:
        RecipeError: A new head cannot learn a label.
    """
    names = sorted(there | held_out, key=_order)
    if new_head and (found := _unlearnable(counts, there, held_out)):
        raise RecipeError(found)
    notes = []
    for which, what in (
        ([name for name in names if counts[name] == 1], "one row only"),
        ([name for name in names if counts[name] == 0], "no row"),
    ):
        if which:
            notes.append(f"the training rows have {what} with the label {_listed(which)}")
    alike = Counter(name.strip().casefold() for name in names)
    if twins := [name for name in names if alike[name.strip().casefold()] > 1]:
        notes.append(f"labels differ only in case or spaces: {_listed(twins)}; data.labels can merge them")
    return names, notes


def _unlearnable(counts: Counter[str], there: set[str], held_out: set[str]) -> list[Problem]:
    found = []
    if len(counts) < 2:
        only = f"the training rows have only the label {shown(min(counts))}" if counts else ""
        what = only or "no training row has a label"
        found.append(Problem("data.label", what, "two are needed", kind="value"))
    if there and (unseen := sorted(held_out - there, key=_order)):
        what = f"the validation rows have labels that the training rows lack: {_listed(unseen)}"
        hint = f"the training rows have {_listed(sorted(there, key=_order))}; a label that means another "
        hint += f"is merged with data.labels: {{{shown(unseen[0])}: {shown(min(there, key=_order))}}}, if that is so"
        found.append(Problem("data.label", what, hint, kind="unknown"))
    if len(counts) > max(100, counts.total() // 4):
        what = f"the training rows have {len(counts)} labels, each {counts.total() / len(counts):.1f} times on average"
        hint = "is this the label column? It looks like text or an id; numbers need a task that learns numbers"
        found.append(Problem("data.label", what, hint, kind="value"))
    return found


def _order(label: str) -> tuple[int, int, str]:
    """Whole numbers first, by their value."""
    return (0, int(label), label) if _WHOLE.fullmatch(label) else (1, 0, label)


def _listed(names: list[str]) -> str:
    return ", ".join(map(shown, names[:_MOST_SHOWN])) + (", …" if len(names) > _MOST_SHOWN else "")
