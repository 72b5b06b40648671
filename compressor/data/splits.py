"""From sources to two splits on disk: one Arrow file each, memory-mapped, with the task's own column names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np

from compressor.data import queries
from compressor.data.columns import values, write_table
from compressor.data.held_out import held_out, held_out_alone, held_out_groups, overlap
from compressor.data.queries import QUERY
from compressor.data.renames import Renames
from compressor.data.spec import DataSpec, HubDataset
from compressor.errors import Problem, RecipeError
from compressor.host import resident_pages

if TYPE_CHECKING:
    from datasets import Dataset

TRAIN, VALIDATION, SELECTION = "train", "validation", "selection"
GROUP = "group"
"""Column of rows whose source says what they belong to: a document, or the column that `data.group` names."""
DEFAULT_VALIDATION_FRACTION = 0.1
_FILE = "rows.arrow"
_ROWS_AT_ONCE = 1000


class TextForm(Protocol):
    """A form whose rows can be raw text, and that can be scored on rows of another source."""

    def read_texts(self, source: Path | HubDataset, spec: DataSpec, work: Path) -> Dataset:
        """The texts of `data.corpus`."""

    def read_retrieval(self, source: Path | HubDataset, spec: DataSpec, work: Path) -> Dataset:
        """The texts of `data.retrieval`."""


class Form(Protocol):
    """A module that reads rows of one form."""

    def read(
        self,
        source: Path | HubDataset,
        columns: Mapping[str, str],
        spec: DataSpec,
        work: Path,
        place: str,
        rename: Renames,
    ) -> Dataset:
        """One source's rows, their labels renamed."""

    def identities(self, rows: Dataset) -> Iterable[tuple[str, ...]]:
        """The texts of each row: rows with equal texts stay on one side of a split."""

    def groups(self, rows: Dataset) -> Iterable[str]:
        """A text for each row, equal for rows that belong together: they are less evidence than as many others."""

    def labels(
        self, train: Dataset, validation: Dataset, known: Dataset, new_head: bool
    ) -> tuple[list[str], list[str]]:
        """Names of the labels, in order, and notes on them.

        Args:
            train: The training rows.
            validation: The validation rows.
            known: The training rows before a sample was drawn, and before some were held out to choose on.
            new_head: Whether a head is made for the labels: then RecipeError is raised if it could not learn them.
        """


def prepare(
    form: Form,
    spec: DataSpec,
    train: Path | HubDataset,
    validation: Path | HubDataset | None,
    columns: Mapping[str, str],
    seed: int,
    output: Path,
    work: Path,
    *,
    new_head: bool = True,
    selects: bool = False,
    raw_text: bool = False,
    retrieval: Path | HubDataset | None = None,
) -> dict[str, Any]:
    """Reads, filters, splits and samples the rows.

    Args:
        form: Reads the rows of the task.
        spec: The recipe's `data`.
        train: Where the training rows are.
        validation: Where the held-out rows are; None for a hash split of `train`.
        columns: From the task's column names to the source's.
        seed: Draws the samples.
        output: Empty folder; gets `train`, `validation` and, if some are held out to choose on, `selection`.
        work: Folder for intermediate files.
        new_head: Whether a head is made for the labels; else the checkpoint has one.
        selects: Whether thresholds, or variants of what is trained, are chosen by their quality: on rows that neither
            taught nor judge them, a tenth of the training rows; for variants at most as many as for validation.
        raw_text: Whether these are raw text, of `data.corpus`.
        retrieval: A retrieval set that is scored beside the validation rows, or instead of a split.

    Returns:
        `labels`: the labels in order; `renamed`: for those of `data.labels` that the rows have, what they stand for;
        `train`, `validation`, `selection`: numbers of rows; `notes`: remarks for the report.

    Raises:
        RecipeError: There are no rows, values are missing, or a label cannot be learned or scored.
    """
    import datasets

    datasets.disable_progress_bars()
    rename = Renames(spec.labels)
    splits, searched = _sources(form, spec, train, validation, columns, work, rename, raw_text, retrieval)
    known = splits[TRAIN]
    if selects:
        judged = splits.get(VALIDATION, known)
        splits |= _chosen_on(form, known, len(known if spec.tune_thresholds else judged))
    limits = {
        TRAIN: ("max_train_samples", spec.max_train_samples),
        VALIDATION: ("max_validation_samples", spec.max_validation_samples),
        SELECTION: ("max_train_samples", spec.max_train_samples),
    }
    for name, rows in splits.items():
        if len(rows) == 0:
            hint = "give data.validation, a larger data.validation_fraction, or more rows"
            raise RecipeError([Problem(f"data.{name}", f"no rows are left for {name}", hint, kind="missing")])
        key, limit = limits[name]
        if limit is not None:
            splits[name] = sample(rows, limit, seed)
        if len(splits[name]) == 0:
            what = f"is {limit}, and each query has more rows"
            raise RecipeError([Problem(f"data.{key}", what, "raise it: queries are drawn whole")])
    if searched is not None:
        splits[VALIDATION] = datasets.concatenate_datasets([*filter(None, [splits.get(VALIDATION)]), searched])
    labels, notes = form.labels(splits[TRAIN], splits[VALIDATION], known, new_head)
    notes += rename.notes(labels)
    notes += overlap(form.identities(splits[TRAIN]), form.identities(splits[VALIDATION]))
    notes += _group_notes(splits[TRAIN], splits[VALIDATION])
    if SELECTION in splits:
        who = "thresholds are chosen" if spec.tune_thresholds else "a budget of quality chooses"
        notes.append(f"{len(splits[SELECTION])} training rows are not trained on: {who} on them")
    elif selects:
        what = "thresholds are not tuned" if spec.tune_thresholds else "a budget of quality chooses on those trained on"
        notes.append(f"too few training rows to hold some out: {what}")
    for name, rows in splits.items():
        save(rows, output / name)
    counts = {name: len(rows) for name, rows in splits.items()}
    return {"labels": labels, "renamed": rename.met, "notes": notes, **counts}


