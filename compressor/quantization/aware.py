"""Quantization-aware training: a model learns to answer as its teacher while it rounds as its int8 form will."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressor.context import Context, Facts
from compressor.quantization import Ranges, Settings
from compressor.recipe_deployment import CalibrationSpec, QuantizeSpec

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from compressor.progress import Step
    from compressor.quantization.calibration import Inputs
    from compressor.training.batches import MaskedBatches, RowBatches


def train(source: Path, output: Path, spec: QuantizeSpec, settings: Settings, context: Context) -> tuple[Ranges, Facts]:
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
    from compressor.quantization import calibration, fake
    from compressor.training.distillation import distil

    plain = fake.TakeOff()

    def make(incoming: PreTrainedModel, _: RowBatches | MaskedBatches) -> tuple[PreTrainedModel, Facts]:
        sample = calibration.rows(source, spec, context)
        with context.progress.step(f"{spec.name or spec.kind}: calibrating") as step:
            fake.put_on(incoming, settings, ranges(incoming, sample, spec.calibration, step))
        return incoming, {"calibration": {**spec.calibration.model_dump(), "samples": len(sample)}}

    facts = distil(source, output, spec, context, make, callbacks=[plain])
    return plain.ranges, facts


def ranges(model: PreTrainedModel, sample: list[Inputs], spec: CalibrationSpec, step: Step | None = None) -> Ranges:
    """For each weight matrix, by name, the range of what it is multiplied with; see `calibration.ranges`.

    Args:
        model: Left in eval mode.
        sample: Rows to run it on.
        spec: How ranges are chosen.
        step: Progress, in rows.
    """
    import torch

    from compressor.quantization import calibration

    model.eval()
    with _recorded(model) as recorded, torch.no_grad():

        def values(inputs: Inputs) -> dict[str, Any]:
            for calls in recorded.values():
                calls.clear()
            model(**{name: torch.from_numpy(array) for name, array in inputs.items()})
            return {f"{call} {name}": value for name, calls in recorded.items() for call, value in enumerate(calls)}

        bounds = calibration.bounds_of(values, sample, spec, step)
    found: dict[str, tuple[float, float]] = {}
    for key, (low, high) in bounds.items():
        name = key.partition(" ")[2]
        least, greatest = found.get(name, (low, high))
        found[name] = min(least, low), max(greatest, high)
    return found


@contextmanager
def _recorded(model: PreTrainedModel) -> Iterator[dict[str, list[Any]]]:
    """Within it, what each matrix is multiplied with is noted under its name, call by call."""
    import torch

    recorded: dict[str, list[Any]] = {}
    handles = []
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            calls = recorded.setdefault(name, [])
            handles.append(module.register_forward_pre_hook(lambda _, given, into=calls: into.append(given[0].numpy())))
    try:
        yield recorded
    finally:
        for handle in handles:
            handle.remove()
