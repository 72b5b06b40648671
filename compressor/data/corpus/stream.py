"""Raw text, read as a stream: memory stays flat whatever the size of the corpus."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from compressor.data import hub
from compressor.data.lines import lines, unreadable
from compressor.data.spec import HubDataset, TextSpec
from compressor.data.tables import as_text
from compressor.errors import Problem, RecipeError
from compressor.files import suffix

PLACE = "data.corpus"
LONGEST_FIELD = 1 << 26
"""Characters of one csv field; a longer one is a quote without an end, and would fill the memory."""

_PARTS = ("where", "what", "hint")

Row = tuple[str, Mapping[str, Any]]
"""Where it is, such as `line 3`, and its columns."""


def texts(source: Path | HubDataset, spec: TextSpec) -> Iterator[str]:
    """The texts of a corpus in its order, one at a time, without the blank ones and the spaces around them.

    Args:
        source: A .txt file, each of whose lines is a text, a .csv, .tsv, .jsonl or .parquet file, or a hub data set.
        spec: Which column, which rows, and which share of the texts.

    Raises:
        RecipeError: The source is not of its format, has no such column, or no row matches `where`.
        CompressError: The hub does not answer.
    """
    name = source.hub if isinstance(source, HubDataset) else source.name
    for place, value in _values(source, spec):
        text = _checked(value, f"{name}, {place}", spec.text)
        if text and _hash_share("keep", text) < spec.fraction:
            yield text


def counted(source: Path | HubDataset, spec: TextSpec) -> Iterator[str]:
    """The texts whose tokens a stage counts: as `texts` yields them; errors name the stage's own keys."""
    try:
        yield from texts(source, spec)
    except RecipeError as error:
        renamed = [
            replace(problem, **{part: getattr(problem, part).replace(PLACE, "vocabulary.corpus") for part in _PARTS})
            for problem in error.problems
        ]
        raise RecipeError(renamed) from None


def paragraphs(text: str, separator: str) -> list[str]:
    """The parts of a text between the separators, without blank ones; all of it if the separator is empty."""
    parts = text.split(separator) if separator else [text]
    return [part for part in map(str.strip, parts) if part]


def held_out(text: str, fraction: float) -> bool:
    """Whether a text is for validation: depends on the text alone, so equal texts are never on both sides."""
    return _hash_share("held out", text) < fraction


def _values(source: Path | HubDataset, spec: TextSpec) -> Iterator[tuple[str, Any]]:
    """Where a text is, and the text, of the rows that match `where`."""
    if isinstance(source, Path) and suffix(source) == ".txt":
        if spec.where:
            what = f"{source.name} is a text file, it has no columns"
            raise RecipeError([Problem(f"{PLACE}.where", what, "drop data.corpus.where", kind="conflict")])
        yield from ((f"line {number}", line) for number, line in _lines(source))
        return
    limits = {name: as_text(value) for name, value in spec.where.items()}
    read = matched = 0
    for place, row in _rows(source, list(dict.fromkeys([spec.text, *limits]))):
        read += 1
        if all(row.get(name) is not None and as_text(row[name]) == limit for name, limit in limits.items()):
            matched += 1
            _require_columns([spec.text], list(row), place)
            yield place, row[spec.text]
    if read and not matched:
        raise RecipeError([Problem(f"{PLACE}.where", f"none of the {read} rows matches {limits}", kind="value")])


def _rows(source: Path | HubDataset, wanted: list[str]) -> Iterator[Row]:
    """Rows of a source that has the wanted columns."""
    if isinstance(source, HubDataset):
        return _with_columns(
            ((f"row {number}", row) for number, row in enumerate(hub.stream(source, PLACE), 1)), wanted
        )
    if suffix(source) == ".parquet":
        return _parquet_rows(source, wanted)
    if suffix(source) == ".jsonl":
        return _with_columns(_json_rows(source), wanted)
    return _csv_rows(source, wanted)


