"""Which products of an ONNX graph are clipped on some processors: uint8 by int8, summed in 16 bits.

x86 processors with AVX2 or AVX512 and no VNNI add the products of two neighbouring pairs in 16 bits: 255 * 127 + 255 *
127 = 64,770 becomes 32,767. VNNI and ARM's instructions add them in 32 bits.

Source: ONNX Runtime, "Quantize ONNX models", section "When and why do I need to try U8U8?".
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import onnx

PROCESSORS = "x86 with AVX2 or AVX512 and no VNNI"

_OPTIMIZED = ".ort"
SUFFIXES = (".onnx", _OPTIMIZED)

_LARGEST_EXACT = 64
"""Largest size of an int8 weight that no sum of two products exceeds 16 bits with: 255 * (64 + 64) = 32,640."""
_WEIGHT = {
    **dict.fromkeys(("MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul", "QAttention"), 1),
    **dict.fromkeys(("QLinearMatMul", "QGemm"), 3),
}
"""Which input of an operator is its weight. MatMulNBits, whose kernels are others, is exact in 8 and in 4 bits."""


def saturation(graph: onnx.GraphProto) -> dict[str, Any]:
    """The products of a graph that are clipped where the activations are large; empty if there are none.

    Weights in uint8 are exact everywhere, and so are int8 weights between -64 and 64.

    Args:
        graph: The graph as ONNX Runtime executes it; see `compressor.runtimes.onnx.coverage.optimized`.

    Returns:
        `processors`: where; `operators`: how many of each kind have such weights; `largest_weight`: the largest size of
        an integer among them.
    """
    from onnx import TensorProto, numpy_helper

    from compressor.runtimes.onnx.coverage import forms_of_constants

    forms = forms_of_constants(graph)
    largest = {
        tensor.name: int(np.abs(numpy_helper.to_array(tensor).astype(np.int16)).max(initial=0))
        for tensor in graph.initializer
        if tensor.data_type == TensorProto.INT8
    }
    operators, sizes = Counter[str](), [0]
    for node in graph.node:
        place = _WEIGHT.get(node.op_type, len(node.input))
        size = largest.get(forms.get(node.input[place], ""), 0) if place < len(node.input) else 0
        if size > _LARGEST_EXACT:
            operators[node.op_type] += 1
            sizes.append(size)
    if not operators:
        return {}
    return {"processors": PROCESSORS, "operators": dict(operators.most_common()), "largest_weight": max(sizes)}


def of_file(path: Path) -> dict[str, Any]:
    """`saturation` of a file, by its suffix one of `SUFFIXES`.

    Raises:
        StageError: It holds its tokenizer, and onnxruntime-extensions is not installed.
    """
    from compressor.runtimes.onnx.coverage import optimized
    from compressor.runtimes.ort.runtime import graph_of

    return saturation(graph_of(path) if path.suffix == _OPTIMIZED else optimized(path).graph)
