"""Builds a shallower student and trains it to match the teacher."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from compressor import checkpoint
from compressor.context import Context, Facts
from compressor.recipe import DistillSpec


def run(source: Path, output: Path, spec: DistillSpec, context: Context) -> Facts:
    """Distils on the task: the student starts from layers of the incoming checkpoint.

    Args:
        source: Checkpoint folder that gives the layers.
        output: Empty folder for the student.
        spec: The stage's keys.
        context: Teacher, rows, seed, progress.
    """
    import torch
    from transformers import set_seed

    from compressor.surgery import student
    from compressor.training import losses
    from compressor.training.stage import max_sequence_length, train_stage

    set_seed(context.seed)
    incoming = checkpoint.load_model(source)
    layers = student.chosen_layers(incoming.config.num_hidden_layers, spec.num_hidden_layers, spec.layers)
    model = student.shallower(incoming, layers, spec.architecture)
    del incoming
    targets = {}
    if spec.alpha_soft:
        targets["teacher"] = _teacher_logits(context, max_sequence_length(source, spec), spec.name or spec.kind)

    def loss(logits: torch.Tensor, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        total = spec.alpha_hard * losses.hard_label_loss(logits, batch["labels"])
        if spec.alpha_soft:
            soft = losses.soft_target_loss(logits, batch["teacher"], spec.temperature)
            total = total + spec.alpha_soft * soft
        return total

    facts = train_stage(model, source, output, spec, context, loss, targets)
    return {"layers": layers, **facts}


def _teacher_logits(context: Context, length: int, name: str) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """The teacher's logits on the training rows, in their order, memory-mapped."""
    teacher = checkpoint.Checkpoint(context.teacher)
    length = min(length, teacher.max_position_embeddings)

    def build(folder: Path) -> None:
        from compressor.training.teacher import write_logits

        tokenizer = checkpoint.load_tokenizer(context.teacher)
        rows = context.tokenized(tokenizer, context.teacher, length)
        model = checkpoint.load_model(context.teacher)
        with context.progress.step(f"{name}: the teacher reads {len(rows)} rows") as step:
            write_logits(model, tokenizer, rows, folder / "logits.npy", step)

    folder = context.memo("compressor.training.teacher", {"teacher": teacher.digest(), "length": length}, build)
    logits: np.ndarray[tuple[int, ...], np.dtype[np.float32]] = np.load(folder / "logits.npy", mmap_mode="r")
    return logits
