"""Vectors with fewer numbers: their principal directions on training texts, or their first numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from compressor.models import loading
from compressor.models.checkpoint import Checkpoint, input_names
from compressor.models.surgery.reduce_vectors import first_directions, principal_directions, reduce_vectors
from compressor.training import devices
from compressor.training.context import Context, Facts
from compressor.training.pruning_spec import VectorsSpec
from compressor.training.spec import TrainingSpec
from compressor.training.train_stage import row_batches, save

_TEXTS_AT_ONCE = 32


def reduced(source: Path, output: Path, spec: TrainingSpec, limits: VectorsSpec, context: Context) -> Facts:
    """Writes a sentence encoder whose vectors have fewer numbers.

    Args:
        source: The checkpoint.
        output: Where the new one goes.
        spec: The stage's keys.
        limits: How many numbers, and which.
        context: Rows, progress.

    Returns:
        `vectors`: numbers `before` and `after`, `reduction`, and how many `texts` were read; `notes`: with `pca`, the
        share of the squared length of vectors that is kept of these texts.
    """
    model = loading.load_model(source, context.model_head)
    before = model.embedding.dense or int(model.config.hidden_size)
    facts: Facts = {"before": before, "after": limits.dimensions, "reduction": limits.reduction}
    notes = []
    if limits.reduction == "first":
        directions = first_directions(before, limits.dimensions)
    else:
        vectors = _vectors(source, spec, limits, context)
        found, shares = principal_directions(vectors)
        directions, kept = found[: limits.dimensions], float(shares[: limits.dimensions].sum())
        facts |= {"texts": len(vectors), "kept": round(kept, 4)}
        notes.append(
            f"Vectors have {limits.dimensions} numbers instead of {before}: along the directions that hold "
            f"{kept:.1%} of their squared length on {len(vectors):,} training texts."
        )
    saved = save(reduce_vectors(model, directions), source, output, spec, context.task)
    return {**saved, "vectors": facts, **({"notes": notes} if notes else {})}


def _vectors(source: Path, spec: TrainingSpec, limits: VectorsSpec, context: Context) -> torch.Tensor:
    """Vectors of length 1 of training texts that are evenly spread. `(texts, dimensions)`."""
    rows = row_batches(source, spec, context)
    count = min(limits.texts, len(rows))
    chosen = np.array([index * len(rows) // count for index in range(count)])
    chosen = chosen[np.argsort(rows.lengths[chosen], kind="stable")]
    names = input_names(Checkpoint(source).family)
    model = loading.load_model(source, context.model_head).eval()
    found = []
    with (
        torch.no_grad(),
        context.progress.step(f"{context.stage}: vectors of {count} texts", count) as step,
        devices.moved(model) as device,
    ):
        for start in range(0, count, _TEXTS_AT_ONCE):
            batch = rows.batch(chosen[start : start + _TEXTS_AT_ONCE].tolist())
            inputs = {name: batch[name].to(device) for name in names if name in batch}
            found.append(model(**inputs).sentence_embedding.float().cpu())
            step.update(min(count, start + _TEXTS_AT_ONCE))
    return torch.nn.functional.normalize(torch.cat(found), dim=-1)
