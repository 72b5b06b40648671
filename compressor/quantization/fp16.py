"""fp16: weights are stored in half precision and expanded to float32 before they are used."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnx

from compressor.quantization.base import Ranges, Scheme, Settings


def write(source: Path, target: Path, settings: Settings, ranges: Ranges | None = None) -> None:
    """Stores weights in half precision; inputs, outputs and all that is computed stay as they are.

    Half the file, at the speed and on the machines of the float model: ONNX Runtime's CPU has no half-precision product
    on x86 and would turn activations back and forth between types at every operator. So matrices are cast to float,
    which it does once, when it loads the file: they take as much memory as before. Rows of a table are cast after they
    are looked up, and so tables take half there too.

    Args:
        source: A float .onnx file.
        target: The .onnx file of half the size.
        settings: `embeddings`, `keep_float`. Biases and LayerNorms are small and stay in float, and so does what half
            precision cannot hold.
        ranges: Not needed.
    """
    import onnx
    from onnx import numpy_helper

    from compressor.quantization import weight_matrices
    from compressor.runtimes.onnx import sharing
    from compressor.runtimes.onnxruntime import strip

    target.parent.mkdir(parents=True, exist_ok=True)
    model, _ = weight_matrices.read(source)
    graph = model.graph
    chosen = {matrix.weight: matrix for matrix in weight_matrices.shrinkable(model, settings)}
    first, nodes = [], []
    for name, matrix in chosen.items():
        if not matrix.table:
            first.append(_cast(_half(name), name, name))
    for node in graph.node:
        nodes.append(node)
        if node.input and node.input[0] in chosen and node.op_type == "Gather":
            (result,) = node.output
            node.input[0], node.output[0] = _half(node.input[0]), f"{result}.half"
            nodes.append(_cast(node.output[0], result, f"{node.name}.cast"))
    for tensor in graph.initializer:
        if tensor.name in chosen:
            value = numpy_helper.to_array(tensor).astype(np.float16)
            tensor.CopyFrom(numpy_helper.from_array(value, _half(tensor.name)))
    del graph.node[:]
    graph.node.extend([*first, *nodes])
    strip(model)
    sharing.share(model)  # tied tables
    onnx.save(model, str(target))


def _half(weight: str) -> str:
    return f"{weight}.half"


def _cast(source: str, target: str, name: str) -> onnx.NodeProto:
    from onnx import TensorProto, helper

    return helper.make_node("Cast", [source], [target], name=name, to=TensorProto.FLOAT)


SCHEME = Scheme(
    name="fp16",
    help="half-precision weights; products are of floats.",
    write=write,
    bits=16,
)
