"""Rows of csv, tsv, jsonl and parquet files, one at a time; what is not of the file's format is refused by line."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressor.data.cells import NotText
from compressor.data.lines import lines, quoted, unreadable
from compressor.errors import Problem, RecipeError
from compressor.files import suffix

if TYPE_CHECKING:
    from datasets import Features

Row = tuple[str, Mapping[str, Any]]
"""Where it is, such as `line 3`, and its columns."""

LONGEST_FIELD = 1 << 26
"""Characters of one csv field; a longer one is a quote without an end, and would fill the memory."""

_FIRST_ROWS = 100
"""Rows of a jsonl file whose keys are its columns: a row may lack what is missing in it."""


def columns(path: Path, place: str) -> list[str]:
    """Names of a file's columns, read from its beginning.

    Raises:
        RecipeError: The file is empty or not of its format.
    """
    if kind(path) == "parquet":
        found = list(_parquet_schema(path, place).names)
    elif kind(path) == "jsonl":
        found = list(dict.fromkeys(name for _, row in islice(_json_rows(path, [], place), _FIRST_ROWS) for name in row))
    else:
        found = next(_fields(path, place), (0, []))[1]
    if not [name for name in found if name]:
        hint = "the first line names the columns"
        raise RecipeError([Problem(place, f"{path.name} names no columns: it is empty", hint, kind="unreadable")])
    return found


def holds_lists(path: Path, column: str, place: str) -> bool:
    """Whether a column of a file holds lists: by the first rows of jsonl, by the schema of parquet.

    Raises:
        RecipeError: The file is not of its format.
    """
    if kind(path) == "jsonl":
        return any(isinstance(row.get(column), list) for _, row in islice(_json_rows(path, [], place), _FIRST_ROWS))
    return kind(path) == "parquet" and column in _parquet_lists(path, place)


def kind(path: Path) -> str:
    """A file's format by the end of its name, such as `csv`."""
    return suffix(path)[1:]


def rows(path: Path, wanted: list[str], place: str) -> Iterator[Row]:
    """The rows of a file: of csv and tsv all cells are text, of parquet class labels are their names.

    Args:
        path: The file, by its suffix.
        wanted: The columns that are read.
        place: The recipe's key that names it, for errors.

    Raises:
        RecipeError: The file is not of its format, has no such column, or has it twice.
    """
    if kind(path) == "parquet":
        yield from _parquet_rows(path, wanted, place)
    elif kind(path) == "jsonl":
        found, first, names = _json_rows(path, wanted, place), list[Row](), dict[str, None]()
        for row in islice(found, _FIRST_ROWS):
            first.append(row)
            names.update(dict.fromkeys(row[1]))
            if names.keys() >= set(wanted):
                break
        require(wanted, list(names), path.name, place)
        yield from chain(first, found)
    else:
        yield from _text_rows(path, wanted, place)


def require(wanted: list[str], there: list[str], name: str, place: str) -> None:
    """Raises RecipeError unless each of the wanted columns is there once."""
    counts = Counter(there)
    if missing := [column for column in wanted if not counts[column]]:
        what = f"{name} has no column {', '.join(map(quoted, missing))}"
        hint = f"the columns are {', '.join(there)}" if there else "it names no columns"
        raise RecipeError([Problem(place, what, hint, kind="missing")])
    if twice := [column for column in wanted if counts[column] > 1]:
        what = f"{name} has {counts[twice[0]]} columns that are called {quoted(twice[0])}"
        raise RecipeError([Problem(place, what, "rename one of them, so that it is clear which is meant")])


def namer(feature: Any) -> Callable[[Any], Any] | None:
    """What turns a column's class labels into their names, None for a missing one; None for other columns.

    Args:
        feature: A feature of `datasets`: a `ClassLabel`, or a list of them.
    """
    from datasets import ClassLabel

    if isinstance(feature, ClassLabel):
        names = feature.names

        def name(value: Any) -> Any:
            if value is None or value < 0:
                return None
            if value >= len(names):
                raise NotText(f"holds the class {value} of {len(names)}", "value")
            return names[value]

        return name
    inner = getattr(feature, "feature", None)
    of_item = namer(inner) if inner is not None and not isinstance(inner, dict) else None
    return of_item and (lambda values: None if values is None else list(map(of_item, values)))


def _text_rows(path: Path, wanted: list[str], place: str) -> Iterator[Row]:
    found = _fields(path, place)
    _, names = next(found, (0, []))
    require(wanted, names, f"{path.name}, line 1", place)
    at = {name: names.index(name) for name in wanted}
    for line, fields in found:
        if len(fields) != len(names):
            what = f"has {len(fields)} fields, the first line names {len(names)} columns"
            if len(fields) > len(names) and kind(path) == "csv":
                what += "; a field with a comma in it needs quotes"
            raise unreadable(path, f"line {line}", what, place, kind(path))
        yield f"line {line}", {name: fields[index] for name, index in at.items()}


