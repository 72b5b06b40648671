"""Trains a checkpoint on the task's labels."""

from __future__ import annotations

from pathlib import Path

from compressor import checkpoint
from compressor.context import Context, Facts
from compressor.recipe import FinetuneSpec


def run(source: Path, output: Path, spec: FinetuneSpec, context: Context) -> Facts:
    """Fine-tunes all weights; makes a new head where the checkpoint has none for these labels.

    Args:
        source: Checkpoint folder.
        output: Empty folder for the fine-tuned checkpoint.
        spec: The stage's keys.
        context: Rows, seed, progress.
    """
    from transformers import set_seed

    from compressor.training.losses import hard_label_loss
    from compressor.training.stage import train_stage

    set_seed(context.seed)
    names = dict(enumerate(context.labels))
    model = checkpoint.load_model(
        source, num_labels=len(names), id2label=names, label2id={name: index for index, name in names.items()}
    )
    return train_stage(
        model, source, output, spec, context, loss=lambda logits, batch: hard_label_loss(logits, batch["labels"])
    )
