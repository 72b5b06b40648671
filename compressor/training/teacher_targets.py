"""The teacher's guesses of the hidden tokens of a corpus, kept in the store."""

from __future__ import annotations

from pathlib import Path

from compressor.errors import StageError
from compressor.models import loading
from compressor.models.checkpoint import Checkpoint
from compressor.training import devices, masked_corpus
from compressor.training.batches import MaskedBatches
from compressor.training.context import Context
from compressor.training.sequences import Sequences
from compressor.training.spec import DistillationSpec
from compressor.training.teacher_outputs import write_targets


def check_vocabularies(student: Path, teacher: Path) -> None:
    """Both must know the same tokens by the same ids.

    Raises:
        StageError: They do not.
    """
    ours, theirs = (loading.load_tokenizer(path).get_vocab() for path in (student, teacher))
    if ours != theirs:
        raise StageError(
            f"the student's vocabulary ({len(ours)} tokens) is not the teacher's ({len(theirs)}), so it cannot learn "
            "the teacher's guesses; start from a student with the teacher's tokenizer, or distil on the task instead"
        )


def targets(
    start: Path,
    data: Sequences,
    masking: Path,
    index: int,
    spec: DistillationSpec,
    context: Context,
    *,
    soft: bool,
    hidden: bool,
) -> Path:
    """The folder with the teacher's answers under one masking; see `write_targets`.

    Args:
        start: Checkpoint whose tokenizer the student has.
        data: The sequences.
        masking: Folder of the masking.
        index: Its number.
        spec: The stage's keys.
        context: Teacher, progress.
        soft: Keep the distribution over the vocabulary.
        hidden: Keep the last hidden states.
    """
    teacher = Checkpoint(context.teacher)
    precision = devices.precision(spec.precision, data.length)
    if data.length > teacher.max_position_embeddings:
        raise StageError(
            f"max_sequence_length is {data.length}, but the teacher's position table has "
            f"{teacher.max_position_embeddings} rows; shorten it"
        )

    def build(folder: Path) -> dict[str, int]:
        model = loading.load_model(context.teacher, context.model_head, sentence_order=False)
        with context.progress.step(f"{context.stage}: the teacher reads masking {index}") as step:
            write_targets(
                model,
                MaskedBatches(data.under(index), [masking]),
                folder,
                top_k=spec.top_k if soft else 0,
                temperature=spec.temperature,
                hidden=hidden,
                length=data.length,
                slots=masked_corpus.slots(data.length, spec.hidden_share),
                bf16=precision == "bf16",
                step=step,
            )
        return {"sequences": len(data)}

    inputs = {
        "teacher": teacher.digest(),
        "masking": masked_corpus.masking_inputs(start, data, spec, context, index),
        "top_k": spec.top_k if soft else 0,
        "temperature": spec.temperature if soft else None,
        "hidden": hidden,
        "precision": precision,
        "device": devices.kind(),
    }
    return context.memo(("compressor.training.teacher_outputs",), inputs, build)
