"""What a run will do, known before anything runs: every stage's key, whether it is there, and why not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compressor import stages
from compressor.data import hub
from compressor.data.spec import DEFAULT_MAX_SEQUENCE_LENGTH, HubDataset, TextSpec
from compressor.errors import Problem, RecipeError
from compressor.host import BUILD_LIBRARIES, environment, versions
from compressor.models.checkpoint import Checkpoint, check
from compressor.pipeline.code_digest import code_digest
from compressor.pipeline.keys import (
    CURRENT,
    UNKNOWN,
    _export_inputs,
    _measure_inputs,
    _pinned,
    _rows_digest,
    _trial_inputs,
)
from compressor.pipeline.store import key_of
from compressor.recipe.checks.checkpoint import check_checkpoint
from compressor.recipe.document import Recipe
from compressor.recipe.resolve import Resolved
from compressor.stages.base import StageSpec
from compressor.stages.finetune import FinetuneSpec
from compressor.stages.prune import PruneSpec
from compressor.tasks import MASKED_LM
from compressor.training.spec import RecoverySpec, TrainingSpec


@dataclass(frozen=True)
class PlannedStage:
    """One stage of a plan.

    Attributes:
        name: The stage's unique name.
        spec: Its keys.
        task: What its checkpoint does: the recipe's task, or masked-lm while it is pretrained.
        inputs: What its key is made of.
        key: Its key in the store.
        teacher: Key of the checkpoint it learns from; its own where it makes the teacher.
        baseline: Key of the checkpoint it is compared with.
        measure_inputs: What its measurement's key is made of.
        student: A ready checkpoint that it starts from; None for its parent.
        texts: Raw text that it counts tokens in, and which of it; None for the training rows.
        defers_training: Whether the next stage trains what this one changes. Its checkpoint is of no use alone, so it
            is measured only if a gate asks for it, or if the run ends there.
    """

    name: str
    spec: StageSpec
    task: str
    inputs: dict[str, Any]
    key: str
    teacher: str
    baseline: str
    measure_inputs: dict[str, Any]
    student: Path | None
    texts: tuple[Path | HubDataset, TextSpec] | None
    defers_training: bool


@dataclass(frozen=True)
class Data:
    """Rows or a corpus: where they are, and what their key is made of.

    Attributes:
        train: The training rows' or the corpus' file, or hub data set at the commit that the key holds.
        validation: The held-out rows' file, or hub data set at its commit; None for a split of `train`.
        inputs: What the rows depend on.
        key: Their key.
    """

    train: Path | HubDataset
    validation: Path | HubDataset | None
    inputs: dict[str, Any]

    @property
    def key(self) -> str:
        """The inputs' key."""
        return key_of(self.inputs)


@dataclass(frozen=True)
class Plan:
    """A recipe with all its keys.

    Attributes:
        resolved: The recipe and its sources.
        model: The checkpoint's folder; None for a hub model that is not here yet.
        source_inputs: What the recipe's checkpoint is: the digests of its files.
        data: What each task that occurs learns from, by task.
        steps: The stages.
    """

    resolved: Resolved
    model: Path | None
    source_inputs: dict[str, Any]
    data: dict[str, Data]
    steps: list[PlannedStage]

    def lock(self) -> dict[str, Any]:
        """Everything that decides what comes out, resolved: the contents of recipe.lock.yaml."""
        recipe = self.resolved.recipe
        return {
            "recipe": recipe.model_dump(mode="json"),
            "model": {"source": recipe.model, "sha256": Checkpoint(self.model).digest() if self.model else UNKNOWN},
            "data": {task: data.inputs for task, data in self.data.items()},
            "stages": {step.name: {"key": step.key, **step.inputs} for step in self.steps},
            "environment": environment(),
        }


@dataclass
class _TaskLine:
    """Checkpoints of one task, as far as they are planned.

    Pretrained checkpoints and those fine-tuned on the task are two lines: fine-tuning throws the language model's head
    away, so pretraining goes on from the last pretrained one, and the task from whatever came last.
    """

    teacher: str
    baseline: str | None
    previous: str | None = None

    def add(self, key: str, makes_teacher: bool) -> None:
        """Moves on to a stage's checkpoint."""
        if self.previous is None and makes_teacher:
            self.teacher = self.baseline = key
        self.baseline = self.baseline or key
        self.previous = self.previous or self.baseline


def make(resolved: Resolved, download: bool) -> Plan:
    """Computes every key of a run.

    Args:
        resolved: The recipe.
        download: Fetch what the recipe names on the hub; without, keys below it are of no use.

    Raises:
        CompressError: The hub does not give what the recipe names.
        RecipeError: The downloaded checkpoint does not fit the recipe.
    """
    model = hub.local(resolved.model, download)
    if model is not None and not isinstance(resolved.model, Path):
        _check_downloaded(resolved, model)
    source_inputs = {"kind": "source", "files": Checkpoint(model).digest() if model else UNKNOWN}
    data = _data(resolved, download)
    return Plan(resolved, model, source_inputs, data, _steps(resolved, model, key_of(source_inputs), data, download))


