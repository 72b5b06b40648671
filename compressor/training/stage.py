"""What every training stage does around its loss: rows in, trained checkpoint out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from compressor import checkpoint
from compressor.context import Context, Facts
from compressor.recipe import TrainingSpec
from compressor.training.trainer import Loss, Schedule, train

if TYPE_CHECKING:
    from transformers import PreTrainedModel

DEFAULT_MAX_SEQUENCE_LENGTH = 128


def max_sequence_length(source: Path, spec: TrainingSpec) -> int:
    """Tokens a training row is cut to: the stage's key, or 128 if the checkpoint's tokenizer and table allow it."""
    incoming = checkpoint.Checkpoint(source)
    if spec.max_sequence_length is not None:
        return spec.max_sequence_length
    return min(DEFAULT_MAX_SEQUENCE_LENGTH, incoming.max_sequence_length())


def train_stage(
    model: PreTrainedModel,
    source: Path,
    output: Path,
    spec: TrainingSpec,
    context: Context,
    loss: Loss,
    targets: dict[str, NDArray[np.float32]] | None = None,
) -> Facts:
    """Trains a model on the task's rows and saves it with its tokenizer.

    The tokenizer that is saved cuts texts where training did, so that what ships reads what was trained.

    Args:
        model: The model, changed in place.
        source: Checkpoint whose tokenizer is used.
        output: Where the trained checkpoint goes.
        spec: Schedule.
        context: Rows, seed, progress.
        loss: What is minimised.
        targets: Per-row inputs of the loss, see `compressor.training.trainer.train`.
    """
    tokenizer = checkpoint.load_tokenizer(source)
    length = max_sequence_length(source, spec)
    rows = context.tokenized(tokenizer, source, length)
    schedule = Schedule(
        epochs=spec.epochs,
        max_steps=spec.max_steps,
        batch_size=spec.batch_size,
        gradient_accumulation_steps=spec.gradient_accumulation_steps,
        learning_rate=spec.learning_rate,
        warmup_ratio=spec.warmup_ratio,
        weight_decay=spec.weight_decay,
        precision=spec.precision,
    )
    with context.progress.step(f"{spec.name or spec.kind}: training on {len(rows)} rows") as step:
        facts = train(
            model, tokenizer, rows, loss, schedule, seed=context.seed, work=context.work, step=step, targets=targets
        )
    tokenizer.model_max_length = length
    checkpoint.save(output, model.float().cpu(), tokenizer)
    return {"rows": len(rows), "max_sequence_length": length, **facts}
