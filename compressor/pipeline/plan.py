"""A recipe with the key of every stage, known before anything runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from compressor.data import hub
from compressor.data.spec import HubDataset, TextSpec
from compressor.errors import Add, Location, Problem, RecipeError, StageError, path_text
from compressor.host.machine import environment
from compressor.models import checking
from compressor.models.checkpoint import Checkpoint
from compressor.pipeline import keys
from compressor.pipeline.code_digest import made_with
from compressor.pipeline.entry import key_of
from compressor.pipeline.plan_data import Data, plan_data
from compressor.pipeline.planned_stage import PlannedStage
from compressor.recipe.checks.checkpoint import check_checkpoint, stage_shapes
from compressor.recipe.checks.order import check_stages
from compressor.recipe.resolve import Resolved
from compressor.stages import STAGES
from compressor.stages.base import StageSpec
from compressor.tasks import MASKED_LM, has_head
from compressor.training.spec import DistillationSpec, RecoverySpec

_IGNORE: Add = lambda *_, **__: None  # noqa: E731 -- problems of shapes are reported before a plan is made


@dataclass(frozen=True)
class Plan:
    """A recipe with all its keys.

    Attributes:
        resolved: The recipe and its sources.
        model: The checkpoint's folder; None for a hub model that is not downloaded yet.
        source_inputs: The inputs of the recipe's checkpoint: the digests of its files.
        data: The data of each task that a stage has, by task.
        stages: The stages, in order.
    """

    resolved: Resolved
    model: Path | None
    source_inputs: dict[str, Any]
    data: dict[str, Data]
    stages: list[PlannedStage]

    def keys(self) -> set[str]:
        """The keys of the recipe's checkpoint, its data and its stages in the store."""
        return {
            key_of(self.source_inputs),
            *(data.key for data in self.data.values()),
            *(stage.key for stage in self.stages),
        }

    def lock(self) -> dict[str, Any]:
        """All inputs of all results, resolved: the contents of recipe.lock.yaml."""
        recipe = self.resolved.recipe
        digest = Checkpoint(self.model).digest() if self.model else keys.UNKNOWN
        return {
            "recipe": recipe.model_dump(mode="json"),
            "model": {"source": recipe.model, "sha256": digest},
            "data": {task: data.inputs for task, data in self.data.items()},
            "stages": {stage.name: {"key": stage.key, **stage.inputs} for stage in self.stages},
            "environment": environment(),
        }


def make(resolved: Resolved, download: bool) -> Plan:
    """Computes every key of a run.

    Args:
        resolved: The recipe.
        download: Download the hub models and data sets of the recipe; without, keys that depend on them will change.

    Raises:
        StageError: A hub model or data set cannot be fetched.
        RecipeError: The downloaded checkpoint does not fit the recipe.
    """
    model = hub.local(resolved.model, "model", download)
    students = {
        index: hub.local(given, _student_place(resolved, index), download) for index, given in resolved.students.items()
    }
    _check_downloaded(resolved, model, students)
    source_inputs = keys.checkpoint_inputs(model, resolved.recipe.embedding_settings)
    data = plan_data(resolved, download)
    planned = _plan_stages(resolved, model, students, key_of(source_inputs), data, download)
    made = Plan(resolved, model, source_inputs, data, _with_teacher_layers(resolved, model, planned))
    if download and (unknown := sorted(set(_unknown(made.lock(), "")))):
        raise StageError(f"what this run reads is not known: {', '.join(unknown)}; nothing was built")
    return made


def _unknown(inputs: Any, place: str) -> Iterator[str]:
    """Where inputs of keys are not known yet."""
    if inputs == keys.UNKNOWN:
        yield place
    elif isinstance(inputs, dict):
        for name, value in inputs.items():
            yield from _unknown(value, f"{place}.{name}" if place else str(name))


def _check_downloaded(resolved: Resolved, model: Path | None, students: Mapping[int, Path | None]) -> None:
    """Checks checkpoints of the hub, as far as they are here, as those that were here before are checked."""
    found: list[Problem] = []
    if model is not None and not isinstance(resolved.model, Path):
        found += checking.problems(model, "model")
    here = {index: student for index, student in students.items() if student is not None}
    fetched = [index for index in here if not isinstance(resolved.students[index], Path)]
    for index in fetched:
        found += checking.problems(here[index], _student_place(resolved, index))

    def add(location: Location, what: str, hint: str = "", kind: str = "value") -> None:
        found.append(Problem(path_text(location, resolved.recipe.stages), what, hint, kind=kind))

    if model is not None and not found and (fetched or not isinstance(resolved.model, Path)):
        ready = {index: Checkpoint(student) for index, student in here.items()}
        check_stages(resolved.recipe, Checkpoint(model), ready, add)
        check_checkpoint(resolved.recipe, Checkpoint(model), add, ready)
    if found:
        raise RecipeError(found, str(resolved.path))


