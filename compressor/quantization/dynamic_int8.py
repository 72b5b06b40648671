"""Dynamic int8: weights are integers in the file, activations become uint8 as they pass."""

from __future__ import annotations

from pathlib import Path

from compressor.quantization.base import Ranges, Scheme, Settings


def write(source: Path, target: Path, settings: Settings, ranges: Ranges | None = None) -> None:
    """Quantizes weights to int8.

    What is shared stays shared: a weight of several layers has one int8 form, and so have the input and the output
    embedding of a language model that ties them. Padding does not move the ranges of the activations.

    Args:
        source: A float .onnx file.
        target: The quantized .onnx file.
        settings: How.
        ranges: Not needed.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    from compressor.quantization import row_ranges, small_tables, weight_matrices
    from compressor.runtimes.onnx import padding, sharing
    from compressor.runtimes.onnxruntime import strip

    target.parent.mkdir(parents=True, exist_ok=True)
    model, _ = weight_matrices.read(source)
    padding.keep_out(model)
    every = small_tables.place(model, settings)
    chosen = [matrix for matrix in every if not settings.stays_float(matrix.name)]
    weights = {matrix.weight for matrix in chosen}
    tables = sharing.ties(model.graph) if settings.embeddings else {}
    tables = {matrix: table for matrix, table in tables.items() if weights.issuperset((matrix, table))}
    # Tied tables get the integers of the output embedding below.
    tied = {node.name for node in model.graph.node if node.input and node.input[0] in tables.values()}
    wanted = {name for matrix in chosen for name in matrix.nodes} - tied
    uneven = [matrix for matrix in chosen if matrix.name in settings.row_ranges]
    row_ranges.place(model, {name for matrix in uneven for name in matrix.nodes})
    quantize_dynamic(
        model,
        str(target),
        op_types_to_quantize=["MatMul", "Gemm", *(["Gather"] if settings.embeddings else [])],
        per_channel=settings.per_channel,
        reduce_range=settings.reduce_range,
        weight_type=QuantType.QInt8,
        # Left to itself it would quantize what only comes in as the graph runs too. A Gemm it makes a MatMul first.
        nodes_to_exclude=[
            f"{node.name}{end}" for node in model.graph.node if node.name not in wanted for end in ("", "_MatMul")
        ],
        # The two products inside attention have no weights; as integers they lose accuracy and time. What a table of 4
        # bits gives has no type that it knows.
        extra_options={"MatMulConstBOnly": True, "DefaultTensorType": onnx.TensorProto.FLOAT},
    )
    model = onnx.load(str(target))
    strip(model)
    sharing.tie_quantized(model, tables)
    sharing.tie(model)  # what stays in float
    onnx.save(model, str(target))


SCHEME = Scheme(
    name="dynamic_int8",
    help="int8 weights; activations are quantized to uint8 at run time.",
    write=write,
    integer=True,
)
