"""Builds the checkpoints of a run: each stage's from its parent's, unless it is in the store."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from compressor.data.corpus import seen, stream
from compressor.data.spec import HubDataset, TextSpec
from compressor.errors import Location, Problem, RecipeError, path_text
from compressor.measure.client import Client
from compressor.measure.trial import DeploymentTrial
from compressor.models import importing
from compressor.models.checkpoint import Checkpoint
from compressor.pipeline.code_digest import made_with
from compressor.pipeline.corpus_sequences import PreparedCorpus
from compressor.pipeline.entry import Artifact
from compressor.pipeline.keys import check_unchanged, checkpoint_inputs
from compressor.pipeline.plan import Plan
from compressor.pipeline.planned_stage import PlannedStage
from compressor.pipeline.prepared import Prepared, prepare
from compressor.pipeline.store import Store
from compressor.pipeline.task_rows import PreparedRows
from compressor.progress import Progress
from compressor.recipe.checks.order import given_to
from compressor.stages import STAGES
from compressor.tasks import reads_pairs
from compressor.training.context import Context

_SEEN = f"counted_{seen.SEEN_FILE}"


@dataclass(frozen=True)
class Built:
    """A stage's checkpoint.

    Attributes:
        artifact: The checkpoint.
        from_cache: Whether it was in the store.
        seconds: Time that building it took.
    """

    artifact: Artifact
    from_cache: bool
    seconds: float


class Builder:
    """Builds the stages of a plan, each once.

    Args:
        plan: The plan.
        store: Keeps the checkpoints.
        client: Runs the measuring processes, for stages that try models out.
        progress: Shows progress.

    Attributes:
        notes: What was changed in the user's checkpoints.

    Raises:
        RecipeError: One of them cannot be worked on.
    """

    def __init__(self, plan: Plan, store: Store, client: Client, progress: Progress) -> None:
        self._plan, self._store, self._client, self._progress = plan, store, client, progress
        self._recipe = plan.resolved.recipe
        self._prepared: dict[str, PreparedRows | PreparedCorpus] = {}
        self._built: dict[str, Built] = {}
        assert plan.model is not None, "a run has its model"
        source = self._source = self._bring_in(plan.model, "model", plan.source_inputs["files"])
        # Before any stage, so that nothing is trained for a student that cannot be loaded.
        self._students = {
            stage.key: self._bring_in(stage.student, f"{stage.name}.student", stage.inputs["student"])
            for stage in plan.stages
            if stage.student is not None
        }
        self.notes = [note for given in (source, *self._students.values()) for note in given.facts.get("notes", [])]

    def _bring_in(self, folder: Path, where: str, files: Mapping[str, str]) -> Artifact:
        """A checkpoint of the user's, in the form that stages read; without what else is in its folder."""
        embedding = self._recipe.embedding_settings

        def build(output: Path, work: Path) -> Mapping[str, Any]:
            facts = importing.bring_in(folder, output, where, embedding)
            check_unchanged(where, folder, files)
            return facts

        return self._store.build({**checkpoint_inputs(None, embedding), "files": files}, build)[0]

    def check(self, stages: Sequence[PlannedStage]) -> None:
        """Reads the data of all stages, and asks those that are not in the store whether they can run here.

        Raises:
            RecipeError: What would stop the run after stages that take long.
        """
        given_data = [self.prepared(task) for task in dict.fromkeys(stage.task for stage in stages)]
        for data in given_data:
            if isinstance(data, PreparedCorpus):
                data.validation(self._source.path)
                for rows in given_data:
                    if isinstance(rows, PreparedRows):
                        data.compare(rows.validation_texts(), self._source.path)
        problems: list[Problem] = []
        here = {index: Checkpoint(s.student) for index, s in enumerate(self._plan.stages) if s.student is not None}
        given = given_to(self._recipe, Checkpoint(self._source.path), here)
        for index, (stage, incoming) in enumerate(zip(stages, given, strict=False)):
            if self._store.get(stage.key) is not None:
                continue

            def add(location: Location, what: str, hint: str = "", kind: str = "value", index: int = index) -> None:
                where = path_text(("stages", index, *location), self._recipe.stages)
                problems.append(Problem(where, what, hint, kind=kind))

            if stage.texts is not None and not any(True for _ in stream.counted(*stage.texts)):
                add(
                    ("vocabulary", "corpus"),
                    "has no text to count tokens in",
                    "name another, or leave it out",
                    "missing",
                )
            assert incoming is not None, "a run has its checkpoints"
            stage.spec.check_here(stage.task, incoming, reads_pairs(stage.task, self._recipe.data), add)
        if problems:
            raise RecipeError(problems, str(self._plan.resolved.path))

    def prepared(self, task: str) -> PreparedRows | PreparedCorpus:
        """The data of a task, read and split."""
        if task not in self._prepared:
            self._prepared[task] = prepare(self._plan, task, self._store, self._progress)
        return self._prepared[task]

    @property
    def everything_from_cache(self) -> bool:
        """Whether all checkpoints so far were in the store."""
        return all(built.from_cache for built in self._built.values())

    def build(self, stage: PlannedStage) -> Built:
        """The stage's checkpoint, built if it is not in the store."""
        if stage.key not in self._built:
            start = time.monotonic()
            together = stage.spec.trains
            artifact, from_cache = self._store.build(stage.inputs, partial(self._run, stage), together)
            self._built[stage.key] = Built(artifact, from_cache, time.monotonic() - start)
        return self._built[stage.key]

    def _run(self, stage: PlannedStage, output: Path, work: Path) -> Mapping[str, Any]:
        source = self._store.folder(stage.inputs["parent"])
        facts = STAGES[stage.spec.kind].run(source, output, stage.spec, self._context(stage, source, work))
        if stage.texts is None or self._store.follower:
            return facts
        where = f"{stage.name}.vocabulary.corpus"
        check_unchanged(where, stage.texts[0], stage.inputs["texts"])
        rows = self.prepared(stage.task)
        shared = seen.overlap(rows.validation_texts(), work / _SEEN, where) if isinstance(rows, PreparedRows) else []
        return {**facts, "notes": [*facts.get("notes", []), *shared]}

    def _context(self, stage: PlannedStage, source: Path, work: Path) -> Context:
        prepared, measure = self.prepared(stage.task), self._recipe.measure
        student = self._students.get(stage.key)
        return Context(
            recipe=self._recipe.name,
            stage=stage.name,
            key=stage.key,
            task=stage.task,
            pairs=reads_pairs(stage.task, self._recipe.data),
            teacher=source if stage.key == stage.teacher else self._store.folder(stage.teacher),
            student=None if student is None else student.path,
            teacher_layers=stage.teacher_layers,
            labels=prepared.labels,
            seed=self._recipe.seed,
            tokenized=prepared.tokenized if isinstance(prepared, PreparedRows) else _no_data,
            packed=prepared.packed if isinstance(prepared, PreparedCorpus) else _no_data,
            texts=None if stage.texts is None else partial(self._counted, *stage.texts, work / _SEEN),
            trial=DeploymentTrial(measure, stage.task, prepared.selection, prepared.labels, self._client),
            memo=partial(self._memo, prepared),
            work=work,
            progress=self._progress,
            held_out=prepared.held_out if isinstance(prepared, PreparedRows) else None,
            precisions=self._recipe.vector_precisions,
        )

    def _counted(self, source: Path | HubDataset, spec: TextSpec, path: Path) -> Iterator[str]:
        """The texts that a stage counts tokens in; they are written down as they pass, since a hub's come slowly."""
        texts = stream.counted(source, spec)
        return texts if self._store.follower else seen.recorded(texts, path, "\n")

    def _memo(
        self,
        prepared: Prepared,
        makers: Sequence[str],
        inputs: Mapping[str, Any],
        build: Callable[[Path], Mapping[str, Any]],
    ) -> Path:
        """Keeps a by-product of a stage in the store; its key holds the data, so that stages need not name it."""
        full = {**inputs, "kind": makers[0], "data": prepared.data.key, **made_with(*makers)}
        return self._store.build(full, lambda output, work: build(output))[0].path


def _no_data(*_: Any) -> Any:
    raise AssertionError("a stage asked for rows of a corpus, or for sequences of rows")
