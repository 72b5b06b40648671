"""Whether the libraries that stages ask for are installed."""

from __future__ import annotations

from compressor.errors import Add
from compressor.host import installed
from compressor.models.checkpoint import Checkpoint
from compressor.quantization.neural_compressor import INSTALL
from compressor.recipe.document import Recipe
from compressor.runtimes import TARGETS
from compressor.runtimes.baked_tokenizer import graph, wordpiece
from compressor.stages.export import ExportSpec


def check_baked(recipe: Recipe, incoming: Checkpoint | None, add: Add) -> None:
    """Whether a tokenizer that is to be baked into an ONNX file can be."""
    for index, stage in enumerate(recipe.stages):
        if not isinstance(stage, ExportSpec) or stage.tokenizer != "baked":
            continue
        place = ("stages", index, "tokenizer")
        if recipe.task_of(stage) != "text-classification":
            what = f"is baked: a label for each text comes out, and {recipe.task_of(stage)} has none"
            add(place, what, "use tokenizer: files")
        if not graph.installed():
            add(place, "is baked, which needs the package onnxruntime-extensions", graph.INSTALL)
        if incoming is not None and (why := wordpiece.unsupported_file(incoming.path / "tokenizer.json")):
            add(place, f"is baked, and the checkpoint's cannot be: {why}", "use tokenizer: files")


def check_extras(recipe: Recipe, add: Add) -> None:
    """Whether the libraries are there that stages ask for and that a plain installation does not bring."""
    for index, stage in enumerate(recipe.stages):
        if absent := [library for library in stage.libraries if not installed(library)]:
            what = f"neural_compressor needs {', '.join(absent)}, not installed here"
            add(("stages", index, "backend"), what, f"{INSTALL}, or use onnxruntime")


def check_targets(recipe: Recipe, add: Add) -> None:
    """Whether what writes the targets is installed."""
    for index, stage in enumerate(recipe.stages):
        for target in stage.targets if isinstance(stage, ExportSpec) else ():
            if missing := TARGETS[target].missing():
                what = f"has {target}, which needs {', '.join(missing)}, not installed here"
                add(("stages", index, "targets"), what, TARGETS[target].install)
