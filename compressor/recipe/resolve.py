"""Finds the sources that a recipe names and checks its stages: all errors that can be found before a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from compressor import tasks
from compressor.data import retrieval, sources, table_files
from compressor.data.queries import QUERY
from compressor.data.sources import HubModel
from compressor.data.spec import HubDataset, RetrievalSpec, Source, TextSpec
from compressor.errors import Location, Problem, RecipeError, path_text, suggest
from compressor.files import suffix
from compressor.models import checking
from compressor.models.checkpoint import Checkpoint
from compressor.recipe.checks.checkpoint import check_checkpoint
from compressor.recipe.checks.gates import check_gates
from compressor.recipe.checks.labels import check_lists
from compressor.recipe.checks.objectives import check_objectives
from compressor.recipe.checks.order import (
    check_data,
    check_formats,
    check_order,
    check_pruned,
    check_stages,
    first_stage,
)
from compressor.recipe.checks.ranking import check_queries
from compressor.recipe.checks.sentence_order import check_pairs
from compressor.recipe.checks.similarity import check_similarity
from compressor.recipe.document import Recipe
from compressor.recipe.reading import read
from compressor.recipe.yaml_file import Lines, nearest_line
from compressor.stages.base import StageSpec
from compressor.tasks import MASKED_LM, TASKS

Found = TypeVar("Found")


@dataclass(frozen=True)
class Resolved:
    """A recipe whose sources are found.

    Attributes:
        recipe: The recipe; its task is the one that its rows make of it, see `tasks.of_rows`.
        path: Its file.
        model: The checkpoint's folder, or its hub id.
        train: The training rows' file, or hub data set; None where there is only a corpus.
        validation: The held-out rows' file, or hub data set; None for a split of `train`.
        corpus: The corpus' file, or hub data set.
        retrieval: The retrieval set's file or folder, or hub data set.
        students: Ready checkpoints that stages start from, by the stage's index.
        texts: Raw text that stages count tokens in, by the stage's index.
    """

    recipe: Recipe
    path: Path
    model: Path | HubModel
    train: Path | HubDataset | None
    validation: Path | HubDataset | None
    corpus: Path | HubDataset | None
    retrieval: Path | HubDataset | None
    students: dict[int, Path | HubModel]
    texts: dict[int, Path | HubDataset]

    @property
    def makes_teacher(self) -> bool:
        """Whether the task's first stage makes the teacher; else the checkpoint is the teacher."""
        first = first_stage(self.recipe, self.recipe.task)
        return first is not None and first[1].makes_teacher


def resolve(path: Path, overrides: tuple[str, ...] = (), content: str | None = None) -> Resolved:
    """Reads a recipe and finds everything it names.

    Args:
        path: The recipe.
        overrides: `--set` values.
        content: What the file will hold, where it is not written yet.

    Raises:
        RecipeError: Every problem, of form and of what is pointed to.
    """
    given, problems, lines = read(path, overrides, content)
    if given is None:
        raise RecipeError(problems, str(path))
    collector = _Collector(lines, given, problems)
    folder = path.resolve().parent
    model = collector.find(("model",), lambda: sources.model(given.model, folder))
    data = given.data
    train = _find_rows(collector, "train", data.train, folder)
    validation = _find_rows(collector, "validation", data.validation, folder)
    lists = {"train": _holds_lists(train, data.label), "validation": _holds_lists(validation, data.label)}
    task = tasks.of_rows(given.task, data, lists["train"] is True)
    recipe = collector.recipe = given.model_copy(update={"task": task})
    corpus = _find_text(collector, ("data", "corpus"), data.corpus_spec, folder)
    texts = {
        index: text
        for index, stage in enumerate(recipe.stages)
        if (text := _find_text(collector, ("stages", index, "vocabulary", "corpus"), stage.counted_text, folder))
    }
    students = {
        index: ready
        for index, stage in enumerate(recipe.stages)
        if (ready := _find_student(collector, index, stage, folder)) is not None
    }
    searched = _find_retrieval(collector, data.retrieval_spec, folder)
    _check_columns(collector, train, validation)
    if TASKS[recipe.task].HEAD.vectors and data.train is None:
        train = corpus
    check_lists(given, lists, collector.add)
    incoming = None
    if isinstance(model, Path):
        found = checking.problems(model, "model")
        collector.problems += [_at(problem, nearest_line(lines, ("model",))) for problem in found]
        incoming = None if found else Checkpoint(model)
    check_data(recipe, collector.add)
    check_order(recipe, collector.add)
    check_formats(recipe, collector.add)
    check_pruned(recipe, collector.add)
    check_objectives(recipe, collector.add)
    check_gates(recipe, collector.add)
    check_pairs(recipe, collector.add)
    check_queries(recipe, collector.add)
    check_similarity(recipe, collector.add)
    here = {index: Checkpoint(student) for index, student in students.items() if isinstance(student, Path)}
    check_stages(recipe, incoming, here, collector.add)
    if incoming is not None and not any(problem.where == "model" for problem in collector.problems):
        check_checkpoint(recipe, incoming, collector.add, here)
    if collector.problems:
        raise RecipeError(sorted(set(collector.problems), key=lambda p: (p.line, p.where)), str(path))
    assert model is not None, "what is not found is a problem"
    return Resolved(recipe, path, model, train, validation, corpus, searched, students, texts)


