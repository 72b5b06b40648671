"""Rows of words with a tag each: CoNLL files, and tables with lists."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressor.data import conll, tables
from compressor.data.lines import MOST_PROBLEMS
from compressor.data.sources import CONLL
from compressor.data.spec import DataSpec, HubDataset
from compressor.data.tags import OUTSIDE, is_tag
from compressor.errors import Problem, RecipeError
from compressor.files import suffix

if TYPE_CHECKING:
    from datasets import Dataset

_TAG_HINT = "allowed: O, or B-, I-, E-, S-, L- or U- and a type, as in B-person"


def read(source: Path | HubDataset, columns: Mapping[str, str], spec: DataSpec, work: Path, place: str) -> Dataset:
    """The rows of a CoNLL file or of a table.

    Args:
        source: Where they are.
        columns: From `tokens` and `tags` to the columns of a table.
        spec: The recipe's `data`.
        work: Folder for intermediate files.
        place: The recipe's key, for errors.

    Returns:
        `tokens` and `tags`, lists of as many strings; for errors the `source`'s name, and the `line` of the first token
        in a CoNLL file, or else the `row`, from 1.

    Raises:
        RecipeError: They cannot be read, or words and tags are not in pairs.
    """
    from datasets import Dataset

    if isinstance(source, Path) and suffix(source) in CONLL:
        if spec.where:
            what = f"{source.name} has no columns to compare"
            raise RecipeError(
                [Problem("data.where", what, "where is for tables: jsonl, parquet, hub", kind="conflict")]
            )
        sentences = list(conll.read(source, place))
        return Dataset.from_dict(
            {
                "tokens": [list(sentence.tokens) for sentence in sentences],
                "tags": [list(sentence.tags) for sentence in sentences],
                "source": [source.name] * len(sentences),
                "line": [sentence.line for sentence in sentences],
                "row": [0] * len(sentences),
            }
        )
    rows = tables.read(source, columns, spec.where, work, place)
    name = source.hub if isinstance(source, HubDataset) else source.name
    lists = {column: _texts(rows, column, columns[column], place) for column in ("tokens", "tags")}
    _check_pairs(lists["tokens"], lists["tags"], name, place)
    numbers = list(range(1, len(rows) + 1))
    return Dataset.from_dict({**lists, "source": [name] * len(rows), "line": [0] * len(rows), "row": numbers})


def _texts(rows: Dataset, column: str, called: str, place: str) -> list[list[str]]:
    """A column's lists as text, class labels by name."""
    from datasets import ClassLabel

    values: list[Any] = rows[column][:]
    feature = getattr(rows.features[column], "feature", None)
    if feature is None or not all(isinstance(value, list) for value in values):
        what = f"the column {called!r} does not hold a list in each row"
        raise RecipeError(
            [Problem(place, what, f"allowed: a list of {column} in each row, or a CoNLL file", kind="type")]
        )
    if isinstance(feature, ClassLabel):
        return [[feature.int2str(index) for index in value] for value in values]
    return [[tables.as_text(item) for item in value] for value in values]


def _check_pairs(tokens: list[list[str]], tags: list[list[str]], name: str, place: str) -> None:
    problems: list[Problem] = []
    for row, (words, given) in enumerate(zip(tokens, tags, strict=True), start=1):
        if len(words) != len(given) or not words:
            what = f"{name}, row {row}: {len(words)} tokens and {len(given)} tags"
            problems.append(Problem(place, what, "every token needs a tag, and a row a token", kind="value"))
        elif wrong := [tag for tag in given if not is_tag(tag)]:
            problems.append(Problem(place, f"{name}, row {row}: the tag {wrong[0]!r}", _TAG_HINT, kind="value"))
    if problems:
        raise RecipeError(problems[:MOST_PROBLEMS])


def identities(rows: Dataset) -> Iterable[tuple[str, ...]]:
    """The words of each row; rows with equal words stay on one side of a split."""
    return (tuple(words) for words in rows["tokens"])


def labels(train: Dataset, validation: Dataset) -> list[str]:
    """The tags in order: `O`, then by type, where entities begin before where they go on.

    Raises:
        RecipeError: No training row has an entity, or a validation tag does not occur in the training rows.
    """
    counts = Counter(tag for tags in train["tags"] for tag in tags)
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
                at = f"line {row['line'] + index}" if row["line"] else f"row {row['row']}, token {index + 1}"
                unseen[tag] = f"{row['source']}, {at}: the tag {tag!r} is not in the training rows"
    hint = f"they have {', '.join(sorted(counts)[:12])}"
    found += [Problem("data.validation", what, hint, kind="unknown") for what in list(unseen.values())[:MOST_PROBLEMS]]
    if found:
        raise RecipeError(found)
    return sorted(counts, key=lambda tag: (tag != OUTSIDE, tag[2:], tag[:1]))
