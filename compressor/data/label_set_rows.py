"""Rows of a text, or a pair of texts, with a set of labels: any number of them, or none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressor.data import tables, text_rows
from compressor.data.cells import NotText, text_of
from compressor.data.columns import values
from compressor.data.lines import quoted
from compressor.data.renames import Renames
from compressor.data.spec import DataSpec, HubDataset
from compressor.data.text_rows import groups, identities
from compressor.errors import Problem, RecipeError

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["groups", "identities", "labels", "read"]


def read(
    source: Path | HubDataset, columns: Mapping[str, str], spec: DataSpec, work: Path, place: str, rename: Renames
) -> Dataset:
    """The rows of a table: texts, and `label`, a list of texts.

    A cell holds a list, or a text: one label, or several with `spec.label_separator` between them, with or without
    white space around them. An empty list and an empty text are no label. A label counts once, however often a row
    names it.

    Args:
        source: Where they are.
        columns: From `text`, maybe `text_pair`, and `label` to the source's columns.
        spec: The recipe's `data`.
        work: Folder for intermediate files.
        place: The recipe's key, for errors.
        rename: From a label to the one that it stands for.

    Raises:
        RecipeError: They cannot be read, a value is missing, or is neither a text nor a list of texts.
    """
    from datasets import Features, Value
    from datasets import List as ListOf

    texts = {name: column for name, column in columns.items() if name != "label"}

    def convert(row: Mapping[str, Any]) -> dict[str, Any] | Problem:
        found: dict[str, Any] = {name: tables.required_text(row, name, column, place) for name, column in texts.items()}
        found["label"] = label_set(row["label"], columns["label"], spec.label_separator, place)
        wrong = next((value for value in found.values() if isinstance(value, Problem)), None)
        return wrong or {**found, "label": list(dict.fromkeys(map(rename, found["label"])))}

    rows = tables.read(source, columns, spec.where, work, place)
    features = Features({**{name: Value("string") for name in texts}, "label": ListOf(Value("string"))})
    return tables.converted(rows, convert, features, tables.name_of(source), work / f"{place}.arrow")


def label_set(cell: Any, column: str, separator: str | None, place: str) -> list[str] | Problem:
    """The labels of a cell, or the problem with it.

    Args:
        cell: A list, or a text, number or boolean.
        column: The column's name in the source.
        separator: Between the labels of a text; None where a text is one label.
        place: The recipe's key of the source.
    """
    if cell is None:
        hint = "an empty list is a row without labels; fix the row or drop it"
        return Problem(place, f"there is nothing in column {quoted(column)}", hint, kind="missing")
    try:
        if isinstance(cell, list):
            found = [text_of(entry) for entry in cell]
        else:
            whole = (text_of(cell) or "").strip()
            parts = whole.split(separator) if separator else [whole]
            found = [part.strip() for part in parts] if whole else []
    except NotText as error:
        hint = "labels are texts, numbers or booleans, or lists of these; fix the row, or name another column"
        return Problem(place, f"column {quoted(column)} {error.what}", hint, kind=error.kind)
    if not all(name and name.strip() for name in found):
        what = f"column {quoted(column)} holds {quoted(str(cell))}, in which a label is empty"
        return Problem(place, what, "fix the row; one without labels has an empty list, or no text", kind="value")
    return [str(name) for name in found]


def labels(train: Dataset, validation: Dataset, known: Dataset, new_head: bool) -> tuple[list[str], list[str]]:
    """The labels in order, as `text_rows.labels` has them, and notes on rare ones and on rows without any.

    Raises:
        RecipeError: A new head cannot learn a label, or there is none to score.
    """
    counts, there, held_out = (
        Counter(chain.from_iterable(values(rows, "label"))) for rows in (train, known, validation)
    )
    names, notes = text_rows.named(counts, set(there), set(held_out), new_head)
    if not held_out:
        hint = "check data.label, or give other validation rows: scores are of labels that are found"
        raise RecipeError([Problem("data.validation", "no validation row has a label", hint, kind="value")])
    for what, rows in (("training", train), ("validation", validation)):
        if without := sum(not found for found in values(rows, "label")):
            notes.append(f"{without} of {len(rows)} {what} rows have no label")
    return names, notes
