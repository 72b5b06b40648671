"""Rows of words with a tag each: CoNLL files, and tables with lists."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from compressor.data import conll, tables
from compressor.data.cells import NotText, text_of
from compressor.data.columns import values
from compressor.data.lines import MOST_PROBLEMS, quoted
from compressor.data.renames import Renames
from compressor.data.sources import CONLL
from compressor.data.spec import DataSpec, HubDataset
from compressor.data.splits import GROUP
from compressor.data.table_files import Row
from compressor.data.tags import OUTSIDE, TAG_HINT, disagreement, is_tag
from compressor.errors import Problem, RecipeError, shown
from compressor.files import suffix

if TYPE_CHECKING:
    from datasets import Dataset


def read(
    source: Path | HubDataset, columns: Mapping[str, str], spec: DataSpec, work: Path, place: str, rename: Renames
) -> Dataset:
    """The rows of a CoNLL file or of a table.

    Args:
        source: Where they are.
        columns: From `tokens` and `tags` to the columns of a table.
        spec: The recipe's `data`.
        work: Folder for intermediate files.
        place: The recipe's key, for errors.
        rename: From a label to the one that it stands for.

    Returns:
        `tokens` and `tags`, lists of as many strings; for errors the `source`'s name, and the `line` of the first token
        in a CoNLL file, or else the `row`, from 1; and `GROUP` where the recipe names its column, or a CoNLL file has
        documents.

    Raises:
        RecipeError: They cannot be read, words and tags are not in pairs, or tags are of two schemes.
    """
    from datasets import Dataset

    if isinstance(source, Path) and suffix(source) in CONLL:
        tables.refuse_columns(source, spec)
        return _checked(Dataset.from_dict(_of_sentences(list(conll.read(source, place)), source.name, rename)), place)
    from datasets import Features, List, Value

    def convert(row: Mapping[str, Any]) -> dict[str, Any] | Problem:
        found: dict[str, Any] = {}
        for column in ("tokens", "tags"):
            texts = _texts(row[column], column, columns[column], place)
            if isinstance(texts, Problem):
                return texts
            found[column] = texts
        found["tags"] = list(map(rename, found["tags"]))
        if GROUP in columns:
            group = tables.required_text(row, GROUP, columns[GROUP], place)
            if isinstance(group, Problem):
                return group
            found[GROUP] = group
        return _mistake(found["tokens"], found["tags"], place) or found

    name = tables.name_of(source)
    numbers: list[int] = []
    kinds = {name: Value("string") if name == GROUP else List(Value("string")) for name in columns}
    rows = tables.converted(
        _counted(tables.read(source, columns, spec.where, work, place), numbers), convert, Features(kinds), name,
        work / f"{place}.arrow",
    )  # fmt: skip
    for column, added in (("source", [name] * len(rows)), ("line", [0] * len(rows)), ("row", numbers)):
        rows = rows.add_column(column, added)
    return _checked(rows, place)


def _of_sentences(sentences: Sequence[conll.Sentence], name: str, rename: Renames) -> dict[str, list[Any]]:
    """The columns of a CoNLL file's rows; with `GROUP` if it has several documents."""
    columns: dict[str, list[Any]] = {
        "tokens": [list(sentence.tokens) for sentence in sentences],
        "tags": [list(map(rename, sentence.tags)) for sentence in sentences],
        "source": [name] * len(sentences),
        "line": [sentence.line for sentence in sentences],
        "row": [0] * len(sentences),
    }
    if len({sentence.document for sentence in sentences}) > 1:
        columns[GROUP] = [f"{name}, document {sentence.document}" for sentence in sentences]
    return columns


def _checked(rows: Dataset, place: str) -> Dataset:
    """The rows, if their tags are of one scheme."""
    if problem := _mixed([rows], place):
        raise RecipeError([problem])
    return rows