def _with_columns(rows: Iterator[Row], wanted: list[str]) -> Iterator[Row]:
    """The rows; checks the columns of the first, so that a mistyped name is reported before the corpus is read."""
    for place, row in rows:
        _require_columns(wanted, list(row), place)
        yield place, row
        break
    yield from rows


def _require_columns(wanted: list[str], names: list[str], place: str) -> None:
    if missing := [name for name in wanted if name not in names]:
        what = f"{place} has no column {', '.join(map(repr, missing))}"
        hint = f"the columns are {', '.join(names)}" if names else "it names no columns"
        raise RecipeError([Problem(PLACE, what, hint, kind="missing")])


def _csv_rows(path: Path, wanted: list[str]) -> Iterator[Row]:
    """Rows of a csv or tsv file; a row that ends early has empty last columns."""
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST_FIELD))
    # A tsv has no quoting, as in compressor.data.splits. Strict: else an open quote swallows the rest of the file.
    reader = csv.reader(
        (line for _, line in _lines(path)),
        delimiter="\t" if suffix(path) == ".tsv" else ",",
        quoting=csv.QUOTE_NONE if suffix(path) == ".tsv" else csv.QUOTE_MINIMAL,
        strict=True,
    )
    try:
        names = next(reader, [])
        _require_columns(wanted, names, "line 1")
        columns = {name: names.index(name) for name in wanted}
        for fields in reader:
            if len(fields) > len(names):
                what = f"has {len(fields)} fields, the first line names {len(names)} columns"
                raise _unreadable(path, f"line {reader.line_num}", what)
            if fields:
                fields += [""] * (len(names) - len(fields))
                yield f"line {reader.line_num}", {name: fields[column] for name, column in columns.items()}
    except csv.Error as error:
        raise _unreadable(path, f"line {reader.line_num}", str(error)) from None


def _json_rows(path: Path) -> Iterator[Row]:
    for number, line in _lines(path):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise _unreadable(path, f"line {number}", f"is not JSON: {error}") from None
        if not isinstance(row, dict):
            raise _unreadable(path, f"line {number}", "is not a JSON object")
        yield f"line {number}", row


def _parquet_rows(path: Path, wanted: list[str]) -> Iterator[Row]:
    import pyarrow
    from pyarrow import parquet

    number = 0
    try:
        # A row group may hold gigabytes: its pages are read one after the other, not the whole group ahead.
        with parquet.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20) as file:
            _require_columns(wanted, list(file.schema_arrow.names), path.name)
            for batch in file.iter_batches(batch_size=256, columns=wanted):
                for row in batch.to_pylist():
                    number += 1
                    yield f"row {number}", row
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise _unreadable(path, f"after row {number}", str(error)) from error


def _checked(value: Any, place: str, column: str) -> str:
    """A cell as text, without the spaces around it; nothing for None."""
    if value is None:
        return ""
    if not isinstance(value, bool | int | float | str):
        what = f"{place}: column {column!r} holds a {type(value).__name__}"
        raise RecipeError([Problem(PLACE, what, "data.corpus.text names a column of texts", kind="type")])
    text = as_text(value).strip()
    try:
        text.encode()
    except UnicodeEncodeError as error:  # JSON can write half of a surrogate pair
        raise RecipeError(
            [Problem(PLACE, f"{place}: the text is not Unicode: {error.reason}", kind="unreadable")]
        ) from None
    return text


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    return lines(path, PLACE, suffix(path)[1:])


def _unreadable(path: Path, where: str, what: str) -> RecipeError:
    return unreadable(path, where, what, PLACE, suffix(path)[1:])


def _hash_share(salt: str, text: str) -> float:
    """A number in [0, 1) that depends on the text alone, independent for each salt and of the split of rows."""
    digest = hashlib.sha256(f"corpus\x1f{salt}\x1f{text}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
