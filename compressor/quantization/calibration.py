"""Ranges of the activations, found by running a float graph on training rows.

onnxruntime.quantization has calibrators too, but its histogram calibrators (percentile, entropy) keep the outputs of
every row until the last one has run (`HistogramCalibrater.intermediate_outputs`, ONNX Runtime 1.31), so that their
memory grows with the rows. Here rows are read twice, first for the bounds and then for histograms between them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from compressor.progress import Step
from compressor.quantization.base import Ranges
from compressor.quantization.spec import CalibrationSpec, QuantizationSpec
from compressor.runtimes import Inputs
from compressor.tasks import MASKED_LM
from compressor.training.context import Context

if TYPE_CHECKING:
    import onnxruntime

    from compressor.training.batches import MaskedBatches, RowBatches

Floats = NDArray[np.float64]

_BINS = 2048
_LEVELS = 128  # of the magnitudes, in the search for the least divergence
_STRIDE = 16


def rows(checkpoint: Path, spec: QuantizationSpec, context: Context, samples: int | None = None) -> list[Inputs]:
    """The training rows that calibration reads, evenly spread and one by one: as apps run them, without padding.

    Args:
        checkpoint: Whose tokenizer is used.
        spec: The stage's keys.
        context: The rows, or the corpus.
        samples: How many, by default as many as `spec.calibration` says.
    """
    from compressor.models.checkpoint import Checkpoint, input_names
    from compressor.training import masked_corpus
    from compressor.training.batches import MaskedBatches
    from compressor.training.train_stage import row_batches

    batches: RowBatches | MaskedBatches
    if context.task == MASKED_LM:
        data = masked_corpus.sequences(checkpoint, spec, context)
        batches = MaskedBatches(data, [masked_corpus.masking(checkpoint, data, spec, context, 0)])
    else:
        batches = row_batches(checkpoint, spec, context)
    count = min(samples or spec.calibration.samples, len(batches))
    names = input_names(Checkpoint(checkpoint).family)
    chosen = [index * len(batches) // count for index in range(count)]
    found: list[Inputs] = []
    for batch in map(batches.batch, ([row] for row in chosen)):
        none = batch["input_ids"].new_zeros(batch["input_ids"].shape)  # single texts come without token types
        found.append({name: batch.get(name, none).numpy() for name in names})
    return found


def ranges(graph: Path, sample: list[Inputs], spec: CalibrationSpec, step: Step | None = None) -> Ranges:
    """For each weight matrix, by name, the range of its input activations.

    Args:
        graph: A float .onnx file.
        sample: Rows to run it on.
        spec: How ranges are chosen.
        step: Progress, in rows.
    """
    from compressor.quantization import weight_matrices

    model, every = weight_matrices.read(graph)
    found = [matrix for matrix in every if not matrix.table]
    tensors = list(dict.fromkeys(name for matrix in found for name in matrix.activations))
    session = session_with(model, tensors)
    passes = 1 if spec.method == "min_max" else 2

    def read(done: int) -> Iterator[dict[str, NDArray[np.float32]]]:
        for index, inputs in enumerate(sample):
            yield dict(zip(tensors, session.run(tensors, inputs), strict=True))
            if step:
                step.update(done + index + 1, passes * len(sample))

    bounds = _least_and_greatest(read(0))
    if spec.method != "min_max":
        choose = _central(spec.percentile) if spec.method == "percentile" else _least_divergence
        histograms = _histograms(read(len(sample)), bounds)
        bounds = {name: choose(counts, *bounds[name]) for name, counts in histograms.items()}
    return {
        matrix.name: (
            min(bounds[name][0] for name in matrix.activations),
            max(bounds[name][1] for name in matrix.activations),
        )
        for matrix in found
    }


def session_with(model: Any, tensors: list[str]) -> onnxruntime.InferenceSession:
    """A session that gives inner tensors too."""
    import onnx
    import onnxruntime

    from compressor.device.worker import onnx_options

    there = {value.name for value in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in tensors if name not in there)
    options = onnx_options(1)
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL  # they would be fused away
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _least_and_greatest(read: Iterator[dict[str, NDArray[np.float32]]]) -> dict[str, tuple[float, float]]:
    bounds: dict[str, tuple[float, float]] = {}
    for values in read:
        for name, tensor in values.items():
            low, high = bounds.get(name, (0.0, 0.0))
            bounds[name] = min(low, float(tensor.min())), max(high, float(tensor.max()))
    return bounds


def _histograms(
    read: Iterator[dict[str, NDArray[np.float32]]], bounds: dict[str, tuple[float, float]]
) -> dict[str, Floats]:
    """How often values fall into each of equal bins between the bounds. `(bins,)` each."""
    counts = {name: np.zeros(_BINS) for name in bounds}
    for values in read:
        for name, tensor in values.items():
            counts[name] += np.histogram(tensor, bins=_BINS, range=bounds[name])[0]
    return counts


def _central(percentile: float) -> Callable[[Floats, float, float], tuple[float, float]]:
    """The range that holds so many percent of the values, as many cut off below as above."""

    def choose(counts: Floats, low: float, high: float) -> tuple[float, float]:
        edges = np.linspace(low, high, len(counts) + 1)
        share = np.concatenate([[0.0], np.cumsum(counts)]) / counts.sum()
        cut = (1 - percentile / 100) / 2
        first = int(np.searchsorted(share, cut, side="right")) - 1
        last = int(np.searchsorted(share, 1 - cut, side="left"))
        return min(float(edges[first]), 0.0), max(float(edges[last]), 0.0)

    return choose


def _least_divergence(counts: Floats, low: float, high: float) -> tuple[float, float]:
    """The range, equal on both sides of 0 as far as there are values, whose few levels tell most of the histogram.

    Source: Migacz 2017, "8-bit inference with TensorRT", slides 31 to 37: of the magnitudes' histogram, the threshold
    with the least Kullback-Leibler divergence between what is clipped there and its form in 128 levels.
    """
    edges = np.linspace(low, high, len(counts) + 1)
    middles = np.abs((edges[1:] + edges[:-1]) / 2)
    most = max(-low, high)
    if most == 0:
        return 0.0, 0.0
    sizes, _ = np.histogram(middles, bins=_BINS, range=(0.0, most), weights=counts)
    ends = range(_LEVELS, _BINS + 1, _STRIDE)
    best = min(ends, key=lambda end: _divergence(sizes, end))
    threshold = best * most / _BINS
    return max(low, -threshold), min(high, threshold)


def _divergence(sizes: Floats, end: int) -> float:
    """Between the first bins, with all that lies beyond in the last of them, and their form in few levels."""
    from scipy.stats import entropy

    clipped = sizes[:end].copy()
    filled = clipped > 0
    clipped[-1] += sizes[end:].sum()
    level = np.arange(end) * _LEVELS // end
    sums = np.bincount(level, weights=sizes[:end], minlength=_LEVELS)
    members = np.bincount(level, weights=filled, minlength=_LEVELS)
    # Each level's mass, spread evenly over those of its bins that hold something.
    coarse = np.where(filled, (sums / np.maximum(members, 1))[level], 0.0)
    if clipped[-1] > 0 and coarse[-1] == 0:
        return float("inf")  # all of the last bin is clipped: nothing would tell it
    return float(entropy(clipped, coarse)) if coarse.sum() else float("inf")
