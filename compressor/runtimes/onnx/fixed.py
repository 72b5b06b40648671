"""Graphs of one row of a fixed length, for accelerators that take no free sizes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper, shape_inference

from compressor.runtimes.onnx.rewrite import Array, attribute, constants_of, remove_unused


def length_of(path: Path) -> int | None:
    """The length of the rows that an .onnx file takes; None where it is free."""
    shape = onnx.load(str(path), load_external_data=False).graph.input[0].type.tensor_type.shape.dim
    return shape[1].dim_value if len(shape) == 2 and shape[1].dim_value else None


def write(source: Path, target: Path, length: int) -> None:
    """Writes the graph of one row of a length: the same operators, with all sizes known.

    Args:
        source: An .onnx file of free sizes whose inputs are `(batch, sequence)`.
        target: The file to write.
        length: Number of tokens.
    """
    model = onnx.load(str(source))
    for value in model.graph.input:
        for size, known in zip(value.type.tensor_type.shape.dim, (1, length), strict=True):
            size.Clear()
            size.dim_value = known
    _compute_sizes(model)
    inferred = shape_inference.infer_shapes(model, data_prop=True).graph
    for value, known_value in zip(model.graph.output, inferred.output, strict=True):
        value.CopyFrom(known_value)
    onnx.save(model, str(target))


def _compute_sizes(model: onnx.ModelProto) -> None:
    """Computes what follows from sizes alone, in place."""
    from onnx.reference import ReferenceEvaluator

    graph = model.graph
    shapes = {
        value.name: [size.dim_value for size in value.type.tensor_type.shape.dim]
        for value in shape_inference.infer_shapes(model, data_prop=True).graph.value_info
    }
    shapes |= {value.name: [size.dim_value for size in value.type.tensor_type.shape.dim] for value in graph.input}
    constants, computed = constants_of(graph), dict[str, Array]()
    kept = []
    for node in graph.node:
        value: Array | None = None
        if node.op_type == "Shape" and all(shapes.get(node.input[0], [0])):
            sizes = np.array(shapes[node.input[0]], dtype=np.int64)
            value = sizes[attribute(node, "start", 0) : attribute(node, "end", None)]
        elif any(name in computed for name in node.input) and all(name in constants for name in node.input if name):
            given = {name: constants[name] for name in node.input if name}
            (value,) = ReferenceEvaluator(node).run(None, given)
        if value is None or value.dtype != np.int64:
            kept.append(node)
        else:
            constants[node.output[0]] = computed[node.output[0]] = value
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in computed.items())
    del graph.node[:]
    graph.node.extend(kept)
    remove_unused(graph)
