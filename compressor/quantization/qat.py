"""Quantization-aware training: a model learns to answer as its teacher while it rounds as its int8 form will."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from compressor.quantization.base import Ranges, Settings
from compressor.quantization.spec import QuantizationSpec
from compressor.training.context import Context, Facts

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from compressor.training.batches import MaskedBatches, RowBatches


def train(
    source: Path, output: Path, spec: QuantizationSpec, settings: Settings, context: Context
) -> tuple[Ranges, Facts]:
    """Trains a checkpoint with its weights and activations rounded; what it leaves is a plain checkpoint again.

    Args:
        source: Checkpoint folder.
        output: Empty folder for the trained checkpoint.
        spec: The stage's keys.
        settings: How it is going to be quantized.
        context: Teacher, rows or corpus, seed, progress.

    Returns:
        Of what each matrix is multiplied with, the range that the model has got used to; and what is told.
    """
    from compressor.quantization import fake_quantization
    from compressor.training.distillation import distil

    plain = fake_quantization.RemoveAfterTraining()

    def make(incoming: PreTrainedModel, _: RowBatches | MaskedBatches) -> tuple[PreTrainedModel, Facts]:
        ranges, told = _calibrated(incoming, source, spec, context)
        fake_quantization.insert_fake_quantization(incoming, settings, ranges)
        return incoming, told

    facts = distil(source, output, spec, context, make, callbacks=[plain])
    return plain.ranges, facts


def _calibrated(model: PreTrainedModel, source: Path, spec: QuantizationSpec, context: Context) -> tuple[Ranges, Facts]:
    """The ranges that the model's graph would have without training; found once, and again after a kill."""
    from compressor.quantization import calibration
    from compressor.runtimes import onnxruntime
    from compressor.training.train_stage import kept, save
    from compressor.training.trainer import rank

    def build(folder: Path) -> Facts:
        if rank() > 0:  # of processes that train together, the first alone saves models
            return {}
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            graph = Path(temporary) / "model.onnx"
            with context.progress.step(f"{context.stage}: exporting"):
                save(model, source, graph.parent, spec, context.task)
                onnxruntime.export(graph.parent, graph)
            with context.progress.step(f"{context.stage}: calibrating") as step:
                sample = calibration.rows(source, spec, context)
                ranges = calibration.ranges(graph, sample, spec.calibration, step)
        return {"ranges": ranges, "calibration": {**spec.calibration.model_dump(), "samples": len(sample)}}

    facts = kept(context.work / "calibration", build)
    return _of_all(model, facts.pop("ranges")), facts


def _of_all(model: PreTrainedModel, ranges: Mapping[str, Sequence[float]]) -> Ranges:
    """The ranges with those of matrices that are equal to others: a graph stores them once, by the first one's name."""
    import torch

    linears = {name: module for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    same = {
        name: name if name in ranges else next(other for other in ranges if torch.equal(linears[other].weight, weight))
        for name, weight in ((name, linear.weight) for name, linear in linears.items())
    }
    return {name: (ranges[other][0], ranges[other][1]) for name, other in same.items()}