class _Collector:
    """Problems so far, with the recipe they are about."""

    def __init__(self, lines: Lines, recipe: Recipe, problems: list[Problem]) -> None:
        self.lines = lines
        self.recipe = recipe
        self.problems = list(problems)

    def add(self, location: Location, what: str, hint: str = "", kind: str = "value") -> None:
        """Notes a problem at a place in the recipe."""
        where = path_text(location, self.recipe.stages)
        self.problems.append(Problem(where, what, hint, nearest_line(self.lines, location), kind))

    def find(self, location: Location, search: Callable[[], Found]) -> Found | None:
        """The result of a search; if it finds nothing, its problems are collected with their line."""
        try:
            return search()
        except RecipeError as error:
            line = nearest_line(self.lines, location)
            self.problems += [_at(problem, line) for problem in error.problems]
            return None


def _at(problem: Problem, line: int) -> Problem:
    return replace(problem, line=line)


def _find_rows(collector: _Collector, split: str, source: Source | None, folder: Path) -> Path | HubDataset | None:
    if source is None:
        return None
    if collector.recipe.task == MASKED_LM:
        return None  # a problem already: it learns from a corpus
    task = tasks.learned_from_rows(collector.recipe.task)
    read = partial(sources.rows, source, folder, f"data.{split}", task.FORMATS, folders=task.HEAD.vectors)
    return collector.find(("data", split), read)


def _find_retrieval(collector: _Collector, spec: RetrievalSpec | None, folder: Path) -> Path | HubDataset | None:
    """A retrieval set; notes a problem when it, or a column of it, is not there."""
    if spec is None:
        return None
    where, formats = "data.retrieval", (*sources.FORMATS, sources.TEXT, sources.SQUAD)
    read = partial(sources.rows, spec.source, folder, where, formats, folders=True)
    found = collector.find(("data", "retrieval"), read)
    for key, why in _unread(spec, found):
        collector.add(("data", "retrieval", key), why, "drop it", kind="conflict")
    if isinstance(found, Path) and suffix(found) in sources.FORMATS:
        columns = [("text", spec.text), *(("where", name) for name in spec.where)]
        columns += [("text_pair", spec.text_pair)] if spec.text_pair is not None else []
        there = collector.find(("data", "retrieval"), lambda: table_files.columns(found, where)) or []
        for key, column in columns:
            if there and column not in there:
                what = f"{found.name} has no column {column!r}"
                collector.add(("data", "retrieval", key), what, suggest(column, there), kind="missing")
    return found


