"""Turns the checkpoint's weights into integers, as an ONNX graph beside the float checkpoint."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from compressor import checkpoint
from compressor.context import Context, Facts
from compressor.recipe_stages import QuantizeSpec


def run(source: Path, output: Path, spec: QuantizeSpec, context: Context) -> Facts:
    """Quantizes the checkpoint's ONNX graph; the float checkpoint goes along unchanged.

    Args:
        source: Checkpoint folder.
        output: Empty folder; gets the checkpoint and `onnx/model_quantized.onnx`.
        spec: The stage's keys.
        context: Progress.
    """
    from compressor.runtimes import onnx

    shutil.copytree(source, output, dirs_exist_ok=True)
    target = output / checkpoint.QUANTIZED_ONNX
    with tempfile.TemporaryDirectory(dir=context.work) as folder:
        exported = Path(folder) / "model.onnx"
        with context.progress.step("quantize: exporting"):
            onnx.export(source, exported)
        with context.progress.step("quantize: int8"):
            onnx.quantize_dynamic(
                exported,
                target,
                per_channel=spec.per_channel,
                embeddings=spec.embeddings,
                reduce_range=spec.reduce_range,
            )
        before = exported.stat().st_size
    return {"float_bytes": before, "quantized_bytes": target.stat().st_size}
