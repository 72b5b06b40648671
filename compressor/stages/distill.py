"""Builds a smaller student and trains it to match the teacher, on the task's rows or on raw text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from compressor.checkpoint import Checkpoint
from compressor.context import Context, Facts
from compressor.recipe_stages import DistillSpec

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from compressor.training.batches import MaskedBatches, RowBatches


def run(source: Path, output: Path, spec: DistillSpec, context: Context) -> Facts:
    """Distils a student, which starts from layers of the incoming checkpoint or from a ready one.

    Args:
        source: Checkpoint folder that gives the layers.
        output: Empty folder for the student.
        spec: The stage's keys.
        context: Teacher, ready student, rows or corpus, seed, progress.
    """
    from compressor.training.distillation import TASK_WEIGHTS, distil

    start = context.student or source

    def make(incoming: PreTrainedModel, batches: RowBatches | MaskedBatches) -> tuple[PreTrainedModel, Facts]:
        return _student(incoming, start, batches, spec, context)

    return distil(start, output, spec, context, make, TASK_WEIGHTS)


def _student(
    incoming: PreTrainedModel, start: Path, batches: RowBatches | MaskedBatches, spec: DistillSpec, context: Context
) -> tuple[PreTrainedModel, Facts]:
    """The student before training, and how it was made."""
    from compressor.surgery.narrower import narrower
    from compressor.surgery.student import chosen_layers, least_harmful, shallower
    from compressor.training import initial

    if context.student is not None:
        return incoming, {"start": "a ready checkpoint"}
    total, teacher = incoming.config.num_hidden_layers, Checkpoint(context.teacher).num_hidden_layers
    count = spec.num_hidden_layers or (total if total < teacher else max(1, total // 2))
    facts: Facts = {}
    if spec.layers == "importance":
        with context.progress.step(f"{spec.name or spec.kind}: which layers matter") as step:
            task = context.task if Checkpoint(start).has_head(context.task) else None
            harm = initial.harm(incoming, initial.samples(batches), task, step)
            layers, facts["importance"] = least_harmful(incoming, count, harm)
    else:
        layers = chosen_layers(total, count if spec.layers == "every_other" else None, spec.layers)
    plain = incoming.config.model_type in ("bert", "distilbert")
    student = shallower(incoming, layers, spec.architecture or ("distilbert" if plain else None))
    if spec.hidden_size is not None:
        student = narrower(student, spec.hidden_size)
    return student, {"layers": layers, **facts}
