"""Tables of rows: csv, tsv, jsonl and parquet files, and data sets on the hub, read by the columns that are wanted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressor.data import hub, table_files
from compressor.data.cells import NotText, matches, text_of
from compressor.data.columns import write_table
from compressor.data.lines import MOST_PROBLEMS, quoted
from compressor.data.spec import DataSpec, HubDataset
from compressor.data.table_files import Row
from compressor.errors import CompressError, Problem, RecipeError, shown
from compressor.host import resident_pages
from compressor.spec import Scalar

if TYPE_CHECKING:
    from datasets import Dataset, Features

_MOST_SHOWN = 5
_BATCH = 1000


def name_of(source: Path | HubDataset) -> str:
    """What errors call a source."""
    return source.hub if isinstance(source, HubDataset) else source.name


def refuse_columns(source: Path, spec: DataSpec) -> None:
    """Raises RecipeError where the recipe names columns of a file that has none."""
    for key, named in (("where", spec.where), ("group", spec.group)):
        if named:
            what = f"{source.name} has no columns with names"
            raise RecipeError([Problem(f"data.{key}", what, "it is for tables: jsonl, parquet, hub", kind="conflict")])


def read(
    source: Path | HubDataset, columns: Mapping[str, str], where: Mapping[str, Scalar], work: Path, place: str
) -> Iterator[Row]:
    """One source's rows that match `where`, with the task's column names and the source's values.

    Args:
        source: Where they are.
        columns: From the task's column names to the source's.
        where: Values that columns must have.
        work: Folder for intermediate files.
        place: The recipe's key, for errors.

    Raises:
        RecipeError: It cannot be read, a column is missing, or no rows are left.
    """
    wanted = list(dict.fromkeys([*columns.values(), *where]))
    if isinstance(source, HubDataset):
        rows = _hub_rows(source, wanted, work, place)
    else:
        rows = table_files.rows(source, wanted, place)
    for at, row in matching(rows, where, place, "data.where"):
        yield at, {name: row.get(column) for name, column in columns.items()}


def matching(rows: Iterator[Row], where: Mapping[str, Scalar], source: str, place: str) -> Iterator[Row]:
    """The rows whose columns have the values of `where`.

    Args:
        rows: The rows.
        where: The values by column.
        source: What the rows are, for errors.
        place: The recipe's key of `where`, for errors.

    Raises:
        RecipeError: There are rows, and none has them.
    """
    read = matched = 0
    seen: dict[str, dict[str, None]] = {name: {} for name in where}
    for at, row in rows:
        read += 1
        if all(matches(row.get(name), limit) for name, limit in where.items()):
            matched += 1
            yield at, row
        elif not matched:
            for name, values in seen.items():
                if len(values) < _MOST_SHOWN:
                    values[shown(row.get(name))] = None
    if read and not matched:
        hint = "; ".join(f"the first values of {name} are {', '.join(values)}" for name, values in seen.items())
        raise RecipeError([Problem(place, f"none of the {read} rows of {source} matches {dict(where)}", hint)])


def converted(
    rows: Iterable[Row],
    convert: Callable[[Mapping[str, Any]], dict[str, Any] | Problem],
    features: Features,
    name: str,
    path: Path,
) -> Dataset:
    """Rows of a task in a file that is memory-mapped.

    Args:
        rows: The rows of a table.
        convert: From a row to the task's columns; a problem if it is not a row of the task.
        features: Types of the task's columns.
        name: What errors call the source.
        path: The file that is written.

    Raises:
        RecipeError: Rows are not the task's; reports the first ten of them at once.
    """
    import pyarrow
    from datasets import Dataset

    problems: list[Problem] = []

    def good() -> Iterator[dict[str, Any]]:
        for at, row in rows:
            found = convert(row)
            if not isinstance(found, Problem):
                yield found
                continue
            problems.append(Problem(found.where, f"{name}, {at}: {found.what}", found.hint, kind=found.kind))
            if len(problems) == MOST_PROBLEMS:
                return

    def parts() -> Iterator[pyarrow.Table]:
        found = good()
        while batch := list(islice(found, _BATCH)):
            yield pyarrow.Table.from_pylist(batch, features.arrow_schema)

    write_table(path, features.arrow_schema, parts())
    if problems:
        raise RecipeError(problems)
    return resident_pages.watched(Dataset.from_file(str(path)))


def required_text(row: Mapping[str, Any], name: str, called: str, place: str) -> str | Problem:
    """The text of a cell that must have one, or the problem with it.

    Args:
        row: The row.
        name: The column.
        called: The column's name in the source.
        place: The recipe's key of the source.
    """
    try:
        text = text_of(row[name])
    except NotText as error:
        hint = f"name a column of texts, numbers or booleans as data.{name}, or fix the row"
        if name == "label" and isinstance(row[name], list):
            hint = "data.multi_label: true reads lists of labels; or name another column as data.label"
        return Problem(place, f"column {quoted(called)} {error.what}", hint, kind=error.kind)
    if text is None or not text.strip():
        hint = "every row needs a value; drop the row or fix the file"
        return Problem(place, f"there is nothing in column {quoted(called)}", hint, kind="missing")
    return text


def _hub_rows(source: HubDataset, wanted: list[str], work: Path, place: str) -> Iterator[Row]:
    try:
        rows = hub.rows(source, place, work)
    except CompressError:
        raise
    except Exception as error:
        cause = error.__cause__ or error
        what = f"{source.hub} cannot be read: {type(cause).__name__}: {cause}".strip()
        hint = "check the data set's files on the hub"
        raise RecipeError([Problem(place, what, hint, kind="unreadable")]) from error
    table_files.require(wanted, rows.column_names, source.hub, place)
    # As Arrow has them: `datasets` would turn class labels outside of their names into errors without a row.
    read = rows.select_columns(wanted).with_format("arrow")
    number = 0
    for batch in read.iter(_BATCH):
        for row in table_files.named(batch.to_pylist(), rows.features, wanted, f"{source.hub}, row", number, place):
            number += 1
            yield f"row {number}", row