def _steps(
    resolved: Resolved, model: Path | None, source: str, data: dict[str, Data], download: bool
) -> list[PlannedStage]:
    recipe = resolved.recipe
    lines = {
        task: _TaskLine(source, source if model is None or Checkpoint(model).has_head(task) else None) for task in data
    }
    parents = dict.fromkeys(data, source)
    steps = []
    for index, (name, spec) in enumerate(zip(recipe.stage_names(), recipe.stages, strict=True)):
        task = recipe.task_of(spec)
        line = lines[task]
        given = resolved.students.get(index)
        student = hub.local(given, download) if given else None
        if student is not None:
            check(student, f"stages[{index}] ({spec.kind}).student")
        inputs = {
            "kind": "stage",
            "data": data[task].key,
            "task": task,
            "spec": spec.work(),
            "parent": parents[task],
            "teacher": line.teacher,
            "seed": recipe.seed,
            "code": code_digest(*stages.modules(spec), "compressor.tasks"),
            "versions": versions((*BUILD_LIBRARIES, *spec.libraries)),
        }
        if given:
            inputs["student"] = Checkpoint(student).digest() if student else UNKNOWN
        texts = _texts(resolved, index, spec, inputs, download)
        inputs |= _trial_inputs(recipe, spec) | _export_inputs(recipe, spec)
        key = key_of(inputs)
        line.add(key, isinstance(spec, FinetuneSpec))
        assert line.baseline is not None and line.previous is not None, "a line that has a stage has a baseline"
        measured = _measure_inputs(recipe, task, data[task].key, key, line.baseline, line.previous)
        defers_training = _defers_training(recipe.stages[index : index + 2])
        steps.append(
            PlannedStage(
                name, spec, task, inputs, key, line.teacher, line.baseline, measured, student, texts, defers_training
            )
        )
        if not defers_training:
            line.previous = key
        parents.update({other: key for other in parents if other in (task, recipe.task)})
    return steps


def _defers_training(stages: Sequence[StageSpec]) -> bool:
    """Whether the first of two stages leaves training to the second, which does train."""
    trains = [isinstance(stage, TrainingSpec) and stage.trains for stage in stages]
    return isinstance(stages[0], RecoverySpec) and trains == [False, True] and not stages[0].all_gates


def _texts(
    resolved: Resolved, index: int, spec: StageSpec, inputs: dict[str, Any], online: bool
) -> tuple[Path | HubDataset, TextSpec] | None:
    """The raw text that a stage counts tokens in, which becomes a part of its inputs."""
    source = resolved.texts.get(index)
    if source is None:
        return None
    assert isinstance(spec, PruneSpec) and spec.vocabulary is not None and spec.vocabulary.text is not None
    inputs["texts"] = _rows_digest(source, online)
    return _pinned(source, inputs["texts"]), spec.vocabulary.text


def baseline_measure(step: PlannedStage) -> dict[str, Any]:
    """What the measurement of a stage's baseline depends on."""
    references = dict.fromkeys(step.measure_inputs["references"], step.baseline)
    return {**step.measure_inputs, "checkpoint": step.baseline, "references": references}


def run_measure(step: PlannedStage, run: str) -> dict[str, Any]:
    """What the measurement of another run's model depends on, if a stage is compared with it.

    Args:
        step: The stage.
        run: The model's key.
    """
    return {**step.measure_inputs, "checkpoint": run, "references": {CURRENT: step.key}}


def _check_downloaded(resolved: Resolved, model: Path) -> None:
    from compressor.models import checkpoint

    found = checkpoint.problems(model, "model")
    if not found:
        check_checkpoint(
            resolved.recipe, Checkpoint(model), lambda at, what, hint: found.append(Problem(str(at[0]), what, hint))
        )
    if found:
        raise RecipeError(found, str(resolved.path))


def _data(resolved: Resolved, online: bool) -> dict[str, Data]:
    """What each task of the recipe's stages learns from; the recipe's own comes first."""
    recipe = resolved.recipe
    found: dict[str, Data] = {}
    inputs: dict[str, Any]
    if resolved.train is not None:
        validation = resolved.validation
        inputs = {
            "kind": "data",
            "train": _rows_digest(resolved.train, online),
            "validation": None if validation is None else _rows_digest(validation, online),
            "spec": recipe.data.model_dump(mode="json", exclude={"train", "validation", "corpus"}),
            "seed": recipe.seed,
            "code": code_digest("compressor.data.splits", "compressor.tasks"),
            "versions": versions(("datasets",)),
        }
        pinned = None if validation is None else _pinned(validation, inputs["validation"])
        found[recipe.task] = Data(_pinned(resolved.train, inputs["train"]), pinned, inputs)
    if resolved.corpus is not None and any(recipe.task_of(stage) == MASKED_LM for stage in recipe.stages):
        spec = recipe.data.corpus_spec
        assert spec is not None, "a corpus that was found is in the recipe"
        inputs = {
            "kind": "corpus",
            "corpus": _rows_digest(resolved.corpus, online),
            "spec": spec.model_dump(mode="json", exclude={"source"}),
            "score_length": score_length(recipe),
            "seed": recipe.seed,
            "code": code_digest("compressor.data.corpus.packing"),
            "versions": versions(("datasets",)),
        }
        found[MASKED_LM] = Data(_pinned(resolved.corpus, inputs["corpus"]), None, inputs)
    return found


def score_length(recipe: Recipe) -> int:
    """Tokens of the held-out sequences of a corpus: as many as the shortest that a pretraining stage trains on."""
    stages = [stage for stage in recipe.stages if recipe.task_of(stage) == MASKED_LM]
    lengths = [stage.max_sequence_length for stage in stages if isinstance(stage, TrainingSpec) and stage.trains]
    return min(length or DEFAULT_MAX_SEQUENCE_LENGTH for length in lengths or [None])