@dataclass
class _TaskLine:
    """The checkpoints of one task, as far as they are planned.

    Fine-tuning on the task throws the language model's head away: pretraining goes on from what was pretrained last.
    """

    teacher: str
    baseline: str | None
    previous: str | None = None
    warming: bool = True

    def add(self, key: str, spec: StageSpec) -> None:
        """Moves on to a stage's checkpoint."""
        if self.warming and spec.makes_teacher:
            self.teacher = self.baseline = key
        self.warming &= spec.warms_up
        self.baseline = self.baseline or key
        self.previous = self.previous or self.baseline


def _plan_stages(
    resolved: Resolved,
    model: Path | None,
    students: Mapping[int, Path | None],
    source: str,
    data: dict[str, Data],
    download: bool,
) -> list[PlannedStage]:
    """Chains the stages' keys.

    Args:
        resolved: The recipe.
        model: Its checkpoint, if it is here.
        students: Ready checkpoints that stages start from, by the stage's index; None for those that are not here.
        source: The checkpoint's key.
        data: The data of each task.
        download: Whether texts on the hub may be looked up.
    """
    recipe = resolved.recipe
    lines = {
        task: _TaskLine(source, source if model is None or has_head(Checkpoint(model), task) else None) for task in data
    }
    parents = dict.fromkeys(data, source)
    planned = []
    for index, (name, spec) in enumerate(zip(recipe.stage_names(), recipe.stages, strict=True)):
        task = recipe.task_of(spec)
        line = lines[task]
        inputs: dict[str, Any] = {
            "kind": "stage",
            "data": data[task].key,
            "task": task,
            "spec": spec.work(),
            "parent": parents[task],
            "teacher": line.teacher,
            "seed": recipe.seed,
            **made_with(STAGES[spec.kind].module, "compressor.tasks", own=keys.STAGE_CODE, extras=spec.libraries),
        }
        student = students.get(index)
        if index in students:
            inputs["student"] = Checkpoint(student).digest() if student else keys.UNKNOWN
        if (texts := _texts(resolved, index, spec)) is not None:
            where = path_text(("stages", index, "vocabulary", "corpus"), recipe.stages)
            text, inputs["texts"] = keys.source_inputs(texts[0], where, download)
            texts = text, texts[1]
        inputs |= keys.training_inputs(spec) | keys.trial_inputs(recipe, spec) | keys.export_inputs(recipe, spec)
        key = key_of(inputs)
        line.add(key, spec)
        assert line.baseline is not None and line.previous is not None, "a line that has a stage has a baseline"
        measured = (task, data[task].key, key, line.baseline, line.previous)
        stage = PlannedStage(
            name=name,
            spec=spec,
            task=task,
            inputs=inputs,
            key=key,
            teacher=line.teacher,
            baseline=line.baseline,
            measure_inputs=keys.measure_inputs(recipe.measure, *measured),
            device_inputs={
                device: keys.measure_inputs(recipe.measure.on(device), *measured, device)
                for device in recipe.measure.devices
            },
            student=student,
            texts=texts,
            gates=spec.gates_of(recipe.quantized(index)),
            defers_training=_defers_training(recipe.stages[index : index + 2]),
        )
        planned.append(stage)
        if not stage.defers_training:
            line.previous = key
        parents.update({other: key for other in parents if other in (task, recipe.task)})
    return planned


def _with_teacher_layers(resolved: Resolved, model: Path | None, stages: list[PlannedStage]) -> list[PlannedStage]:
    """The stages, each with the layers that all those learn from which have its teacher and its length of rows."""
    if model is None:
        return stages
    students = {index: Checkpoint(stage.student) for index, stage in enumerate(stages) if stage.student is not None}
    shapes = list(stage_shapes(resolved.recipe, Checkpoint(model), students, _IGNORE))
    readers: dict[tuple[str, int | None], set[int]] = {}
    for stage, (spec, student, teacher) in zip(stages, shapes, strict=True):
        if isinstance(spec, DistillationSpec) and stage.task != MASKED_LM:
            layers = readers.setdefault((stage.teacher, spec.max_sequence_length), set())
            layers.update(spec.learned_layers(student.layers, teacher.layers))
    for index, stage in enumerate(stages):
        if isinstance(stage.spec, DistillationSpec):
            layers = readers.get((stage.teacher, stage.spec.max_sequence_length), set())
            stages[index] = replace(stage, teacher_layers=tuple(sorted(layers)))
    return stages


def _student_place(resolved: Resolved, index: int) -> str:
    return path_text(("stages", index, "student"), resolved.recipe.stages)


def _texts(resolved: Resolved, index: int, spec: StageSpec) -> tuple[Path | HubDataset, TextSpec] | None:
    """The raw text that a stage counts tokens in, and its settings."""
    if (source := resolved.texts.get(index)) is None:
        return None
    assert spec.counted_text is not None, "a text that was found is in the recipe"
    return source, spec.counted_text


def _defers_training(stages: Sequence[StageSpec]) -> bool:
    """Whether the first of two stages leaves training to the second, which does train."""
    trains = [stage.trains for stage in stages]
    return isinstance(stages[0], RecoverySpec) and trains == [False, True] and not stages[0].all_gates