def _sources(
    form: Form,
    spec: DataSpec,
    train: Path | HubDataset,
    validation: Path | HubDataset | None,
    columns: Mapping[str, str],
    work: Path,
    rename: Renames,
    raw_text: bool,
    retrieval: Path | HubDataset | None,
) -> tuple[dict[str, Dataset], Dataset | None]:
    """The rows of both splits, and those of a retrieval set, which may stand for the validation rows; see `prepare`."""
    texts = cast(TextForm, form)
    if raw_text:
        pool = texts.read_texts(train, spec, work)
    else:
        pool = _read(form, train, columns, spec, work, "data.train", rename)
    searched = None if retrieval is None else texts.read_retrieval(retrieval, spec, work)
    if validation is not None:
        return {
            TRAIN: pool,
            VALIDATION: _read(form, validation, columns, spec, work, "data.validation", rename),
        }, searched
    if searched is not None:
        return {TRAIN: pool}, searched
    apart = _apart(form, pool, spec.validation_fraction or DEFAULT_VALIDATION_FRACTION)
    sides = {TRAIN: False, VALIDATION: True}
    return {
        name: pool.select([i for i, held in enumerate(apart) if held == side]) for name, side in sides.items()
    }, None


def groups(form: Form, rows: Dataset) -> Iterable[str]:
    """A text for each row, equal for rows that belong together: as the source says, else by their texts."""
    named = _named_groups(rows)
    return form.groups(rows) if named is None else named


def sample(rows: Dataset, most: int, seed: int) -> Dataset:
    """At most so many of some rows, drawn by seed, in order; of queries whole ones."""
    if len(rows) <= most:
        return rows
    if QUERY in rows.column_names:
        return rows.select(queries.drawn(list(values(rows, QUERY)), most, seed))
    return rows.select(np.sort(np.random.default_rng(seed).permutation(len(rows))[:most]))


def _named_groups(rows: Dataset) -> list[str] | None:
    """What each row belongs to as the source says, a query where it says no more; None where it says nothing."""
    named = next((name for name in (GROUP, QUERY) if name in rows.column_names), None)
    return None if named is None else list(values(rows, named))


def _chosen_on(form: Form, rows: Dataset, wanted: int) -> dict[str, Dataset]:
    """Training rows in two parts: those that teach, and those that choose; nothing if one of these is empty."""
    fraction = min(wanted / len(rows), DEFAULT_VALIDATION_FRACTION) if len(rows) else 0.0
    apart = _apart(form, rows, fraction, SELECTION)
    if len(set(apart)) < 2:
        return {}
    sides = {TRAIN: False, SELECTION: True}
    return {name: rows.select(np.flatnonzero(np.array(apart) == side)) for name, side in sides.items()}


def _apart(form: Form, rows: Dataset, fraction: float, salt: str = "") -> list[bool]:
    """Whether each row is held out."""
    if (named := _named_groups(rows)) is not None:
        return held_out_groups(named, fraction, salt)
    if all(len(row) == 1 for row in islice(form.identities(rows), 1)):  # and then all are: raw text may be large
        return held_out_alone(form.identities(rows), fraction, salt)
    return held_out(list(form.identities(rows)), fraction, salt)


def _group_notes(train: Dataset, validation: Dataset) -> list[str]:
    held_out = _named_groups(validation)
    if held_out is None:
        return []
    held = Counter(held_out)
    notes = []
    if GROUP in validation.column_names:
        notes = [f"the {len(validation)} validation rows are of {len(held)} groups, which bounds take into account"]
    known = set(_named_groups(train) or ()) & held.keys()
    if known:
        rows = sum(held[group] for group in known)
        what = f"{rows} of {len(validation)} validation rows ({100 * rows / len(validation):.1f} %) are of groups that"
        notes.append(f"{what} training rows are of: scores on them say little about new groups")
    return notes


def save(rows: Dataset, folder: Path) -> None:
    """Writes a split or a tokenized split into a new folder, for `load`.

    Not by `save_to_disk`, which copies faster than the thread that gives pages back runs on a busy machine.
    """
    folder.mkdir()
    parts = resident_pages.spared(rows.with_format("arrow").iter(_ROWS_AT_ONCE))
    write_table(folder / _FILE, rows.features.arrow_schema, parts)


def load(folder: Path) -> Dataset:
    """Opens a split or a tokenized split; rows are memory-mapped, not loaded."""
    from datasets import Dataset, disable_caching

    disable_caching()  # what is derived from these rows would be written beside them, into the store
    return resident_pages.watched(Dataset.from_file(str(folder / _FILE)))


def _read(
    form: Form,
    source: Path | HubDataset,
    columns: Mapping[str, str],
    spec: DataSpec,
    work: Path,
    place: str,
    rename: Renames,
) -> Dataset:
    rows = form.read(source, columns, spec, work, place, rename)
    if len(rows) == 0:
        raise RecipeError([Problem(place, "has no rows", kind="missing")])
    if {GROUP, QUERY} <= set(rows.column_names) and (wrong := queries.across(values(rows, QUERY), values(rows, GROUP))):
        raise RecipeError([wrong])
    return rows
