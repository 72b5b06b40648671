"""Builds a smaller student and trains it to match the teacher, on the task's rows or on raw text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from compressor import checkpoint
from compressor.checkpoint import Checkpoint
from compressor.context import Context, Facts
from compressor.recipe import MASKED_LM, DistillSpec

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from compressor.training.batches import MaskedBatches, RowBatches

TASK_WEIGHTS = {"soft": 0.9, "hard": 0.1, "cosine": 0.0, "attention": 0.0}
PRETRAINING_WEIGHTS = {"soft": 5.0, "mlm": 2.0, "cosine": 1.0}
"""Default weights of the loss terms; in pretraining those that DistilBERT's authors trained with."""


def run(source: Path, output: Path, spec: DistillSpec, context: Context) -> Facts:
    """Distils a student, which starts from layers of the incoming checkpoint or from a ready one.

    Args:
        source: Checkpoint folder that gives the layers.
        output: Empty folder for the student.
        spec: The stage's keys.
        context: Teacher, ready student, rows or corpus, seed, progress.
    """
    from transformers import set_seed

    set_seed(context.seed)
    start = context.student or source
    return (_pretraining if context.task == MASKED_LM else _task)(start, output, spec, context)


def _weights(spec: DistillSpec, defaults: dict[str, float]) -> dict[str, float]:
    given = {name: getattr(spec, f"alpha_{name}") for name in defaults}
    return {name: defaults[name] if value is None else value for name, value in given.items()}


def _task(start: Path, output: Path, spec: DistillSpec, context: Context) -> Facts:
    from compressor.training import objectives, task_answers
    from compressor.training.stage import row_batches, train_stage

    weights = _weights(spec, TASK_WEIGHTS)
    batches = row_batches(start, spec, context)
    incoming = checkpoint.load_model(start, context.task, **context.head)
    student, facts = _student(incoming, start, batches, spec, context)
    teacher = Checkpoint(context.teacher)
    layer_map = task_answers.layer_map(spec.layer_map, student.config.num_hidden_layers, teacher.num_hidden_layers)
    if weights["cosine"] or weights["attention"]:
        facts["layer_map"] = layer_map
    if any(weights[name] for name in ("soft", "cosine", "attention")):
        hidden = layer_map if weights["cosine"] else []
        attention = layer_map if weights["attention"] else []
        answers = task_answers.answers(batches, start, spec, context, hidden=hidden, attention=attention)
        batches = row_batches(start, spec, context, answers)
    if weights["attention"]:
        task_answers.check_heads(student, teacher)
        student.set_attn_implementation("eager")  # the others do not tell where they attend
    if weights["cosine"]:
        objectives.add_projection(student, teacher.hidden_size)
    objective = objectives.TaskDistillation(weights, spec.temperature, layer_map)
    return {**facts, "weights": weights, **train_stage(student, start, output, spec, context, batches, objective)}


def _pretraining(start: Path, output: Path, spec: DistillSpec, context: Context) -> Facts:
    from compressor.training import corpus, objectives, token_targets
    from compressor.training.batches import MaskedBatches
    from compressor.training.stage import train_stage

    weights = _weights(spec, PRETRAINING_WEIGHTS)
    teacher = Checkpoint(context.teacher)
    if weights["soft"]:
        assert teacher.has_head(MASKED_LM), "a teacher without a head is refused before anything runs"
    token_targets.check_vocabularies(start, context.teacher)
    data = corpus.sequences(start, spec, context)
    count = corpus.num_maskings(spec, len(data))
    maskings = [corpus.masking(start, data, spec, context, index) for index in range(count)]
    targets = [
        token_targets.targets(
            start, data, masking, index, spec, context, soft=bool(weights["soft"]), hidden=bool(weights["cosine"])
        )
        for index, masking in enumerate(maskings)
        if weights["soft"] or weights["cosine"]
    ]
    incoming = checkpoint.load_model(start, context.task)
    student, facts = _student(incoming, start, MaskedBatches(data, maskings[:1]), spec, context)
    if weights["cosine"]:
        objectives.add_projection(student, teacher.hidden_size)
    objective = objectives.PretrainingDistillation(student, weights, spec.temperature)
    batches = MaskedBatches(data, maskings, targets)
    trained = train_stage(student, start, output, spec, context, batches, objective)
    return {**facts, "weights": weights, "maskings": count, **trained}


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
            harm = initial.harm(incoming, initial.samples(batches), Checkpoint(start).has_head(context.task), step)
            layers, facts["importance"] = least_harmful(incoming, count, harm)
    else:
        layers = chosen_layers(total, count if spec.layers == "every_other" else None, spec.layers)
    student = shallower(incoming, layers, spec.architecture)
    if spec.hidden_size is not None:
        student = narrower(student, spec.hidden_size)
    return student, {"layers": layers, **facts}
