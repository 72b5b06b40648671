"""The export stage as a run calls it, on a checkpoint that is there."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from conftest import exact_settings
from rich.console import Console

from compressor.models import quantized
from compressor.models.checkpoint import Checkpoint
from compressor.models.quantized import ONNX_FILES, QuantizedFile
from compressor.progress import Progress
from compressor.quantization import dynamic_int8
from compressor.runtimes import onnxruntime as onnx_runtime
from compressor.stages import export
from compressor.stages.export import ExportSpec
from compressor.tasks import TASKS, has_head
from compressor.training.context import Context

QUANTIZED_ONNX = ONNX_FILES["int8"]
KEY = "0123456789abcdef01234567"


def quantize(checkpoint: Path, work: Path) -> Path:
    """Leaves a quantized graph in a checkpoint, as the quantize stage does."""
    onnx_runtime.export(checkpoint, work / "float.onnx")
    dynamic_int8.write(work / "float.onnx", checkpoint / QUANTIZED_ONNX, exact_settings())
    record(checkpoint)
    return checkpoint


def record(checkpoint: Path) -> None:
    """Says that a checkpoint's folder has a graph in int8, as the quantize stage does."""
    entry = QuantizedFile("dynamic_int8", "int8", QUANTIZED_ONNX.as_posix(), True, 8, True, None, ())
    quantized.write(checkpoint, (entry,))


def run_export(
    checkpoint: Path, output: Path, pairs: bool = False, precisions: Any = (), **keys: Any
) -> dict[str, Any]:
    with Progress(Console(file=io.StringIO())) as progress:
        context = Context(
            recipe="tiny",
            stage="export",
            key=KEY,
            task=next(name for name in TASKS if has_head(Checkpoint(checkpoint), name)),
            pairs=pairs,
            teacher=checkpoint,
            student=None,
            teacher_layers=(),
            labels=tuple(Checkpoint(checkpoint).labels),
            seed=0,
            tokenized=pytest.fail,
            packed=pytest.fail,
            texts=None,
            trial=None,
            memo=pytest.fail,
            work=output,
            progress=progress,
            precisions=precisions,
        )
        spec = ExportSpec.model_validate_json(json.dumps({"stage": "export", **keys}))
        return export.run(checkpoint, output, spec, context)
