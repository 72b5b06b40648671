"""From sources to two splits on disk: one Arrow file each, memory-mapped, with the task's own column names."""

from __future__ import annotations

import csv
import hashlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from compressor.errors import Problem, RecipeError
from compressor.recipe import DataSpec
from compressor.recipe_parts import HubDataset, Scalar

if TYPE_CHECKING:
    from datasets import Dataset

TRAIN, VALIDATION = "train", "validation"
DEFAULT_VALIDATION_FRACTION = 0.1


def prepare(
    spec: DataSpec,
    train: Path | HubDataset,
    validation: Path | HubDataset | None,
    columns: Mapping[str, str],
    seed: int,
    output: Path,
    work: Path,
) -> dict[str, Any]:
    """Reads, filters, splits and samples the rows.

    Args:
        spec: The recipe's `data`.
        train: Where the training rows are.
        validation: Where the held-out rows are; None for a hash split of `train`.
        columns: From the task's column names to the source's; all are read as text.
        seed: Draws the samples.
        output: Empty folder; gets `train` and `validation`.
        work: Folder for intermediate files.

    Returns:
        `labels`: the labels in order; `train`, `validation`: numbers of rows.

    Raises:
        RecipeError: There are no rows, values are missing, or a label cannot be learned or scored.
    """
    import datasets

    datasets.disable_progress_bars()
    pool = _read(train, columns, spec.where, work, "data.train")
    if validation is None:
        fraction = spec.validation_fraction or DEFAULT_VALIDATION_FRACTION
        texts = [name for name in columns if name != "label"]
        held_out = [_hash_share(row) < fraction for row in zip(*(pool[name] for name in texts), strict=True)]
        indices = range(len(pool))
        splits = {
            TRAIN: pool.select([i for i in indices if not held_out[i]]),
            VALIDATION: pool.select([i for i in indices if held_out[i]]),
        }
    else:
        splits = {TRAIN: pool, VALIDATION: _read(validation, columns, spec.where, work, "data.validation")}
    limits = {TRAIN: spec.max_train_samples, VALIDATION: spec.max_validation_samples}
    for name, rows in splits.items():
        if len(rows) == 0:
            hint = "give data.validation, a larger data.validation_fraction, or more rows"
            raise RecipeError([Problem(f"data.{name}", f"no rows are left for {name}", hint)])
        limit = limits[name]
        if limit is not None and limit < len(rows):
            chosen = np.random.default_rng(seed).permutation(len(rows))[:limit]
            rows = rows.select(np.sort(chosen))
        splits[name] = rows
    labels = _labels(splits[TRAIN], splits[VALIDATION])
    for name, rows in splits.items():
        rows.save_to_disk(str(output / name))
    return {"labels": labels, TRAIN: len(splits[TRAIN]), VALIDATION: len(splits[VALIDATION])}


def load(folder: Path) -> Dataset:
    """Opens a split or a tokenized split; rows are memory-mapped, not loaded."""
    from datasets import load_from_disk

    return load_from_disk(str(folder))


def _read(
    source: Path | HubDataset, columns: Mapping[str, str], where: Mapping[str, Scalar], work: Path, place: str
) -> Dataset:
    """One source's rows that match `where`, as text columns with the task's names."""
    wanted = [*columns.values(), *(name for name in where if name not in columns.values())]
    rows = _open(source, wanted, work, place)
    if missing := [name for name in wanted if name not in rows.column_names]:
        what = f"there is no column {', '.join(map(repr, missing))}"
        raise RecipeError([Problem(place, what, f"the columns are {', '.join(rows.column_names)}")])
    rows = _as_text(rows.select_columns(wanted), work / f"{place}.arrow")
    before = len(rows)
    if where:
        limits = {name: as_text(value) for name, value in where.items()}
        tests = zip(*(rows[name] for name in limits), strict=True)
        rows = rows.select([i for i, values in enumerate(tests) if values == tuple(limits.values())])
        if before and not len(rows):
            raise RecipeError([Problem("data.where", f"none of the {before} rows of {place} matches {limits}")])
    rows = rows.select_columns(list(columns.values()))
    rows = rows.rename_columns({column: name for name, column in columns.items() if column != name})
    if len(rows) == 0:
        raise RecipeError([Problem(place, "has no rows")])
    for name, column in columns.items():
        empty = next((i for i, value in enumerate(rows[name]) if value is None or not str(value).strip()), None)
        if empty is not None:
            what = f"row {empty + 1} of the rows used has nothing in column {column!r}"
            raise RecipeError([Problem(place, what, "every row needs a value; drop the row or mend the file")])
    return rows


def _open(source: Path | HubDataset, wanted: list[str], work: Path, place: str) -> Dataset:
    from datasets import Dataset, Features, Value, load_dataset

    cache = str(work / "read")
    try:
        if isinstance(source, HubDataset):
            return load_dataset(source.hub, source.name, split=source.split, revision=source.revision)
        if source.suffix == ".parquet":
            return Dataset.from_parquet(str(source), cache_dir=cache)
        if source.suffix == ".jsonl":
            return Dataset.from_json(str(source), cache_dir=cache)
        # Text stays text: no guessing of numbers, and "null" or "NA" are words. A tsv has no quoting (GLUE's have
        # lone quotes), as IANA's text/tab-separated-values says.
        return Dataset.from_csv(
            str(source),
            cache_dir=cache,
            sep="\t" if source.suffix == ".tsv" else ",",
            quoting=csv.QUOTE_NONE if source.suffix == ".tsv" else csv.QUOTE_MINIMAL,
            usecols=wanted,
            features=Features({name: Value("string") for name in wanted}),
            keep_default_na=False,
        )
    except RecipeError:
        raise
    except Exception as error:
        cause = error.__cause__ or error
        name = source.hub if isinstance(source, HubDataset) else source.name
        what = f"{name} cannot be read: {type(cause).__name__}: {cause}".strip()
        raise RecipeError([Problem(place, what, "check the file's format and its first lines")]) from error


def _as_text(rows: Dataset, cache: Path) -> Dataset:
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


def _hash_share(texts: tuple[str, ...]) -> float:
    """A number in [0, 1) that depends on the text alone: equal texts never end up on both sides of a split."""
    digest = hashlib.sha256("\x1f".join(texts).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _labels(train: Dataset, validation: Dataset) -> list[str]:
    """The labels in order: as numbers when all are, else by alphabet."""
    counts, held_out = Counter(train["label"]), Counter(validation["label"])
    labels = sorted(counts, key=lambda label: (0, int(label), label) if label.lstrip("-").isdigit() else (1, 0, label))
    found = []
    if len(labels) < 2:
        found.append(Problem("data.label", f"the training rows have only the label {labels[0]!r}", "two are needed"))
    if once := [label for label in labels if counts[label] == 1]:
        what = f"{', '.join(map(repr, once[:5]))} occurs once in the training rows"
        hint = "one example can neither be learned nor held out: drop the row with data.where, or merge the label"
        found.append(Problem("data.label", what, hint))
    if unseen := sorted(set(held_out) - set(counts)):
        what = f"the validation rows have labels that the training rows lack: {', '.join(map(repr, unseen[:5]))}"
        found.append(Problem("data.label", what, f"the training rows have {', '.join(labels[:10])}"))
    if len(labels) > max(100, len(train) // 4):
        what = f"{len(labels)} labels in {len(train)} training rows"
        found.append(Problem("data.label", what, "is this the label column? It looks like text or an id"))
    if found:
        raise RecipeError(found)
    return labels
