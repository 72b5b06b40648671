"""Writes the formats that ship, beside the checkpoint."""

from __future__ import annotations

import shutil
from pathlib import Path

from compressor.context import Context, Facts
from compressor.recipe_deployment import ExportSpec
from compressor.runtimes import RUNTIMES, TARGETS


def run(source: Path, output: Path, spec: ExportSpec, context: Context) -> Facts:
    """Exports a checkpoint; a quantized graph that is there already goes along.

    Args:
        source: Checkpoint folder.
        output: Empty folder; gets the checkpoint, its tokenizer and a file for each target.
        spec: The stage's keys.
        context: Progress.
    """
    shutil.copytree(source, output, dirs_exist_ok=True)
    sizes = {}
    for target in spec.targets:
        runtime = RUNTIMES[TARGETS[target]]
        with context.progress.step(f"export: {target}"):
            runtime.export(source, output / runtime.file)
        sizes[f"{target}_bytes"] = (output / runtime.file).stat().st_size
    return sizes
