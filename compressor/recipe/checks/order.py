"""Whether the stages can follow each other, and have the data that they learn from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from compressor.errors import Add, Location
from compressor.gates.spec import REGRESSION
from compressor.models.checkpoint import Checkpoint
from compressor.recipe.document import Recipe
from compressor.stages.base import StageSpec
from compressor.tasks import MASKED_LM, TASKS, in_recipe

_NAMES_IN_REPORTS = {"baseline": "the teacher", REGRESSION: "the comparison with another run"}


def first_stage(recipe: Recipe, task: str) -> tuple[int, StageSpec] | None:
    """The first stage of a task, with its index."""
    return next(((i, stage) for i, stage in enumerate(recipe.stages) if recipe.task_of(stage) == task), None)


def check_data(recipe: Recipe, add: Add) -> None:
    """Whether every task of the stages has something to learn from."""
    data = recipe.data
    vectors = TASKS[recipe.task].HEAD.vectors  # learned from raw text, too
    if recipe.task != MASKED_LM and data.train is None and not vectors:
        add(
            ("data", "train"),
            f"is missing, and {recipe.task} learns from rows",
            "name a file, package:PKG/path or hub id",
            kind="missing",
        )
    if recipe.task == MASKED_LM:
        for key in ("train", "validation"):
            if getattr(data, key) is not None:
                hint = "give the text as data.corpus; some of it is held out (data.corpus.validation_fraction)"
                add(("data", key), "masked-lm learns from raw text", hint, kind="conflict")
    for key in {key for task in TASKS.values() for key in task.COLUMNS} - set(TASKS[recipe.task].COLUMNS):
        if key in data.model_fields_set:
            names = [task.NAME for task in TASKS.values() if key in task.COLUMNS]
            fitting = ", ".join(name for name in names if name == in_recipe(name) or in_recipe(name) not in names)
            allowed = ", ".join(TASKS[recipe.task].COLUMNS)
            hint = f"of these keys {recipe.task} has {allowed}" if allowed else "drop it"
            if recipe.task in map(in_recipe, names):
                hint = "rows have several labels if data.label names a column of lists, or with data.label_separator"
            add(("data", key), f"is for {fitting}, not for {recipe.task}", hint, kind="conflict")
    if data.tune_thresholds and not any(s.trains and recipe.task_of(s) == recipe.task for s in recipe.stages):
        hint = "add a stage that trains, or drop the key: the checkpoint's own thresholds are kept"
        add(("data", "tune_thresholds"), "is chosen by stages that train, and none does", hint, kind="conflict")
    if data.corpus is None and (found := first_stage(recipe, MASKED_LM)):
        hint = "name raw text: a txt, csv, tsv, jsonl or parquet file, package:PKG/path or {hub: id}"
        add(("data", "corpus"), f"is missing, and stages[{found[0]}] pretrains on it", hint, kind="missing")


def check_order(recipe: Recipe, add: Add) -> None:
    """Whether the stages can follow each other."""
    names = recipe.stage_names()
    for index, name in enumerate(names):
        if name in names[:index]:
            add(
                ("stages", index, "name"),
                f"two stages are called {name!r}",
                "give each its own `name`",
                kind="conflict",
            )
        if name in _NAMES_IN_REPORTS:
            add(
                ("stages", index, "name"),
                f"{name!r} names {_NAMES_IN_REPORTS[name]} in the report",
                "choose another",
                kind="conflict",
            )
    quantized = exported = pretrained = False
    for index, stage in enumerate(recipe.stages):
        if exported:
            add(
                ("stages", index),
                f"{stage.kind} comes after export",
                "export ships; make it the last stage",
                kind="order",
            )
        elif quantized and not stage.ships:
            hint = "integers cannot be trained or cut; move quantize behind it"
            add(("stages", index), f"{stage.kind} comes after quantize", hint, kind="order")
        pretraining = recipe.task_of(stage) == MASKED_LM
        if pretrained and not pretraining and stage.needs_head:
            what = f"{stage.kind} follows pretraining, which leaves no head for {recipe.task}"
            add(("stages", index), what, "put a finetune or distill stage in between", kind="order")
        pretrained = pretraining and recipe.task != MASKED_LM
        quantized |= stage.quantizes
        exported |= stage.ships
    if quantized and recipe.measure.runtime != "onnxruntime":
        what = f"quantize writes ONNX, which {recipe.measure.runtime} does not run"
        add(("measure", "runtime"), what, "use onnxruntime, or leave quantize out", kind="conflict")


def check_formats(recipe: Recipe, add: Add) -> None:
    """Whether each format has a form for the weights that a stage before it leaves."""
    scheme: str | None = None
    for index, stage in enumerate(recipe.stages):
        targets = stage.takes_no_blocks if scheme is not None else ()
        for target in targets:
            what = f"has {target}, which has no form for weights of {scheme}: its products would stay in float"
            hint = "put a scheme with int8 products, or fp16, first in the quantize stage's scheme; or drop the target"
            add(("stages", index, "targets"), what, hint, kind="conflict")
        scheme = stage.leaves_blocks or scheme


def check_pruned(recipe: Recipe, add: Add) -> None:
    """Whether no later stage undoes a trimmed vocabulary or zeros."""
    trimmed = sparse = False
    for index, stage in enumerate(recipe.stages):
        if trimmed and recipe.task_of(stage) == MASKED_LM:
            what = "pretraining starts from the whole vocabulary again, and a stage before it has trimmed that"
            add(("stages", index), what, "put the prune stage behind it", kind="order")
        if sparse and stage.trains:
            what = f"{stage.kind} trains, and would fill the zeros that a stage before it has made"
            add(("stages", index), what, "put the prune stage with sparsity or pattern behind it", kind="order")
        trimmed |= stage.trims_vocabulary
        sparse |= stage.makes_zeros


def check_stages(recipe: Recipe, incoming: Checkpoint | None, students: Mapping[int, Checkpoint], add: Add) -> None:
    """Whether each stage can run here: its libraries, and the tokenizer that it works on."""
    for index, (stage, given) in enumerate(zip(recipe.stages, given_to(recipe, incoming, students), strict=True)):
        stage.check(recipe.task_of(stage), given, within(index, add))


def given_to(
    recipe: Recipe, incoming: Checkpoint | None, students: Mapping[int, Checkpoint]
) -> Iterator[Checkpoint | None]:
    """For each stage, the user's checkpoint whose tokenizer comes in, as the stages before it leave it or trim it.

    Args:
        recipe: The recipe.
        incoming: The recipe's model, if it is here.
        students: Ready checkpoints that stages start from, by index, as far as they are here.
    """
    given: dict[str, Checkpoint | None] = dict.fromkeys((MASKED_LM, recipe.task), incoming)
    for index, stage in enumerate(recipe.stages):
        task = recipe.task_of(stage)
        yield given[task]
        if stage.ready_student is not None:
            given[task] = given[recipe.task] = students.get(index)
        else:
            given[recipe.task] = given[task]


def within(index: int, add: Add) -> Add:
    """Adds problems at places within a stage."""

    def at(location: Location, what: str, hint: str = "", kind: str = "value") -> None:
        add(("stages", index, *location), what, hint, kind)

    return at
