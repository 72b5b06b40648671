"""The weights and operators of an ONNX graph."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressor.runtimes.inspection import Inspection, Weight, part_of

if TYPE_CHECKING:
    import onnx


def inspect_graph(
    path: Path, graph: onnx.GraphProto, coverage: float | None = None, saturation: Mapping[str, Any] | None = None
) -> Inspection:
    """The contents of a graph; packed integers count as the weights that they stand for.

    Args:
        path: The file that the graph was read from.
        graph: The graph.
        coverage: Share of its weight matrices that run as integers; None if unknown.
        saturation: Its products that are clipped on some processors; None if unknown.
    """
    import onnx

    from compressor.runtimes.onnx.coverage import forms_of_constants
    from compressor.runtimes.onnx.packed import packed

    forms = forms_of_constants(graph)
    small = packed(graph, forms)
    sizes = {tensor.name: len(tensor.raw_data) or tensor.ByteSize() for tensor in graph.initializer}
    scales = {name for weight in small.values() for name in weight.scales}
    readers: dict[str, list[str]] = {}
    for node in graph.node:
        changes_form = any(name in forms for name in node.output)
        for name in node.input[changes_form:]:
            readers.setdefault(forms.get(name, name), []).append(node.name)
    weights = []
    for tensor in graph.initializer:
        shape, read_by = tuple(tensor.dims), readers.get(tensor.name, [])
        constant = math.prod(shape) == 1 or tensor.data_type == onnx.TensorProto.INT64
        if constant or tensor.name in scales:
            continue  # of the graph, no parameter, or counted with its weight
        kind = onnx.TensorProto.DataType.Name(tensor.data_type).lower()
        kind = {"float": "float32", "double": "float64"}.get(kind, kind)
        size = sizes[tensor.name]
        if (weight := small.get(tensor.name)) is not None:
            kind, shape = f"int{weight.bits}", weight.shape
            size += sum(sizes.pop(name, 0) for name in weight.scales)
        part = part_of(" ".join([tensor.name, *read_by[:1]]))
        weights.append(Weight(tensor.name, part, kind, shape, size, len(read_by)))
    operators = Counter(node.op_type for node in graph.node)
    kinds = dict(operators.most_common())
    return Inspection(str(path), path.stat().st_size, tuple(weights), kinds, coverage, saturation)