def _fields(path: Path, place: str) -> Iterator[tuple[int, list[str]]]:
    """The line at which each row begins, and its fields; without blank lines."""
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST_FIELD))
    # A tsv has no quoting (GLUE's have lone quotes), as IANA's text/tab-separated-values says. Strict: else an open
    # quote swallows the rest of the file.
    reader = csv.reader(
        (line for _, line in lines(path, place, kind(path))),
        delimiter="\t" if kind(path) == "tsv" else ",",
        quoting=csv.QUOTE_NONE if kind(path) == "tsv" else csv.QUOTE_MINIMAL,
        strict=True,
    )
    first = 1
    try:
        for fields in reader:
            if fields and (len(fields) > 1 or fields[0].strip() or reader.line_num == 1):
                yield first, fields
            first = reader.line_num + 1
    except csv.Error as error:
        begun = f", in the row that begins in line {first}" if first < reader.line_num else ""
        raise unreadable(path, f"line {reader.line_num}", f"{error}{begun}", place, kind(path)) from None


class _Repeated(dict[str, Any]):
    """A JSON object that has a key twice.

    Attributes:
        key: The key.
    """

    key = ""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        found = _Repeated(found)
        found.key = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
    return found


def _json_rows(path: Path, wanted: list[str], place: str) -> Iterator[Row]:
    read = json.JSONDecoder(object_pairs_hook=_object).decode
    for number, line in lines(path, place, "jsonl"):
        if not line.strip():
            continue
        what = "is not a JSON object"
        try:
            row = read(line)
        except (ValueError, RecursionError) as error:
            row, what = None, f"is not JSON: {error}"
        if not isinstance(row, dict):
            raise unreadable(path, f"line {number}", what, place, "jsonl") from None
        for entry in (row, *(row.get(name) for name in wanted)):
            if isinstance(entry, _Repeated):
                raise unreadable(path, f"line {number}", f"has the key {quoted(entry.key)} twice", place, "jsonl")
        yield f"line {number}", row


def _parquet_schema(path: Path, place: str) -> Any:
    import pyarrow
    from pyarrow import parquet

    try:
        return parquet.read_schema(path)
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise unreadable(path, "its schema", str(error), place, "parquet") from error


def _parquet_lists(path: Path, place: str) -> set[str]:
    """Names of the columns of lists."""
    from pyarrow import types

    tests = (types.is_list, types.is_large_list, types.is_fixed_size_list)
    return {field.name for field in _parquet_schema(path, place) if any(test(field.type) for test in tests)}


def _parquet_rows(path: Path, wanted: list[str], place: str) -> Iterator[Row]:
    import pyarrow
    from pyarrow import parquet

    number = 0
    try:
        # A row group may hold gigabytes: its pages are read one after the other, not the whole group ahead.
        with parquet.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20) as file:
            require(wanted, list(file.schema_arrow.names), path.name, place)
            features = _features(file.schema_arrow)
            for batch in file.iter_batches(batch_size=256, columns=wanted):
                for row in named(batch.to_pylist(), features, wanted, f"{path.name}, row", number, place):
                    number += 1
                    yield f"row {number}", row
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise unreadable(path, f"after row {number}", str(error), place, "parquet") from error


def named(
    batch: list[dict[str, Any]],
    features: Mapping[str, Any],
    wanted: list[str],
    name: str,
    before: int,
    place: str,
) -> Iterator[dict[str, Any]]:
    """Rows with the names of class labels.

    Args:
        batch: The rows.
        features: Types of the columns, those of `datasets`; nothing where they are not known.
        wanted: The columns that are read.
        name: The source and `row`, for errors.
        before: Rows before these.
        place: The recipe's key that names the source, for errors.

    Raises:
        RecipeError: A class has no name.
    """
    names = {column: found for column in wanted if (found := namer(features.get(column))) is not None}
    for number, row in enumerate(batch, before + 1):
        try:
            yield {**row, **{column: name_of(row[column]) for column, name_of in names.items()}}
        except NotText as error:
            what = f"{name} {number}: a class label {error.what}"
            raise RecipeError([Problem(place, what, "fix the file", kind=error.kind)]) from None


def _features(schema: Any) -> Features | dict[str, Any]:
    """Types of the columns that `datasets` wrote into the file; nothing if it did not write it."""
    from datasets import Features

    return Features.from_arrow_schema(schema) if b"huggingface" in (schema.metadata or {}) else {}
