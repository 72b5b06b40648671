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

    from compressor.quantization.weight_matrices import Bias


def train(
    source: Path, output: Path, spec: QuantizationSpec, settings: Settings, context: Context
) -> tuple[Ranges, Facts]:
    """Trains a checkpoint with its weights and activations rounded; the result is a plain checkpoint.

    Args:
        source: Checkpoint folder.
        output: Empty folder for the trained checkpoint.
        spec: The stage's keys.
        settings: How it is going to be quantized.
        context: Teacher, rows or corpus, seed, progress.

    Returns:
        For each matrix, the range of its inputs that the model was trained with; and facts.
    """
    from compressor.quantization import fake_quantization
    from compressor.training import distillation

    data = distillation.prepare(source, spec, context)
    model = data.load_model()
    ranges, biases, facts = _calibrated(model, source, spec, context)
    fake_quantization.insert_fake_quantization(model, settings, ranges, biases)
    plain = fake_quantization.RemoveAfterTraining()
    trained = distillation.recover(model, data, output, callbacks=[plain])
    return plain.ranges, {**facts, **trained}


def _calibrated(
    model: PreTrainedModel, source: Path, spec: QuantizationSpec, context: Context
) -> tuple[Ranges, dict[str, Bias], Facts]:
    """The ranges that the model's graph would have without training, and where it has biases.

    Found once, and again after a kill.
    """
    from compressor.quantization import calibration, weight_matrices
    from compressor.runtimes import onnxruntime
    from compressor.training.processes import rank
    from compressor.training.train_stage import build_once, save

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
            biases = weight_matrices.biases(weight_matrices.read(graph)[0])
        return {
            "ranges": ranges,
            "biases": biases,
            "calibration": {**spec.calibration.model_dump(), "samples": len(sample)},
        }

    facts = build_once(context.work / "calibration", build)
    return _of_all(model, facts.pop("ranges")), facts.pop("biases"), facts


def _of_all(model: PreTrainedModel, ranges: Mapping[str, Sequence[float]]) -> Ranges:
    """The ranges with those of matrices that are equal to others: a graph stores them once, by the first one's name."""
    import torch

    linears = {name: module for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    same = {
        name: name if name in ranges else next(other for other in ranges if torch.equal(linears[other].weight, weight))
        for name, weight in ((name, linear.weight) for name, linear in linears.items())
    }
    return {name: (ranges[other][0], ranges[other][1]) for name, other in same.items()}