def _unread(spec: RetrievalSpec, source: Path | HubDataset | None) -> Iterator[tuple[str, str]]:
    """Keys of a retrieval set that its source has no use for, and why."""
    whole = isinstance(source, Path) and retrieval.is_set(source)
    pairs = spec.text_pair is not None
    folder = isinstance(source, Path) and source.is_dir()
    for key, used, what in (
        *((key, not whole, "is for tables and raw text") for key in ("text", "text_pair", "where")),
        ("fraction", not whole and not pairs, "is for raw text"),
        ("split", folder, "is for a folder with qrels"),
    ):
        if source is not None and not used and key in spec.model_fields_set:
            yield key, what


def _holds_lists(source: Path | HubDataset | None, column: str) -> bool | None:
    """Whether a column of a file holds lists; None of what is not here or cannot be read, a problem of its columns."""
    if isinstance(source, Path):
        with suppress(RecipeError):
            return table_files.holds_lists(source, column, "data")
    return None


def _find_text(collector: _Collector, place: Location, spec: TextSpec | None, folder: Path) -> Path | HubDataset | None:
    """Raw text; notes a problem when it, or a column of it, is not there."""
    if spec is None:
        return None
    where = path_text(place, collector.recipe.stages)
    formats = (*sources.FORMATS, sources.TEXT)
    found = collector.find(place, lambda: sources.rows(spec.source, folder, where, formats))
    if isinstance(found, Path) and suffix(found) != sources.TEXT:
        there = collector.find(place, lambda: table_files.columns(found, where)) or []
        for key, column in (("text", spec.text), *(("where", name) for name in spec.where)):
            if there and column not in there:
                what = f"{found.name} has no column {column!r}"
                collector.add((*place, key), what, suggest(column, there), kind="missing")
    return found


def _find_student(collector: _Collector, index: int, stage: StageSpec, folder: Path) -> Path | HubModel | None:
    """A stage's ready checkpoint; notes a problem when it is none."""
    if (given := stage.ready_student) is None:
        return None
    place: Location = ("stages", index, "student")
    found = collector.find(place, lambda: sources.model(given, folder, path_text(place, collector.recipe.stages)))
    if isinstance(found, Path) and (wrong := checking.problems(found, path_text(place, collector.recipe.stages))):
        collector.problems += [_at(problem, nearest_line(collector.lines, place)) for problem in wrong]
        return None
    return found


def _check_columns(
    collector: _Collector, train: Path | HubDataset | None, validation: Path | HubDataset | None
) -> None:
    data = collector.recipe.data
    if collector.recipe.task == MASKED_LM:
        return
    wanted = tasks.columns(collector.recipe.task, data)
    _check_distinct(collector, wanted)
    for split, source in (("train", train), ("validation", validation)):
        if (
            not isinstance(source, Path)
            or source.is_dir()
            or suffix(source) not in tasks.learned_from_rows(collector.recipe.task).TABLES
        ):
            continue
        there = collector.find(("data", split), partial(table_files.columns, source, f"data.{split}"))
        if there is None:
            continue
        for key, column in (*wanted.items(), *(("where", name) for name in data.where)):
            if column not in there:
                what = f"{source.name} ({split}) has no column {column!r}"
                collector.add(("data", key), what, suggest(column, there), kind="missing")
            elif there.count(column) > 1:
                what = f"{source.name} ({split}) has {there.count(column)} columns that are called {column!r}"
                collector.add(("data", key), what, "rename one of them, so that it is clear which is meant")


def _check_distinct(collector: _Collector, wanted: Mapping[str, str]) -> None:
    """Notes a problem for each column that two keys name."""
    first: dict[str, str] = {}
    for key, column in wanted.items():
        if key == QUERY and column != collector.recipe.data.label:
            continue  # the text itself may tell the queries apart, or what rows belong to
        other = first.setdefault(column, key)
        if other != key:
            what = f"{column!r} is the column of data.{other}, too"
            collector.add(("data", key), what, "each names another column", kind="conflict")