def _mixed(parts: Sequence[Dataset], place: str) -> Problem | None:
    """The first two tags of some rows that are of different schemes."""
    ends = np.cumsum([len(rows) for rows in parts])
    found = disagreement(chain.from_iterable(values(rows, "tags") for rows in parts))
    if found is None:
        return None
    said = []
    for number, index in found:
        part = int(np.searchsorted(ends, number, side="right"))
        row = parts[part][int(number - ends[part] + len(parts[part]))]
        said.append(f"{_at(row, index)} has {quoted(row['tags'][index])}")
    hint = "where E- or S- (of BILOU L- or U-) mark ends and single tokens, they mark all of them; use one scheme"
    return Problem(place, f"tags of two schemes: {said[0]}, and {said[1]}", hint, kind="value")


def _at(row: Mapping[str, Any], index: int) -> str:
    """Where a token of a row is."""
    at = f"line {row['line'] + index}" if row["line"] else f"row {row['row']}, token {index + 1}"
    return f"{row['source']}, {at}"


def _counted(rows: Iterable[Row], numbers: list[int]) -> Iterable[Row]:
    """The rows; notes the number of each in its source."""
    for at, row in rows:
        numbers.append(int(at.rpartition(" ")[2]))
        yield at, row


def _texts(values: Any, column: str, called: str, place: str) -> list[str] | Problem:
    """A cell's list as texts."""
    if not isinstance(values, list):
        what = f"column {quoted(called)} holds {shown(values)}"
        return Problem(place, what, f"allowed: a list of {column} in each row, or a CoNLL file", kind="type")
    found = []
    for index, value in enumerate(values, 1):
        try:
            text = text_of(value)
        except NotText as error:
            return Problem(place, f"item {index} of column {quoted(called)} {error.what}", "fix the row", kind="type")
        if text is None:
            what = f"item {index} of column {quoted(called)} is null"
            return Problem(place, what, "every token and every tag is a text", kind="missing")
        found.append(text)
    return found


def _mistake(tokens: list[str], tags: list[str], place: str) -> Problem | None:
    if len(tokens) != len(tags) or not tokens:
        what = f"{len(tokens)} tokens and {len(tags)} tags"
        return Problem(place, what, "every token needs a tag, and a row a token", kind="value")
    if wrong := [tag for tag in tags if not is_tag(tag)]:
        return Problem(place, f"the tag {quoted(wrong[0])}", TAG_HINT, kind="value")
    return None


def identities(rows: Dataset) -> Iterable[tuple[str, ...]]:
    """The words of each row; rows with equal words stay on one side of a split."""
    return (("\x1f".join(words),) for words in values(rows, "tokens"))


def groups(rows: Dataset) -> Iterable[str]:
    """The words of each row: equal sentences are one observation."""
    return ["\0".join(words) for words in values(rows, "tokens")]


def labels(train: Dataset, validation: Dataset, known: Dataset, new_head: bool) -> tuple[list[str], list[str]]:
    """The tags in order: `O`, then by type, where entities begin before where they go on; and notes on rare ones.

    Raises:
        RecipeError: A new head is to learn from rows without an entity, or lacks a validation row's tag; or the
            validation rows' tags are of another scheme.
    """
    drawn = Counter(tag for tags in values(train, "tags") for tag in tags)
    counts = Counter(tag for tags in values(known, "tags") for tag in tags)
    if not new_head:
        counts.update(tag for tags in values(validation, "tags") for tag in tags)
    found = []
    if not set(counts) - {OUTSIDE}:
        what = "the training rows have no entity, only O"
        found.append(
            Problem("data.tags", what, "is this the column with the tags? In CoNLL files it is the last", kind="value")
        )
    unseen: dict[str, str] = {}
    for row in validation:
        for index, tag in enumerate(row["tags"]):
            if tag not in counts and tag not in unseen:
                unseen[tag] = f"{_at(row, index)}: the tag {tag!r} is not in the training rows"
    hint = f"they have {', '.join(sorted(counts)[:12])}"
    found += [Problem("data.validation", what, hint, kind="unknown") for what in list(unseen.values())[:MOST_PROBLEMS]]
    if mixed := _mixed([known, validation], "data.validation"):
        found.append(mixed)
    if found:
        raise RecipeError(found)
    names = sorted(counts, key=lambda tag: (tag != OUTSIDE, tag[2:], tag[:1]))
    rare = [name for name in names if drawn[name] < 2]
    return names, [f"the training rows have at most one of each of these tags: {', '.join(rare[:10])}"] if rare else []
