"""Rows that are held out to judge a model: whether a run would take them, and the labels that they have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from compressor.data import label_set_rows, table_files, tables
from compressor.data.held_out import held_out, held_out_groups
from compressor.data.lines import quoted
from compressor.drafting.columns import is_number
from compressor.drafting.guess import Guess, refused
from compressor.drafting.rows import PLACE, Sample
from compressor.errors import Problem, RecipeError
from compressor.tasks import label_names, multi_label, text_classification, text_regression

_LABELLED = (text_classification.NAME, multi_label.NAME, text_regression.NAME)
_COLUMNS = ("text", "text_pair", "query", "group")


def check(rows: Sample, guess: Guess, fraction: float, head: Sequence[str] | None) -> None:
    """Refuses labelled rows of a table that a run would refuse once some are held out.

    Args:
        rows: The rows, and those of a validation file.
        guess: What they are.
        fraction: Share that is held out where there is no validation file.
        head: Names of the outputs of the checkpoint's head; None where a new one is trained.

    Raises:
        RecipeError: Held-out rows lack a column or a value, have labels that cannot be scored, or there are none.
    """
    if rows.form != "table" or guess.task not in _LABELLED:
        return
    kept = _kept(rows.rows, rows.train.name, guess)
    if rows.validation is not None:
        name = rows.validation.name
        used = [guess.data[key] for key in (*_COLUMNS, "label") if key in guess.data]
        table_files.require(list(dict.fromkeys(used)), list(rows.judged_names), name, PLACE)
        train, judged = kept, _kept(rows.judged, name, guess)
    elif rows.whole:
        name, apart = rows.train.name, _apart(kept, guess, fraction)
        train, judged = ([row for row, held in zip(kept, apart, strict=True) if held is side] for side in (False, True))
    else:
        return  # which labels the other rows have is not known
    if not train or not judged:
        what = f"{rows.train.name} has too few different rows to hold some out"
        raise refused(PLACE, what, "give more rows, or a file called dev beside one called train", "missing")
    learned, scored = (Counter(chain.from_iterable(_labels(part, guess, name))) for part in (train, judged))
    if guess.task == text_regression.NAME:
        if (wrong := next((label for label in scored if not is_number(label)), None)) is not None:
            raise refused(
                PLACE, f"{name} has the label {quoted(wrong)}, which is not a number", "fix the row, or drop it"
            )
    elif head is not None:
        renamed = guess.data.get("labels", {})
        label_names.match([renamed.get(label, label) for label in scored], head, PLACE)
    elif rows.whole and (unseen := sorted(scored.keys() - learned.keys())):
        rest = "which no other rows have" if rows.validation is None else f"which {rows.train.name} has not"
        what = f"rows of {name} that are held out have the label {quoted(unseen[0])}, {rest}"
        raise refused(PLACE, what, "a label needs rows to learn from, too; give more of them, or drop these", "unknown")


def _kept(rows: Sequence[Mapping[str, Any]], name: str, guess: Guess) -> list[Mapping[str, Any]]:
    """The rows that match `where`."""
    numbered = ((str(number), row) for number, row in enumerate(rows))
    return [row for _, row in tables.matching(numbered, guess.data.get("where", {}), name, PLACE)]


def _apart(rows: Sequence[Mapping[str, Any]], guess: Guess, fraction: float) -> list[bool]:
    """Whether a run holds each row out."""
    named = guess.data.get("group") or guess.data.get("query")
    if named is None:
        return held_out(guess.texts, fraction)
    return held_out_groups([str(tables.required_text(row, named, named, PLACE)) for row in rows], fraction)


def _labels(rows: Sequence[Mapping[str, Any]], guess: Guess, name: str) -> Iterator[list[str]]:
    """The labels of each row.

    Raises:
        RecipeError: A row lacks a value.
    """
    data, column = guess.data, guess.data["label"]
    texts = {key: data[key] for key in _COLUMNS if key in data}
    for number, row in enumerate(rows, 1):
        found: list[Any] = [tables.required_text(row, called, called, PLACE) for called in texts.values()]
        if guess.task == multi_label.NAME:
            label: Any = label_set_rows.label_set(row[column], column, data.get("label_separator"), PLACE)
        else:
            label = tables.required_text(row, column, column, PLACE)
        wrong = next((value for value in (*found, label) if isinstance(value, Problem)), None)
        if wrong is not None:
            raise RecipeError([Problem(PLACE, f"{name}, row {number}: {wrong.what}", wrong.hint, kind=wrong.kind)])
        yield [label] if isinstance(label, str) else label
