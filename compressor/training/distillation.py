"""Trains a student to match the teacher: what distilling, sharing, factorizing and pruning have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from compressor.models import loading
from compressor.models.checkpoint import Checkpoint
from compressor.tasks import MASKED_LM, has_head, learned_from_rows
from compressor.training import masked_corpus, objectives, teacher_cache, teacher_targets
from compressor.training.batches import MaskedBatches, RowBatches
from compressor.training.context import Context, Facts
from compressor.training.spec import DistillationSpec
from compressor.training.train_stage import row_batches, save, train_stage

if TYPE_CHECKING:
    from transformers import PreTrainedModel, TrainerCallback

TASK_WEIGHTS = {"soft": 0.9, "hard": 0.1, "cosine": 0.0, "attention": 0.0}
RECOVERY_WEIGHTS = {**TASK_WEIGHTS, "cosine": 1.0}
PRETRAINING_WEIGHTS = {"soft": 5.0, "mlm": 2.0, "cosine": 1.0}
"""Default weights of the loss terms; in pretraining those that DistilBERT's authors trained with."""
ORDER_WEIGHT = {"order": 1.0}
"""The same where the corpus is of pairs of segments."""

UNLIKE = (
    "Teacher and student split some training rows into different tokens: hidden states could not be compared token by "
    "token, and the student learned from answers alone."
)
UNLIKE_ANSWERS = (
    "Teacher and student split some training rows into different tokens: their answers could not be compared token by "
    "token, and the student learned from the labels."
)
"""Said in the report where a default weight is not kept."""

Make = Callable[["PreTrainedModel", RowBatches | MaskedBatches], tuple["PreTrainedModel", Facts]]
"""Makes the student out of the incoming model, given training rows to try things on, and says what it did."""


def distil(
    start: Path,
    output: Path,
    spec: DistillationSpec,
    context: Context,
    make: Make,
    task_weights: Mapping[str, float] = RECOVERY_WEIGHTS,
    callbacks: Sequence[TrainerCallback] = (),
) -> Facts:
    """Makes a student and trains it, on the task's rows or on raw text; with no epochs, only makes it.

    Args:
        start: Checkpoint that the student is made of.
        output: Empty folder for the student.
        spec: The stage's keys.
        context: Teacher, rows or corpus, seed, progress.
        make: Makes the student.
        task_weights: Weights of the loss terms on the task's rows where the recipe gives none.
        callbacks: Do something to the student as it is trained.
    """
    from transformers import set_seed

    set_seed(context.seed)
    if context.task == MASKED_LM:
        return _on_text(start, output, spec, context, make, callbacks)
    return _on_rows(start, output, spec, context, make, task_weights, callbacks)


def _weights(spec: DistillationSpec, defaults: Mapping[str, float]) -> dict[str, float]:
    given = {name: getattr(spec, f"alpha_{name}") for name in defaults}
    return {name: defaults[name] if value is None else value for name, value in given.items()}


def _on_rows(
    start: Path,
    output: Path,
    spec: DistillationSpec,
    context: Context,
    make: Make,
    defaults: Mapping[str, float],
    callbacks: Sequence[TrainerCallback],
) -> Facts:
    weights = _weights(spec, defaults)
    batches = row_batches(start, spec, context)
    student, facts = make(loading.load_model(start, context.model_head, **context.head), batches)
    if not spec.trains:
        return {**facts, **save(student, start, output, spec, context.task)}
    teacher = Checkpoint(context.teacher)
    layer_map = teacher_cache.layer_map(spec.layer_map, student.config.num_hidden_layers, teacher.num_hidden_layers)
    by_token = {"cosine": UNLIKE} | ({"soft": UNLIKE_ANSWERS} if learned_from_rows(context.task).PER_TOKEN else {})
    asked = [name for name in by_token if weights[name] and getattr(spec, f"alpha_{name}") is None]
    if asked and not teacher_cache.comparable(batches, start, spec, context):
        weights |= dict.fromkeys(asked, 0.0)
        facts.setdefault("notes", []).extend(by_token[name] for name in asked)
    if weights["cosine"] or weights["attention"]:
        facts["layer_map"] = layer_map
    if weights["attention"]:
        teacher_cache.check_heads(student, teacher)
        student.set_attn_implementation("eager")  # the others do not tell where they attend
    if any(weights[name] for name in ("soft", "cosine", "attention")):
        hidden = layer_map if weights["cosine"] else []
        attention = layer_map if weights["attention"] else []
        answers = teacher_cache.answers(batches, start, spec, context, hidden=hidden, attention=attention)
        batches = row_batches(start, spec, context, answers)
    if weights["cosine"]:
        objectives.add_projection(student, teacher.hidden_size)
    objective = objectives.TaskDistillation(learned_from_rows(context.task), weights, spec.temperature, layer_map)
    trained = train_stage(student, start, output, spec, context, batches, objective, callbacks)
    return {**facts, "weights": weights, **trained}


def _on_text(
    start: Path,
    output: Path,
    spec: DistillationSpec,
    context: Context,
    make: Make,
    callbacks: Sequence[TrainerCallback],
) -> Facts:
    data = masked_corpus.sequences(start, spec, context)
    weights = _weights(spec, PRETRAINING_WEIGHTS | (ORDER_WEIGHT if data.pairs else {}))
    teacher = Checkpoint(context.teacher)
    if weights["soft"] and spec.trains:
        assert has_head(teacher, MASKED_LM), "a teacher without a head is refused before anything runs"
    teacher_targets.check_vocabularies(start, context.teacher)
    count = masked_corpus.num_maskings(spec, len(data))
    maskings = [masked_corpus.masking(start, data, spec, context, index) for index in range(count)]
    incoming = loading.load_model(start, context.model_head, sentence_order=data.pairs)
    student, facts = make(incoming, MaskedBatches(data, maskings[:1]))
    if not spec.trains:
        return {**facts, **save(student, start, output, spec, context.task)}
    targets = [
        teacher_targets.targets(
            start, data, masking, index, spec, context, soft=bool(weights["soft"]), hidden=bool(weights["cosine"])
        )
        for index, masking in enumerate(maskings)
        if weights["soft"] or weights["cosine"]
    ]
    if weights["cosine"]:
        objectives.add_projection(student, teacher.hidden_size)
    objective = objectives.PretrainingDistillation(student, weights, spec.temperature)
    batches = MaskedBatches(data, maskings, targets)
    trained = train_stage(student, start, output, spec, context, batches, objective, callbacks)
    return {**facts, "weights": weights, "maskings": count, **trained}
