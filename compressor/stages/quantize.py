"""Turns the checkpoint's weights into integers, as an ONNX graph beside the float checkpoint."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from compressor import checkpoint
from compressor.context import Context, Facts
from compressor.errors import StageError
from compressor.quantization import Ranges, Settings
from compressor.recipe_deployment import QuantizeSpec

if TYPE_CHECKING:
    from compressor.quantization.neural import Algorithm
    from compressor.quantization.neural_static import Inputs


def run(source: Path, output: Path, spec: QuantizeSpec, context: Context) -> Facts:
    """Quantizes the checkpoint's ONNX graph; the float checkpoint goes along.

    Args:
        source: Checkpoint folder.
        output: Empty folder; gets the checkpoint, trained on if the scheme is, and `onnx/model_quantized.onnx`.
        spec: The stage's keys.
        context: Rows, what tries files out, progress.

    Raises:
        StageError: `keep_float` names what is not there, `accuracy` cannot be held, or a library is not installed.
    """
    from compressor.quantization import calibration, matrices, neural, selection
    from compressor.quantization.sensitivity import Subject
    from compressor.runtimes import onnx

    facts: Facts = {}
    ranges: Ranges | None = None
    kept: tuple[str, ...] = ()
    settings = Settings(
        bits=4 if spec.scheme == "weight_only_int4" else 8,
        per_channel=spec.per_channel,
        embeddings=spec.embeddings,
        reduce_range=spec.reduce_range,
        block_size=spec.block_size,
        keep_float=spec.keep_float,
    )
    if spec.trains:
        from compressor.quantization import aware
        from compressor.training.trainer import rank

        ranges, facts = aware.train(source, output, spec, settings, context)
        if rank() > 0:  # of processes that train together, the first alone has written the checkpoint
            return facts
    else:
        shutil.copytree(source, output, dirs_exist_ok=True)
    target = output / checkpoint.QUANTIZED_ONNX
    with tempfile.TemporaryDirectory(dir=context.work) as folder:
        exported = Path(folder) / "model.onnx"
        with context.progress.step("quantize: exporting"):
            onnx.export(output, exported)
        found = matrices.read(exported)[1] if spec.keep_float or spec.accuracy else []
        matrices.check_patterns(spec.keep_float, found)
        sample: Sequence[Inputs] = []
        if spec.scheme in ("static_int8", "qat_int8") and ranges is None:
            with context.progress.step("quantize: calibrating") as step:
                sample = calibration.rows(output, spec, context)
                if spec.backend == "onnxruntime":
                    ranges = calibration.ranges(exported, sample, spec.calibration, step)
            facts["calibration"] = {**spec.calibration.model_dump(), "samples": len(sample)}
        subject = Subject(exported, output, spec, settings, ranges)
        if spec.accuracy is not None and spec.backend == "onnxruntime":
            kept, told = selection.select(subject, found, spec.accuracy.max_drop, context)
            facts.update(told)
        with context.progress.step(f"quantize: {spec.scheme}"):
            if spec.backend == "neural_compressor":
                facts |= neural.write(_neural_compressors(output, exported, spec, settings, sample), target)
            else:
                subject.write(target, kept)
        before = exported.stat().st_size
    return {"float_bytes": before, "quantized_bytes": target.stat().st_size, **facts}


def _neural_compressors(
    folder: Path, exported: Path, spec: QuantizeSpec, settings: Settings, sample: Sequence[Inputs]
) -> Algorithm:
    """The algorithm of neural-compressor's that the recipe asks for."""
    from compressor.quantization import neural
    from compressor.quantization.neural_static import Static
    from compressor.quantization.neural_weights import WeightOnly

    neural.check_installed()
    if spec.accuracy is not None:
        what = "accuracy is not there yet for backend: neural_compressor"
        raise StageError(f"{what}; drop it and gate the metric instead, or use backend: onnxruntime")
    if spec.scheme == "static_int8":
        return Static(folder, exported, settings, spec.calibration.method, sample)
    return WeightOnly(exported, settings)
