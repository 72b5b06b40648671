"""Profiles ONNX Runtime: time by kernel of a graph, the arithmetic of its matrices, the machine's int8 peak."""

from __future__ import annotations

import json
import math
import tempfile
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

Inputs = dict[str, NDArray[np.int64]]

PEAK_SHAPES = ((128, 384, 1536), (128, 1536, 384))
"""Rows, inputs and outputs of the products that the peak is measured on: a small encoder's feed-forward block."""

FEW_TOKENS = 1000
"""Ids below this are in any vocabulary."""

_WARM_UP = 3
_PRODUCTS = frozenset(
    {"MatMul", "Gemm", "FusedMatMul", "FusedGemm", "MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul"}
    | {"QLinearMatMul", "QGemm", "MatMulNBits"}
)
_ATTENTION = frozenset({"Attention", "QAttention"})


@dataclass(frozen=True)
class Kernel:
    """One node of the graph that ran.

    Attributes:
        operator: What it is.
        microseconds: Median over the runs.
        weight: Inputs and outputs of the weight matrix that it multiplies with; None for everything else.
        rows: How many rows go through that.
    """

    operator: str
    microseconds: float
    weight: tuple[int, int] | None
    rows: int

    @property
    def multiply_adds(self) -> int:
        """Of a product with a weight matrix; 0 for everything else, products of activations included."""
        return self.rows * math.prod(self.weight) if self.weight else 0


def full_batch(length: int, vocab_size: int) -> Inputs:
    """One row without padding: the work of a call does not depend on which tokens they are. `(1, length)` each."""
    ids = np.random.default_rng(0).integers(1, vocab_size, (1, length))
    return {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}


def options() -> Any:
    """One thread, and no session that burns another one's core while it waits."""
    import onnxruntime

    made = onnxruntime.SessionOptions()
    made.intra_op_num_threads = made.inter_op_num_threads = 1
    made.log_severity_level = 3
    made.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return made


def profile(path: Path, inputs: Inputs, runs: int) -> list[Kernel]:
    """The kernels of one call, by ONNX Runtime's own profiler, which makes a call some percent slower.

    Args:
        path: The .onnx file.
        inputs: `(batch, sequence)` each; what the graph does not take is left out.
        runs: How many calls the medians are of.
    """
    import onnxruntime

    with tempfile.TemporaryDirectory(prefix="compress-") as folder:
        given = options()
        given.enable_profiling = True
        given.profile_file_prefix = str(Path(folder) / "profile")
        session = onnxruntime.InferenceSession(str(path), given, providers=["CPUExecutionProvider"])
        names = [entry.name for entry in session.get_inputs()]
        for _ in range(_WARM_UP + runs):
            session.run(None, {name: inputs[name] for name in names})
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    nodes: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            nodes[event["args"]["node_index"]].append(event)
    found = []
    for calls in nodes.values():
        node = calls[0]["args"]
        microseconds = median(call["dur"] for call in calls[_WARM_UP:])
        found.append(Kernel(node["op_name"], microseconds, *_product(node)))
    return found


def _product(node: dict[str, Any]) -> tuple[tuple[int, int] | None, int]:
    """The weight matrix of a product of activations with one, and how many rows go through it.

    The profiler does not list weights that a kernel has packed. Factors of more than two axes are activations.
    """
    operator = node["op_name"]
    if operator not in _PRODUCTS | _ATTENTION:
        return None, 0
    (first, *others), (made, *_) = (_shapes(node[side]) for side in ("input_type_shape", "output_type_shape"))
    rows = math.prod(first[:-1])
    if operator in _ATTENTION:  # its first product makes queries, keys and values, as many as there are biases
        return (first[-1], max(shape[0] for shape in others if len(shape) == 1)), rows
    return (None, 0) if any(len(shape) > 2 for shape in others) else ((first[-1], made[-1]), rows)


def _shapes(tensors: Iterable[dict[str, list[int]]]) -> list[list[int]]:
    return [shape for tensor in tensors for shape in tensor.values()]


def by_operator(kernels: Iterable[Kernel]) -> dict[str, list[Kernel]]:
    """Kernels that do the same, with weights of the same shape, the dearest first."""
    groups: dict[str, list[Kernel]] = defaultdict(list)
    for kernel in kernels:
        shape = f", {kernel.weight[0]} to {kernel.weight[1]}" if kernel.weight else ""
        groups[kernel.operator + shape].append(kernel)
    return dict(sorted(groups.items(), key=lambda group: -sum(kernel.microseconds for kernel in group[1])))


class Int8Product:
    """A graph of nothing but `MatMulInteger`: uint8 activations times int8 weights, packed beforehand.

    Args:
        shape: Rows, inputs and outputs.
    """

    def __init__(self, shape: tuple[int, int, int]) -> None:
        import onnxruntime
        from onnx import TensorProto, helper, numpy_helper

        rows, inputs, outputs = shape
        random = np.random.default_rng(0)
        weight = numpy_helper.from_array(random.integers(-127, 128, (inputs, outputs), dtype=np.int8), "weight")
        graph = helper.make_graph(
            [helper.make_node("MatMulInteger", ["input", "weight"], ["output"])],
            "product",
            [helper.make_tensor_value_info("input", TensorProto.UINT8, [rows, inputs])],
            [helper.make_tensor_value_info("output", TensorProto.INT32, [rows, outputs])],
            [weight],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        self._session = onnxruntime.InferenceSession(
            model.SerializeToString(), options(), providers=["CPUExecutionProvider"]
        )
        self._inputs = {"input": random.integers(0, 256, (rows, inputs), dtype=np.uint8)}
        self.operations = 2 * rows * inputs * outputs

    def predict(self, _: object = None) -> None:
        """One product."""
        self._session.run(None, self._inputs)
