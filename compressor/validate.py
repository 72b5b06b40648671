"""What a recipe points to and whether its stages make sense together: every mistake that shows before a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from compressor import checkpoint, tasks
from compressor.checkpoint import Checkpoint
from compressor.data import sources
from compressor.data.sources import HubModel
from compressor.errors import Problem, RecipeError
from compressor.metrics import METRICS
from compressor.recipe import (
    DistillSpec,
    ExportSpec,
    FinetuneSpec,
    HubDataset,
    QuantizeSpec,
    Recipe,
    StageSpec,
    TrainingSpec,
    gate_metrics,
)
from compressor.recipe_errors import Location, path_text, suggest
from compressor.recipe_file import line_of, read

Found = TypeVar("Found")
Add = Callable[[Location, str, str], None]
"""Notes a problem: where in the recipe, what, what to do."""


@dataclass(frozen=True)
class Resolved:
    """A recipe whose sources are found.

    Attributes:
        recipe: The recipe.
        path: Its file.
        model: The checkpoint's folder, or its hub id.
        train: The training rows' file, or hub data set.
        validation: The held-out rows' file, or hub data set; None for a split of `train`.
    """

    recipe: Recipe
    path: Path
    model: Path | HubModel
    train: Path | HubDataset
    validation: Path | HubDataset | None

    @property
    def makes_teacher(self) -> bool:
        """Whether the first stage makes the teacher; else the checkpoint is the teacher."""
        return isinstance(self.recipe.stages[0], FinetuneSpec)


def resolve(path: Path, overrides: tuple[str, ...] = ()) -> Resolved:
    """Reads a recipe and finds everything it names.

    Args:
        path: The recipe.
        overrides: `--set` values.

    Raises:
        RecipeError: Every problem, of form and of what is pointed to.
    """
    recipe, problems = read(path, overrides)
    if recipe is None:
        raise RecipeError(problems, str(path))
    collector = _Collector(path, recipe, problems)
    folder = path.resolve().parent
    model = collector.find(("model",), lambda: sources.model(recipe.model, folder))
    train = collector.find(("data", "train"), lambda: sources.rows(recipe.data.train, folder, "data.train"))
    validation = None
    if (held_out := recipe.data.validation) is not None:
        validation = collector.find(("data", "validation"), lambda: sources.rows(held_out, folder, "data.validation"))
    _check_columns(collector, train, validation)
    incoming = None
    if isinstance(model, Path):
        found = checkpoint.problems(model, "model")
        collector.problems += [_at(problem, line_of(path, ("model",))) for problem in found]
        incoming = None if found else Checkpoint(model)
    _check_order(collector)
    _check_gates(collector)
    if incoming is not None:
        check_checkpoint(recipe, incoming, collector.add)
    if collector.problems:
        raise RecipeError(sorted(set(collector.problems), key=lambda p: (p.line, p.where)), str(path))
    assert model is not None and train is not None, "what is not found is a problem"
    return Resolved(recipe, path, model, train, validation)


class _Collector:
    """Problems so far, with the recipe they are about."""

    def __init__(self, path: Path, recipe: Recipe, problems: list[Problem]) -> None:
        self.path = path
        self.recipe = recipe
        self.problems = list(problems)

    def add(self, location: Location, what: str, hint: str = "") -> None:
        """Notes a problem at a place in the recipe."""
        where = path_text(location, self.recipe.stages)
        self.problems.append(Problem(where, what, hint, line_of(self.path, location)))

    def find(self, location: Location, search: Callable[[], Found]) -> Found | None:
        """What a search finds; notes its problems, with their line, when it finds nothing."""
        try:
            return search()
        except RecipeError as error:
            line = line_of(self.path, location)
            self.problems += [_at(problem, line) for problem in error.problems]
            return None


def _at(problem: Problem, line: int) -> Problem:
    return Problem(problem.where, problem.what, problem.hint, line)


def _check_columns(
    collector: _Collector, train: Path | HubDataset | None, validation: Path | HubDataset | None
) -> None:
    data = collector.recipe.data
    wanted = tasks.get(collector.recipe.task).columns(data)
    for split, source in (("train", train), ("validation", validation)):
        if not isinstance(source, Path):
            continue
        there = collector.find(("data", split), partial(sources.columns, source, f"data.{split}"))
        if there is None:
            continue
        for key, column in wanted.items():
            if column not in there:
                what = f"{source.name} ({split}) has no column {column!r}"
                collector.add(("data", key), what, suggest(column, there))
        for column in data.where:
            if column not in there:
                what = f"{source.name} ({split}) has no column {column!r}"
                collector.add(("data", "where"), what, suggest(column, there))


def _check_order(collector: _Collector) -> None:
    stages = collector.recipe.stages
    names = collector.recipe.stage_names()
    for index, name in enumerate(names):
        if name in names[:index]:
            hint = "give each its own `name`"
            collector.add(("stages", index, "name"), f"two stages are called {name!r}", hint)
        if name == "baseline":
            collector.add(("stages", index, "name"), "'baseline' names the teacher in the report", "choose another")
    quantized = exported = False
    for index, stage in enumerate(stages):
        if exported:
            collector.add(("stages", index), f"{stage.kind} comes after export", "export ships; make it the last stage")
        elif quantized and not isinstance(stage, ExportSpec):
            hint = "integers cannot be trained or cut; move quantize behind it"
            collector.add(("stages", index), f"{stage.kind} comes after quantize", hint)
        quantized |= isinstance(stage, QuantizeSpec)
        exported |= isinstance(stage, ExportSpec)
    if quantized and collector.recipe.measure.runtime != "onnxruntime":
        what = f"quantize writes ONNX, which {collector.recipe.measure.runtime} does not run"
        collector.add(("measure", "runtime"), what, "use onnxruntime, or leave quantize out")


def _check_gates(collector: _Collector) -> None:
    recipe = collector.recipe
    allowed = gate_metrics(recipe.task)
    for index, stage in enumerate(recipe.stages):
        for name, gate in stage.gates.items():
            place = ("stages", index, "gates", name)
            if name not in allowed:
                what = (
                    f"unknown metric {name!r}" if name not in METRICS else f"{name!r} is not measured in {recipe.task}"
                )
                collector.add(place, what, suggest(name, allowed))
                continue
            metric = METRICS[name]
            if metric.kind == "parity" and not isinstance(stage, ExportSpec):
                collector.add(place, f"{name} is measured where formats are exported", "move the gate to export")
            for rule in gate.limits:
                if rule not in metric.rules:
                    hint = f"allowed: {', '.join(metric.rules)}"
                    collector.add((*place, rule), f"{rule} makes no sense for {name}", hint)


def check_checkpoint(recipe: Recipe, incoming: Checkpoint, add: Add) -> None:
    """Whether the stages can work on a checkpoint: its head, layers and position table.

    Args:
        recipe: The recipe.
        incoming: The recipe's model.
        add: Called with location, what, hint for each problem.
    """
    table, layers, family = incoming.max_position_embeddings, incoming.num_hidden_layers, incoming.family
    if not isinstance(recipe.stages[0], FinetuneSpec) and not incoming.has_head(recipe.task):
        architecture = ", ".join(incoming.config.get("architectures") or ["no architecture"])
        what = f"the checkpoint ({architecture}) has no head for {recipe.task}"
        add(("model",), what, "make `- stage: finetune` the first stage, or give a fine-tuned checkpoint")
    if recipe.measure.sequence_length > table:
        what = f"is {recipe.measure.sequence_length}, but the checkpoint's position table has {table} rows"
        add(("measure", "sequence_length"), what, f"at most {table}")
    for index, stage in enumerate(recipe.stages):
        _check_length(stage, index, table, add)
        if not isinstance(stage, DistillSpec):
            continue
        if (family, stage.architecture) == ("distilbert", "bert"):
            what = "a DistilBERT checkpoint cannot become bert: it has no token types and no pooler"
            add(("stages", index, "architecture"), what, "use architecture: distilbert")
        count = stage.num_hidden_layers
        if count is not None and count > layers:
            add(("stages", index, "num_hidden_layers"), f"is {count}, but {layers} layers come in", f"at most {layers}")
        chosen = stage.layers if isinstance(stage.layers, tuple) else ()
        if wrong := [layer for layer in chosen if layer >= layers]:
            what = f"there is no layer {wrong[0]}; {layers} layers come in"
            add(("stages", index, "layers"), what, f"allowed: 0 to {layers - 1}")
        layers = len(chosen) or count or max(1, layers // 2)
        family = stage.architecture


def _check_length(stage: StageSpec, index: int, table: int, add: Add) -> None:
    length = stage.max_sequence_length if isinstance(stage, TrainingSpec) else None
    if length is not None and length > table:
        what = f"is {length}, but the checkpoint's position table has {table} rows"
        add(("stages", index, "max_sequence_length"), what, f"at most {table}")
