"""Turns the checkpoint's weights into integers, as an ONNX graph beside the float checkpoint."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from compressor import checkpoint
from compressor.context import Context, Facts
from compressor.quantization import Ranges, Settings
from compressor.recipe_deployment import QuantizeSpec


def run(source: Path, output: Path, spec: QuantizeSpec, context: Context) -> Facts:
    """Quantizes the checkpoint's ONNX graph; the float checkpoint goes along.

    Args:
        source: Checkpoint folder.
        output: Empty folder; gets the checkpoint, trained on if the scheme is, and `onnx/model_quantized.onnx`.
        spec: The stage's keys.
        context: Rows, progress.
    """
    from compressor import quantization
    from compressor.quantization import calibration
    from compressor.runtimes import onnx

    facts: Facts = {}
    ranges: Ranges | None = None
    shutil.copytree(source, output, dirs_exist_ok=True)
    settings = Settings(
        bits=4 if spec.scheme == "weight_only_int4" else 8,
        per_channel=spec.per_channel,
        embeddings=spec.embeddings,
        reduce_range=spec.reduce_range,
        block_size=spec.block_size,
        keep_float=spec.keep_float,
    )
    target = output / checkpoint.QUANTIZED_ONNX
    with tempfile.TemporaryDirectory(dir=context.work) as folder:
        exported = Path(folder) / "model.onnx"
        with context.progress.step("quantize: exporting"):
            onnx.export(output, exported)
        if spec.scheme == "static_int8":
            with context.progress.step("quantize: calibrating") as step:
                sample = calibration.rows(output, spec, context)
                ranges = calibration.ranges(exported, sample, spec.calibration, step)
            facts["calibration"] = {**spec.calibration.model_dump(), "samples": len(sample)}
        with context.progress.step(f"quantize: {spec.scheme}"):
            quantization.way(spec.backend, spec.scheme).write(exported, target, settings, ranges)
        before = exported.stat().st_size
    return {"float_bytes": before, "quantized_bytes": target.stat().st_size, **facts}
