"""Writes the formats that ship, beside the checkpoint."""

from __future__ import annotations

import shutil
from pathlib import Path

from compressor.checkpoint import Checkpoint
from compressor.context import Context, Facts
from compressor.recipe_deployment import ExportSpec
from compressor.runtimes import RUNTIMES, TARGETS, baked, onnx_metadata

_ONNX = RUNTIMES[TARGETS["onnx"]].file


def run(source: Path, output: Path, spec: ExportSpec, context: Context) -> Facts:
    """Exports a checkpoint; a quantized graph that is there already goes along.

    Args:
        source: Checkpoint folder.
        output: Empty folder; gets the checkpoint, its tokenizer and a file for each target.
        spec: The stage's keys.
        context: What the files say of themselves; progress.
    """
    shutil.copytree(source, output, dirs_exist_ok=True)
    facts = {}
    graph = _graph(output, spec, context)
    for target in spec.targets:
        runtime = RUNTIMES[TARGETS[target]]
        if target != "onnx":
            with context.progress.step(f"export: {target}"):
                runtime.export(output, output / runtime.file)
        facts[f"{target}_bytes"] = (output / runtime.file).stat().st_size
    if spec.tokenizer == "baked":
        with context.progress.step("export: onnx with its tokenizer"):
            baked.write(output, graph, output / baked.FILE, context.pairs)
        facts["baked_bytes"] = (output / baked.FILE).stat().st_size
    if "onnx" not in spec.targets:
        (output / _ONNX).unlink(missing_ok=True)
    return facts


def _graph(output: Path, spec: ExportSpec, context: Context) -> Path:
    """The ONNX file that ships, which others are made of: the quantized one, or the float one, written here."""
    folder = Checkpoint(output)
    labels = list(context.labels) and folder.labels
    quantized = folder.quantized
    made_of_it = spec.tokenizer == "baked" or "ort" in spec.targets
    if "onnx" in spec.targets or (made_of_it and quantized is None):
        with context.progress.step("export: onnx"):
            RUNTIMES["onnxruntime"].export(output, output / _ONNX)
    for path in (output / _ONNX, quantized):
        if path is not None and path.is_file():
            onnx_metadata.describe(path, context.task, labels, context.recipe, context.key)
    return quantized or output / _ONNX
