"""Static int8: the file holds integer weights, and the ranges of the activations that they are multiplied with.

Written as QuantizeLinear and DequantizeLinear around the float operators (QDQ), which every runtime reads and fuses
into its own integer kernels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from compressor.quantization import rounding
from compressor.quantization.base import Ranges, Scheme, Settings

if TYPE_CHECKING:
    import onnx

    from compressor.quantization.weight_matrices import Matrix

Bounds = dict[str, tuple[float, float]]
"""For each tensor of a graph that matrices are multiplied with, its least and its greatest value."""

Rounded = tuple[NDArray[np.int8], NDArray[np.float32]]
"""A matrix as integers `(inputs, outputs)`, and its scales: `(outputs,)`, or `()`."""


def write(source: Path, target: Path, settings: Settings, ranges: Ranges | None) -> None:
    """Quantizes weights to int8, and their input activations to uint8.

    What is shared stays shared: a weight of several layers has one int8 form, and so have the input and the output
    embedding of a language model that ties them.

    Args:
        source: A float .onnx file.
        target: The quantized .onnx file.
        settings: How.
        ranges: Of what each matrix is multiplied with.
    """
    import onnx

    from compressor.quantization import small_tables, weight_matrices
    from compressor.runtimes.onnx import constants

    assert ranges is not None, "static schemes are calibrated first"
    model, _ = weight_matrices.read(source)
    constants.fold_products(model)
    every = small_tables.place(model, settings)
    found = [matrix for matrix in every if not settings.stays_float(matrix.name)]
    place(model, settings, found, _bounds(found, ranges))
    target.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(target))


def place(
    model: onnx.ModelProto,
    settings: Settings,
    matrices: Sequence[Matrix],
    bounds: Bounds,
    rounded: Mapping[str, Rounded] | None = None,
) -> None:
    """Quantizes matrices and their inputs, in place.

    Args:
        model: A float graph that `onnx_sharing.merge` has been through.
        settings: How.
        matrices: Those that become integers.
        bounds: Range of each tensor that they are multiplied with.
        rounded: Integers and scales of matrices for which something else has chosen them, by the constant's name.
    """
    from compressor.runtimes.onnx import sharing

    found = {matrix.weight: matrix for matrix in matrices}
    tied = sharing.ties(model.graph) if settings.embeddings else {}
    tied = {matrix: table for matrix, table in tied.items() if matrix in found and table in found}
    writer = _Writer(model.graph, settings, bounds, rounded or {})
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        weight = next((name for name in node.input[:2] if name in found), None)
        if weight is None or weight in tied.values():
            nodes.append(node)
        elif not found[weight].table:
            nodes += writer.product(node)
        elif settings.embeddings:
            nodes += writer.look_up(node)
        else:
            nodes.append(node)
    writer.finish(nodes)
    sharing.tie_quantized(model, tied)
    sharing.tie(model)  # what stays in float


def _bounds(found: Sequence[Matrix], ranges: Ranges) -> Bounds:
    """The range of each tensor that a matrix is multiplied with: of all its matrices together."""
    bounds: Bounds = {}
    for matrix in found:
        for name in matrix.activations:
            low, high = ranges[matrix.name]
            least, greatest = bounds.get(name, (low, high))
            bounds[name] = min(least, low), max(greatest, high)
    return bounds


class _Writer:
    """Nodes and constants of a graph that becomes integers.

    Args:
        graph: The float graph.
        settings: How.
        bounds: Range of each tensor that a matrix is multiplied with.
        rounded: Integers and scales that are chosen already, by the constant's name.
    """

    def __init__(
        self, graph: onnx.GraphProto, settings: Settings, bounds: Bounds, rounded: Mapping[str, Rounded]
    ) -> None:
        from onnx import numpy_helper

        self._graph, self._settings, self._bounds, self._rounded = graph, settings, bounds, rounded
        self._floats = {tensor.name: tensor for tensor in graph.initializer}
        self._constants: dict[str, NDArray[np.generic]] = {}
        self._made: set[str] = set()
        self._array = numpy_helper.to_array

    def product(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        """A product with a weight matrix; the bias of a Gemm becomes integers too, which kernels ask for."""
        from onnx import helper

        tensor, weight = node.input[:2]
        nodes = [*self._activation(tensor), *self._weight(weight)]
        inputs, result = [f"{tensor}.rounded", f"{weight}.float"], node.output[0]
        if len(node.input) == 2:
            return [*nodes, helper.make_node(node.op_type, inputs, [result], name=node.name)]
        bias, whole = node.input[2], self._integers_of_bias(node)
        size = len(self._array(self._floats[bias]))
        if whole is None:
            # What no integers can hold is added as it is, out of sight of fusions that would make a float Gemm of both.
            hidden = self._hidden(f"{result}.product", f"{result}.sum", size)
            product = helper.make_node("MatMul", inputs, [f"{result}.product"], name=node.name)
            return [*nodes, product, *hidden, helper.make_node("Add", [f"{result}.sum", bias], [result])]
        nodes += self._bias(node, whole)
        inputs.append(f"{result}.bias")
        if result in self._bounds:
            # ONNX Runtime fuses no Gemm whose result is rounded for one reader and not for another: this hides them.
            made = helper.make_node(node.op_type, inputs, [f"{result}.product"], name=node.name)
            return [*nodes, made, *self._hidden(f"{result}.product", result, size)]
        return [*nodes, helper.make_node(node.op_type, inputs, [result], name=node.name)]

    def _hidden(self, source: str, target: str, size: int) -> list[onnx.NodeProto]:
        """A Reshape that changes nothing, and that no fusion looks through."""
        from onnx import helper

        self._constants[f"rows.{size}"] = np.array([-1, size], dtype=np.int64)
        return [helper.make_node("Reshape", [source, f"rows.{size}"], [target], name=f"{target}/same")]

    def look_up(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        """Rows of an embedding table, each with a scale of its own."""
        from compressor.runtimes.onnx import sharing

        table = node.input[0]
        if table not in self._made:
            self._made.add(table)
            rows, scales = rounding.weights(self._array(self._floats[table]), axis=0)
            self._constants |= {table: rows, f"{table}_scale": scales}
            self._constants[sharing.LAST] = np.array([-1], dtype=np.int64)
        return sharing.look_up(node, f"{table}_scale", per_row=True)

    def _activation(self, tensor: str) -> list[onnx.NodeProto]:
        """Nodes that round a tensor to uint8 and back; the same for all its readers."""
        from onnx import helper

        if f"{tensor}.rounded" in self._made:
            return []
        self._made.add(f"{tensor}.rounded")
        scale, zero_point = rounding.activation(*self._bounds[tensor])
        how = [f"{tensor}.scale", f"{tensor}.zero_point"]
        self._constants |= dict(zip(how, (np.array(scale), np.array(zero_point)), strict=True))
        integers = f"{tensor}.integers"
        return [
            helper.make_node("QuantizeLinear", [tensor, *how], [integers], name=f"{tensor}/QuantizeLinear"),
            helper.make_node(
                "DequantizeLinear", [integers, *how], [f"{tensor}.rounded"], name=f"{tensor}/DequantizeLinear"
            ),
        ]

    def _weight(self, weight: str) -> list[onnx.NodeProto]:
        """The node that makes floats of a matrix of integers; the same for all its readers."""
        from onnx import helper

        if f"{weight}.float" in self._made:
            return []
        self._made.add(f"{weight}.float")
        axis = 1 if self._settings.per_channel else None
        integers, scales = self._rounded.get(weight) or rounding.weights(
            self._array(self._floats[weight]), axis, self._settings.reduce_range
        )
        # ONNX Runtime fuses no Gemm without zero points of its weights; they are the same for all of one size.
        how = [f"{weight}_quantized", f"{weight}_scale", f"zero_points.{scales.size if scales.ndim else 'one'}"]
        zeros = np.zeros(scales.shape, dtype=np.int8)
        self._constants |= dict(zip(how, (integers, scales, zeros), strict=True))
        along = {"axis": 1} if scales.ndim else {}
        return [
            helper.make_node("DequantizeLinear", how, [f"{weight}.float"], name=f"{weight}/DequantizeLinear", **along)
        ]

    def _integers_of_bias(self, node: onnx.NodeProto) -> NDArray[np.int32] | None:
        """A bias in steps of its product's scales; None where a channel has no weights, or too small ones for it."""
        tensor, weight, bias = node.input
        values = np.rint(self._array(self._floats[bias]) / self._steps(tensor, weight))
        some = bool(self._array(self._floats[weight]).any(axis=0).all())
        return values.astype(np.int32) if some and np.abs(values).max() <= rounding.LARGEST_BIAS else None

    def _steps(self, tensor: str, weight: str) -> NDArray[np.float32]:
        """Scale of a product's integers, per channel."""
        of_tensor, of_weight = (np.asarray(self._constants[name]) for name in (f"{tensor}.scale", f"{weight}_scale"))
        steps: NDArray[np.float32] = np.multiply(of_tensor, of_weight, dtype=np.float32)
        return steps

    def _bias(self, node: onnx.NodeProto, integers: NDArray[np.int32]) -> list[onnx.NodeProto]:
        """The node that makes floats of a bias: int32, with the scales that the product's integers have."""
        from onnx import helper

        result, scales = f"{node.output[0]}.bias", self._steps(*node.input[:2])
        how = [f"{result}_quantized", f"{result}_scale"]
        self._constants |= dict(zip(how, (integers, scales), strict=True))
        axis = {"axis": 0} if scales.ndim else {}
        return [helper.make_node("DequantizeLinear", how, [result], name=f"{result}/DequantizeLinear", **axis)]

    def finish(self, nodes: list[onnx.NodeProto]) -> None:
        """Puts nodes and constants into the graph."""
        from onnx import numpy_helper

        from compressor.runtimes.onnx.rewrite import drop, remove_unused

        drop(self._graph.initializer, set(self._constants))
        del self._graph.node[:]
        self._graph.node.extend(nodes)
        made = [numpy_helper.from_array(value, name) for name, value in self._constants.items()]
        self._graph.initializer.extend(made)
        remove_unused(self._graph)


SCHEME = Scheme(
    name="static_int8",
    help="int8 weights and uint8 activations, whose ranges are found beforehand on training rows.",
    write=write,
    integer=True,
    calibrated=True,
)
TRAINED = Scheme(
    name="qat_int8",
    help="static int8 after quantization-aware training.",
    write=write,
    integer=True,
    calibrated=True,
    trained=True,
)
