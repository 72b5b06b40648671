"""The share of an ONNX file's weight matrices that run as integers after ONNX Runtime's optimisation."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from compressor.device.worker import onnx_options

if TYPE_CHECKING:
    import onnx

_PLACES = {
    **dict.fromkeys(("MatMul", "Gemm", "FusedMatMul", "FusedGemm", "FusedMatMulActivation"), (0, 1)),
    **dict.fromkeys(("MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul"), (0, 1)),
    **dict.fromkeys(("QLinearMatMul", "QGemm"), (0, 3)),
    **dict.fromkeys(("MatMulNBits", "MatMulBnb4", "Attention", "QAttention"), (1,)),
    **dict.fromkeys(("Gather", "GatherBlockQuantized"), (0,)),
    **dict.fromkeys(("EmbedLayerNormalization", "QEmbedLayerNormalization"), (2, 3, 4)),
}
"""For each operator that multiplies by weights or looks up their rows, which of its inputs may be weights; the others
are scales, zero points and biases."""

_RESHAPING = frozenset({"Transpose", "Reshape", "Squeeze", "Unsqueeze", "Identity"})
_INT8_ACTIVATIONS = 4
"""MatMulNBits' attribute accuracy_level, from which on it may round activations."""


def quantized_coverage(path: Path) -> float:
    """Share of weight matrices and embedding tables that run as integers in the graph that ONNX Runtime executes.

    Counts the uses of constant matrices after the runtime's own optimisation, not nodes by name: a matrix whose integer
    form is expanded to float before its product, in the graph or inside the operator, runs in float.

    Args:
        path: The .onnx file.
    """
    return integer_share(optimized(path))


def integer_share(model: onnx.ModelProto) -> float:
    """`quantized_coverage` of an optimised graph."""
    uses = weight_uses(model)
    return sum(uses) / len(uses) if uses else 0.0


def optimized(path: Path) -> onnx.ModelProto:
    """The graph that ONNX Runtime executes for a file.

    Raises:
        StageError: The file holds its tokenizer, and onnxruntime-extensions is not installed.
    """
    import onnx
    import onnxruntime

    from compressor.runtimes.baked_tokenizer import graph

    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "optimized.onnx"
        options = graph.options(1) if graph.is_baked(onnx.load(str(path)).graph) else onnx_options(1)
        options.optimized_model_filepath = str(written)
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        return onnx.load(str(written))


def weight_uses(model: onnx.ModelProto) -> list[bool]:
    """For each use of a constant matrix by a product or a look-up, whether it is done with integers."""
    import onnx

    types = onnx.TensorProto
    floats = (types.FLOAT, types.FLOAT16, types.BFLOAT16, types.DOUBLE)
    wholes = (types.INT8, types.UINT8, types.INT4, types.UINT4, types.INT2, types.UINT2)
    weights = {
        tensor.name: tensor.data_type in wholes
        for tensor in model.graph.initializer
        if len(tensor.dims) >= 2 and tensor.data_type in (*floats, *wholes)
    }
    constants = {tensor.name for tensor in model.graph.initializer}
    uses: list[bool] = []
    for node in model.graph.node:  # in the order in which they run
        used = [weights[name] for name in node.input if name in weights]
        if used and constants.issuperset(filter(None, node.input)):
            # What is computed of a constant is the same in another shape, or is taken for floats.
            constants.update(node.output)
            weights.update(dict.fromkeys(node.output, all(used) and node.op_type in _RESHAPING))
        places = [place for place in _PLACES.get(node.op_type, ()) if place < len(node.input)]
        used = [weights[node.input[place]] for place in places if node.input[place] in weights]
        uses.extend(whole and _computes_with_integers(node, weights) for whole in used)
    return uses


def _computes_with_integers(node: onnx.NodeProto, weights: Mapping[str, bool]) -> bool:
    """Whether an operator whose weight is integers does not expand it.

    MatMulNBits multiplies integers where it may round activations to int8, on CPUs with AVX2 or Arm's dot products;
    otherwise, and with zero points that are floats or groups in another order, it expands its weight. MatMulBnb4 always
    does.
    """
    if node.op_type != "MatMulNBits":
        return bool(node.op_type != "MatMulBnb4")
    level = next((entry.i for entry in node.attribute if entry.name == "accuracy_level"), 0)
    zero_points, groups = [*node.input[3:5], "", ""][:2]
    return bool(level == _INT8_ACTIVATIONS and weights.get(zero_points, True) and not groups)


def forms_of_constants(graph: onnx.GraphProto) -> dict[str, str]:
    """For each tensor that is a constant in another shape or type, the constant's name; a constant is its own form."""
    found = {tensor.name: tensor.name for tensor in graph.initializer}
    for node in graph.node:
        if node.input and node.input[0] in found and node.op_type in (*_RESHAPING, "Cast", "DequantizeLinear"):
            found[node.output[0]] = found[node.input[0]]
    return found
