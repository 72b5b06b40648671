"""Columns that hold any number of labels for a row: lists, or texts with a mark between the labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import chain

from compressor.data.cells import NotText, text_of
from compressor.data.lines import quoted
from compressor.drafting.columns import MOST_LABELS, Column
from compressor.drafting.guess import refused
from compressor.drafting.rows import PLACE

_NAMES = ("labels", "label", "categories", "tags", "topics", "genres", "emotions", "intents", "classes", "types")
"""Names of columns with lists of labels, without what separates words, the surest first."""
_MARKS = ("|", ";", ",")
_SOME = 0.05
"""Share of the texts that have a mark in them where it separates labels."""


def find(there: Sequence[Column]) -> tuple[Column, str | None, Counter[str]] | None:
    """The column, what separates the labels of a text, and how many rows have each label.

    Args:
        there: The columns of the rows.

    Raises:
        RecipeError: The column has nothing in a row: there an empty list, or an empty text, is no label. Or it has a 0
            or a 1 for each label.
    """
    for column in there:
        if column.kind == "list" and column.plain in _NAMES and _is_vectors(column):
            what = f"column {quoted(column.name)} has a 0 or a 1 for each label"
            raise refused(PLACE, what, 'write the names of a row\'s labels instead, such as ["joy", "fear"]', "type")
    lists = [column for column in there if column.kind == "list" and _few(_of_lists(column), len(column.values))]
    lists.sort(key=_rank)
    if lists:
        if None in lists[0].values:
            what = f"column {quoted(lists[0].name)} has nothing in row {lists[0].values.index(None) + 1}"
            raise refused(PLACE, what, "a row without labels has an empty list; fix the row or drop it", "missing")
        return lists[0], None, _of_lists(lists[0])
    for column in sorted(there, key=_rank):
        if column.kind != "text" or _rank(column) == len(_NAMES):
            continue
        for mark in _MARKS:
            parts = [[part.strip() for part in text.split(mark)] for text in column.texts]
            counts = Counter(chain.from_iterable(map(set, parts)))
            marked = sum(len(entry) > 1 for entry in parts) >= _SOME * len(parts)
            if marked and "" not in counts and len(counts) < len(column.counts) and _few(counts, len(parts)):
                return column, mark, counts
    return None


def _rank(column: Column) -> int:
    return _NAMES.index(column.plain) if column.plain in _NAMES else len(_NAMES)


def _of_lists(column: Column) -> Counter[str]:
    """How many rows have each label; nothing where lists hold something else."""
    counts: Counter[str] = Counter()
    if _is_vectors(column):
        return counts
    try:
        for value in column.values:
            counts.update({str(text_of(item)) for item in value or () if not _is_fraction(item)})
    except NotText:
        return Counter()
    return counts if not any(map(_is_fraction, column.items())) else Counter()


def _is_vectors(column: Column) -> bool:
    """Whether each row has a 0 or a 1 for each of some labels, and not the labels."""
    found = [value for value in column.values if isinstance(value, list)]
    ones = all(item in (0, 1) for value in found for item in value)
    return ones and len(set(map(len, found))) == 1 and any(len(set(value)) < len(value) for value in found)


def _is_fraction(item: object) -> bool:
    return isinstance(item, float)


def _few(counts: Counter[str], rows: int) -> bool:
    """Whether there are as few different ones as of labels."""
    return 2 <= len(counts) <= max(MOST_LABELS, rows // 4) and counts.total() >= 2 * len(counts)
