"""Tables of rows: csv, tsv, jsonl and parquet files, and data sets on the hub, read by the columns that are wanted."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressor.data import hub
from compressor.data.spec import HubDataset
from compressor.errors import CompressError, Problem, RecipeError
from compressor.files import suffix
from compressor.spec import Scalar

if TYPE_CHECKING:
    from datasets import Dataset
    from datasets.data_files import DataFilesDict


def read(
    source: Path | HubDataset, columns: Mapping[str, str], where: Mapping[str, Scalar], work: Path, place: str
) -> Dataset:
    """One source's rows that match `where`, with the task's column names and the source's types.

    Args:
        source: Where they are.
        columns: From the task's column names to the source's.
        where: Values that columns must have.
        work: Folder for intermediate files.
        place: The recipe's key, for errors.

    Raises:
        RecipeError: It cannot be read, a column is missing, or no rows are left.
    """
    wanted = [*columns.values(), *(name for name in where if name not in columns.values())]
    rows = _open(source, wanted, work, place)
    if missing := [name for name in wanted if name not in rows.column_names]:
        what = f"there is no column {', '.join(map(repr, missing))}"
        raise RecipeError([Problem(place, what, f"the columns are {', '.join(rows.column_names)}", kind="missing")])
    before = len(rows)
    if where:
        limits = {name: as_text(value) for name, value in where.items()}
        asked = as_texts(rows.select_columns(list(limits)), work / f"{place}.where.arrow")
        tests = zip(*(asked[name] for name in limits), strict=True)
        rows = rows.select([i for i, values in enumerate(tests) if values == tuple(limits.values())])
        if before and not len(rows):
            raise RecipeError(
                [Problem("data.where", f"none of the {before} rows of {place} matches {limits}", kind="value")]
            )
    rows = rows.select_columns(list(columns.values()))
    return rows.rename_columns({column: name for name, column in columns.items() if column != name})


def _open(source: Path | HubDataset, wanted: list[str], work: Path, place: str) -> Dataset:
    from datasets import Dataset, Features, Value

    cache = str(work / "read")
    try:
        if isinstance(source, HubDataset):
            return hub.rows(source, place, work)
        files = _exactly(source, work)
        if suffix(source) == ".parquet":
            return Dataset.from_parquet(files, cache_dir=cache)["train"]
        if suffix(source) == ".jsonl":
            return Dataset.from_json(files, cache_dir=cache)["train"]
        # Text stays text: no guessing of numbers, and "null" or "NA" are words. A tsv has no quoting (GLUE's have
        # lone quotes), as IANA's text/tab-separated-values says.
        return Dataset.from_csv(
            files,
            cache_dir=cache,
            sep="\t" if suffix(source) == ".tsv" else ",",
            quoting=csv.QUOTE_NONE if suffix(source) == ".tsv" else csv.QUOTE_MINIMAL,
            usecols=wanted,
            features=Features({name: Value("string") for name in wanted}),
            keep_default_na=False,
        )["train"]
    except CompressError:
        raise
    except Exception as error:
        cause = error.__cause__ or error
        name = source.hub if isinstance(source, HubDataset) else source.name
        what = f"{name} cannot be read: {type(cause).__name__}: {cause}".strip()
        raise RecipeError(
            [Problem(place, what, "check the file's format and its first lines", kind="unreadable")]
        ) from error


def _exactly(path: Path, work: Path) -> DataFilesDict:
    """A file for `datasets`, which takes a path for a pattern (`[`, `*`, `?`) or a chain (`::`) that names others."""
    from datasets.data_files import DataFilesDict, DataFilesList

    names = work / "names"
    names.mkdir(parents=True, exist_ok=True)
    link = names / f"{len(list(names.iterdir()))}{suffix(path)}"
    link.symlink_to(path.absolute())
    state = path.stat()
    version = (str(path.absolute()), state.st_size, state.st_mtime_ns)
    return DataFilesDict({"train": DataFilesList([str(link.absolute())], [version])})


def as_texts(rows: Dataset, cache: Path) -> Dataset:
    """Every column as text: class labels by name, numbers and booleans as YAML writes them."""
    from datasets import ClassLabel, Features, Value

    names = {name: feature for name, feature in rows.features.items() if isinstance(feature, ClassLabel)}
    if all(feature == Value("string") for feature in rows.features.values()):
        return rows

    def convert(batch: dict[str, list[Any]]) -> dict[str, list[str | None]]:
        return {
            name: [
                None if value is None or (name in names and value < 0)
                else names[name].int2str(value) if name in names
                else as_text(value)
                for value in values
            ]
            for name, values in batch.items()
        }  # fmt: skip

    features = Features({name: Value("string") for name in rows.column_names})
    return rows.map(convert, batched=True, features=features, cache_file_name=str(cache))


def as_text(value: Scalar) -> str:
    """A value as text: booleans and whole numbers as YAML writes them."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
