"""Trains a student to match the teacher.

A stage calls `prepare`, makes its student out of `load_model()`, and gives the student to `recover`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from compressor.models import loading
from compressor.models.checkpoint import Checkpoint
from compressor.tasks import MASKED_LM, has_head, learned_from_rows
from compressor.training import label_thresholds, masked_corpus, objectives, projection, teacher_cache, teacher_targets
from compressor.training.batches import MaskedBatches, RowBatches
from compressor.training.context import Context, Facts
from compressor.training.sequences import Sequences
from compressor.training.spec import DistillationSpec
from compressor.training.train_stage import row_batches, save, train_stage

if TYPE_CHECKING:
    from transformers import PreTrainedModel, TrainerCallback

TASK_WEIGHTS = {"soft": 0.9, "hard": 0.1, "margin": 0.0, "attention": 0.0}
VECTOR_WEIGHTS = {"soft": 1.0, "relation": 0.0, "hard": 0.0, "attention": 0.0}
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
"""Notes in the report where a default weight is not kept."""


@dataclass(frozen=True)
class TrainingData:
    """The checkpoint that a student is made of, and the rows that it learns from.

    Attributes:
        start: The checkpoint's folder; the student keeps its tokenizer.
        spec: The stage's keys.
        context: Teacher, rows or corpus, seed, progress.
        batches: The training rows, without the teacher's answers; of a corpus, under the first masking.
        sequences: The corpus; None for a task's rows.
        maskings: Folders of the corpus's maskings.
    """

    start: Path
    spec: DistillationSpec
    context: Context
    batches: RowBatches | MaskedBatches
    sequences: Sequences | None = None
    maskings: tuple[Path, ...] = ()

    def load_model(self) -> PreTrainedModel:
        """The checkpoint's model, with the head that the student needs."""
        if self.sequences is not None:
            return loading.load_model(self.start, self.context.model_head, sentence_order=self.sequences.pairs)
        return loading.load_model(self.start, self.context.model_head, **self.context.head)

    @property
    def trained_head(self) -> str | None:
        """The task whose trained head the checkpoint has; None for a checkpoint whose head is new."""
        return self.context.task if has_head(Checkpoint(self.start), self.context.task) else None


def prepare(start: Path, spec: DistillationSpec, context: Context) -> TrainingData:
    """Seeds everything random and reads the training rows.

    Args:
        start: Checkpoint that the student is made of.
        spec: The stage's keys.
        context: Teacher, rows or corpus, seed, progress.
    """
    from transformers import set_seed

    set_seed(context.seed)
    if context.task != MASKED_LM:
        return TrainingData(start, spec, context, row_batches(start, spec, context))
    sequences = masked_corpus.sequences(start, spec, context)
    teacher_targets.check_vocabularies(start, context.teacher)
    count = masked_corpus.num_maskings(spec, sequences)
    maskings = tuple(masked_corpus.masking(start, sequences, spec, context, index) for index in range(count))
    return TrainingData(start, spec, context, MaskedBatches(sequences, maskings[:1]), sequences, maskings)


def recover(
    student: PreTrainedModel,
    data: TrainingData,
    output: Path,
    callbacks: Sequence[TrainerCallback] = (),
) -> Facts:
    """Trains a student to match the teacher and saves it; with no epochs, only saves it.

    Args:
        student: The student, changed in place.
        data: The rows.
        output: Empty folder for the student.
        callbacks: Do something to the student as it is trained.
    """
    if not data.spec.trains:
        return save(student, data.start, output, data.spec, data.context.task)
    if data.sequences is not None:
        return _recover_on_text(student, data, data.sequences, output, callbacks)
    assert isinstance(data.batches, RowBatches), "rows of a task"
    return _recover_on_rows(student, data, data.batches, output, callbacks)


def _weights(spec: DistillationSpec, defaults: Mapping[str, float]) -> dict[str, float]:
    given = {name: getattr(spec, f"alpha_{name}") for name in defaults}
    return {name: defaults[name] if value is None else value for name, value in given.items()}


