"""What execution providers for phones would take of an ONNX graph, by ONNX Runtime's own checker."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Taken:
    """What a provider would take; the rest stays on the CPU.

    Attributes:
        nodes: Nodes that it would take.
        every: Nodes of the graph.
        partitions: Pieces of the graph that it would take: between them, tensors go to the CPU and back.
        operators: Kinds of nodes that it has not.
    """

    nodes: int
    every: int
    partitions: int
    operators: tuple[str, ...]


def taken(path: Path) -> dict[str, Taken]:
    """What each of `gates.metrics.PROVIDERS` would take.

    The checker reads kinds of operators and whether sizes are free, no other limits of an operator: it may be less.

    Args:
        path: The .onnx file.
    """
    import onnx
    from onnx import shape_inference
    from onnxruntime.tools.mobile_helpers import usability_checker
    from onnxruntime.tools.onnx_model_utils import optimize_model

    with tempfile.TemporaryDirectory() as folder:
        # As ONNX Runtime does before it asks providers; weights stay outside of what is loaded again.
        optimized = Path(folder) / path.name
        optimize_model(path, optimized, use_external_initializers=True)
        model = shape_inference.infer_shapes(onnx.load(str(optimized), load_external_data=False))
    found: dict[str, Any] = {
        "nnapi": usability_checker.check_nnapi_partitions(model, True),
        "coreml": usability_checker.check_coreml_partitions(model, True, "coreml_supported_mlprogram_ops.md"),
    }
    return {
        name: Taken(info.num_supported_nodes, info.num_nodes, info.num_partitions, tuple(sorted(info.unsupported_ops)))
        for name, info in found.items()
    }
