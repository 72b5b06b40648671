"""The teacher's answers on the task's rows, kept in the store."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from compressor.data.columns import numbers
from compressor.errors import StageError
from compressor.models import loading
from compressor.models.checkpoint import Checkpoint
from compressor.tasks import learned_from_rows
from compressor.training import devices
from compressor.training.batches import Answers, RowBatches
from compressor.training.context import Context
from compressor.training.spec import DistillationSpec, evenly_spaced
from compressor.training.teacher_outputs import write_answers
from compressor.training.train_stage import max_sequence_length

if TYPE_CHECKING:
    from transformers import PreTrainedModel


_BYTES = 2  # of a hidden state's channel
_MOST_BYTES = 2e9
"""Disk that hidden states may take which only other stages learn from."""


def layer_map(given: Sequence[int] | None, student: int, teacher: int) -> list[int]:
    """For each layer of the student, the teacher's layer that it learns from.

    Args:
        given: The recipe's; None for evenly spaced ones up to the last.
        student: Layers of the student.
        teacher: Layers of the teacher.

    Raises:
        StageError: The recipe's does not fit.
    """
    if given is None:
        return evenly_spaced(student, teacher)
    if len(given) != student or any(layer >= teacher for layer in given):
        raise StageError(
            f"layer_map is {list(given)}; it needs one entry for each of the student's {student} layers, "
            f"from 0 to {teacher - 1}, the teacher's last"
        )
    return list(given)


def check_heads(student: PreTrainedModel, teacher: Checkpoint) -> None:
    """Attention is compared head by head.

    Raises:
        StageError: There are not as many in every layer.
    """
    config = student.config
    ours, theirs = set(getattr(config, "heads", None) or [int(config.num_attention_heads)]), set(teacher.heads)
    if ours != theirs or len(ours) > 1:
        shown = [" or ".join(map(str, sorted(heads))) for heads in (ours, theirs)]
        raise StageError(
            f"alpha_attention compares head by head, but the student has {shown[0]} heads in a layer and the teacher "
            f"{shown[1]}; set alpha_attention: 0 and transfer hidden states with alpha_cosine"
        )


def _length(start: Path, spec: DistillationSpec, context: Context) -> int:
    """Tokens that the teacher reads of a row: as many as the student, as far as its position table goes."""
    return min(max_sequence_length(start, spec, context.task), Checkpoint(context.teacher).max_position_embeddings)


def comparable(batches: RowBatches, start: Path, spec: DistillationSpec, context: Context) -> bool:
    """Whether teacher and student split every training row into the same tokens, whatever ids they give them.

    Args:
        batches: The rows as the student reads them.
        start: Checkpoint whose tokenizer the student has.
        spec: The stage's keys.
        context: Teacher, rows.
    """
    tokenizer = loading.load_tokenizer(context.teacher)
    rows = context.tokenized(tokenizer, context.teacher, _length(start, spec, context))
    theirs = RowBatches(rows, tokenizer, ())
    if not np.array_equal(theirs.lengths, batches.lengths):
        return False
    known, ours = tokenizer.get_vocab(), loading.load_tokenizer(start).get_vocab()
    if known == ours:
        return True
    ids = np.full(max(ours.values()) + 1, -1)
    for token, index in ours.items():
        ids[index] = known.get(token, -1)
    pairs = zip(batches.token_ids(), theirs.token_ids(), strict=True)
    return all(np.array_equal(ids[np.concatenate(mine)], np.concatenate(others)) for mine, others in pairs)


def answers(
    batches: RowBatches,
    start: Path,
    spec: DistillationSpec,
    context: Context,
    *,
    hidden: Sequence[int],
    attention: Sequence[int],
) -> Answers:
    """The teacher's answers on the training rows.

    The teacher reads the rows once for all stages that learn hidden states from it, if that takes at most 2 GB of disk.

    Args:
        batches: The rows as the student reads them.
        start: Checkpoint whose tokenizer the student has.
        spec: The stage's keys.
        context: Teacher, rows, progress.
        hidden: The teacher's layers whose outputs are wanted.
        attention: The teacher's layers whose attention is wanted.

    Raises:
        StageError: Hidden states, attention or logits of tokens are wanted, but teacher and student split texts into
            other tokens.
    """
    teacher = Checkpoint(context.teacher)
    length, tokenizer = _length(start, spec, context), loading.load_tokenizer(context.teacher)
    rows = context.tokenized(tokenizer, context.teacher, length)
    by_token = learned_from_rows(context.task).PER_TOKEN
    if (hidden or attention or by_token) and not comparable(batches, start, spec, context):
        which = "alpha_soft, alpha_cosine and alpha_attention" if by_token else "alpha_cosine and alpha_attention"
        raise StageError(
            "teacher and student split texts into different tokens, so what they say of each token cannot be compared; "
            f"set {which} to 0, or start from a student with the teacher's tokenizer"
        )
    layers = {"hidden": sorted(set(hidden)), "attention": sorted(set(attention))}
    if not attention:  # attention is read with other kernels, whose logits differ in the last bits
        together = sorted({*hidden, *context.teacher_layers})
        if len(together) * int(numbers(rows, "length", np.int64).sum()) * teacher.hidden_size * _BYTES <= _MOST_BYTES:
            layers["hidden"] = together

    def build(folder: Path) -> dict[str, int]:
        how: dict[str, Any] = {"attn_implementation": "eager"} if attention else {}
        model = loading.load_model(context.teacher, context.model_head, **how)
        with context.progress.step(f"{context.stage}: the teacher reads {len(rows)} rows") as step:
            write_answers(model, learned_from_rows(context.task), tokenizer, rows, folder, **layers, step=step)
        return {"rows": len(rows)}

    inputs = {"teacher": teacher.digest(), "length": length, "device": devices.kind(), **layers}
    return Answers(context.memo(("compressor.training.teacher_outputs",), inputs, build), hidden)