def _recover_on_rows(
    student: PreTrainedModel,
    data: TrainingData,
    batches: RowBatches,
    output: Path,
    callbacks: Sequence[TrainerCallback],
) -> Facts:
    start, spec, context = data.start, data.spec, data.context
    facts: Facts = {}
    vectors = learned_from_rows(context.task).HEAD.vectors
    weights = _weights(spec, (VECTOR_WEIGHTS if vectors else TASK_WEIGHTS) | {"cosine": spec.default_alpha_cosine})
    teacher = Checkpoint(context.teacher)
    if vectors and weights["soft"]:
        ours = Checkpoint(start).embedding.dense or student.config.hidden_size
        theirs = teacher.embedding.dense or teacher.hidden_size
        projection.add(student, projection.VECTORS, ours, theirs)
        if ours != theirs:
            facts["vector_projection"] = [ours, theirs]
    layer_map = teacher_cache.layer_map(spec.layer_map, student.config.num_hidden_layers, teacher.num_hidden_layers)
    by_token = {"cosine": UNLIKE} | ({"soft": UNLIKE_ANSWERS} if learned_from_rows(context.task).PER_TOKEN else {})
    asked = [name for name in by_token if weights[name] and getattr(spec, f"alpha_{name}") is None]
    if asked and not teacher_cache.comparable(batches, start, spec, context):
        weights |= dict.fromkeys(asked, 0.0)
        facts["notes"] = [by_token[name] for name in asked]
    if weights["cosine"] or weights["attention"]:
        facts["layer_map"] = layer_map
    if weights["attention"]:
        teacher_cache.check_heads(student, teacher)
        student.set_attn_implementation("eager")  # the other implementations do not return attention
        objectives.remove_attention_dropout(student)
    if any(weights.get(name) for name in ("soft", "margin", "relation", "cosine", "attention")):
        hidden = layer_map if weights["cosine"] else []
        attention = layer_map if weights["attention"] else []
        answers = teacher_cache.answers(batches, start, spec, context, hidden=hidden, attention=attention)
        together = weights.get("margin") or (vectors and weights["hard"])
        batches = row_batches(start, spec, context, answers, by_query=bool(together))
    if weights["cosine"]:
        projection.add(student, projection.STATES, student.config.hidden_size, teacher.hidden_size)
    label_thresholds.follow(student, teacher)
    objective = objectives.TaskDistillation(
        learned_from_rows(context.task), weights, spec.temperature, layer_map, spec.dimensions
    )
    trained = train_stage(student, start, output, spec, context, batches, objective, callbacks)
    return {**facts, "weights": weights, **trained}


def _recover_on_text(
    student: PreTrainedModel,
    data: TrainingData,
    sequences: Sequences,
    output: Path,
    callbacks: Sequence[TrainerCallback],
) -> Facts:
    start, spec, context = data.start, data.spec, data.context
    weights = _weights(spec, PRETRAINING_WEIGHTS | (ORDER_WEIGHT if sequences.pairs else {}))
    teacher = Checkpoint(context.teacher)
    if weights["soft"]:
        assert has_head(teacher, MASKED_LM), "a teacher without a head is refused before anything runs"
    targets = [
        teacher_targets.targets(
            start, sequences, masking, index, spec, context, soft=bool(weights["soft"]), hidden=bool(weights["cosine"])
        )
        for index, masking in enumerate(data.maskings)
        if weights["soft"] or weights["cosine"]
    ]
    if weights["cosine"]:
        projection.add(student, projection.STATES, student.config.hidden_size, teacher.hidden_size)
    objective = objectives.PretrainingDistillation(student, weights, spec.temperature)
    batches = MaskedBatches(sequences, data.maskings, targets)
    trained = train_stage(student, start, output, spec, context, batches, objective, callbacks)
    return {"weights": weights, "maskings": len(data.maskings), **trained}
