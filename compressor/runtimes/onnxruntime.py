"""ONNX: export, and ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from compressor.device import worker
from compressor.runtimes.base import Runtime
from compressor.runtimes.inspection import Inspection

if TYPE_CHECKING:
    import onnx

OPSET = 17
"""The first with LayerNormalization as one operator, and old enough for the mobile runtimes in use."""


Session = worker.OnnxRuntime

RUNTIME = Runtime(
    name="onnxruntime",
    module=__name__,
    file=Path("onnx") / "model.onnx",
    usage="onnxruntime, transformers.js (`dtype: fp32`); {inputs}, `(batch, sequence)`",
    target="onnx",
    measured=True,
    inspectable=True,
)


def export(source: Path, path: Path) -> dict[str, int]:
    """Exports a checkpoint as plain ONNX operators in one file; batch and length stay free.

    By tracing, with eager attention: ONNX Runtime then fuses it as well as the dynamo export, which takes several times
    as long, and a graph of standard operators runs elsewhere too.

    Args:
        source: Checkpoint folder.
        path: The .onnx file. Its inputs are `input_ids`, `attention_mask` and, where the model has token types,
            `token_type_ids`; its outputs are `logits` and what else the model gives, see `compressor.models.outputs`.

    Returns:
        What each rewrite of the graph found; see `compressor.runtimes.onnx.passes`.

    Raises:
        StageError: A rewrite found less than a model of this family has.
    """
    import onnx
    import torch

    from compressor.models import outputs
    from compressor.runtimes import tracing
    from compressor.runtimes.onnx import passes

    module = tracing.load(source, "eager")
    names = list(module.input_names)
    path.parent.mkdir(parents=True, exist_ok=True)
    free = {0: "batch_size", 1: "sequence_length"}
    with torch.inference_mode():
        torch.onnx.export(
            module,
            tracing.example_inputs(module),
            str(path),
            input_names=names,
            output_names=list(module.output_names),
            dynamic_axes={**dict.fromkeys(names, free), **outputs.free_axes(module.model)},
            opset_version=OPSET,
            dynamo=False,
        )
    model = onnx.load(str(path))
    strip(model)
    found = passes.apply(model)
    passes.check(found, module.model)
    onnx.save(model, str(path))
    return found


def strip(model: onnx.ModelProto) -> None:
    """Removes what only describes the build: stale shapes, which break quantizers, source positions, stack traces.

    Without the shapes, ONNX Runtime also leaves Add and LayerNormalization apart, which is faster on a CPU: its fused
    SkipLayerNormalization took 140 us where the two take 35 (1.31, 64 tokens of 384, one thread).
    """
    graph = model.graph
    del graph.value_info[:]
    for part in (model, graph, *graph.node, *graph.initializer, *graph.input, *graph.output):
        part.ClearField("doc_string")
        part.ClearField("metadata_props")


def inspect(path: Path) -> Inspection:
    """The weights and operators of an ONNX file, how much of it runs as integers, and which products saturate."""
    import onnx

    from compressor.runtimes.baked_tokenizer import graph as baked
    from compressor.runtimes.onnx.coverage import integer_share, optimized
    from compressor.runtimes.onnx.inspection import inspect_graph
    from compressor.runtimes.onnx.saturation import saturation

    graph = onnx.load(str(path)).graph
    texts = baked.is_baked(graph)
    if texts and not baked.installed():
        return inspect_graph(path, graph)
    executed = optimized(path)
    # A file with a tokenizer takes texts; the graph inside has a file of its own.
    coverage = None if texts else integer_share(executed)
    return inspect_graph(path, graph, coverage, saturation(executed.graph))
