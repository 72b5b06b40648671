"""ONNX: export, ONNX Runtime, and what runs as integers in it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from compressor.runtimes import Inputs, Outputs

if TYPE_CHECKING:
    import onnx
    import onnxruntime

OPSET = 17
"""The first with LayerNormalization as one operator, and old enough for the mobile runtimes in use."""


def export(source: Path, path: Path) -> None:
    """Exports a checkpoint as plain ONNX operators in one file; batch and length stay free.

    By tracing, with eager attention: ONNX Runtime then fuses it as well as the dynamo export, which takes several times
    as long, and a graph of standard operators runs elsewhere too.

    Args:
        source: Checkpoint folder.
        path: The .onnx file. Its inputs are `input_ids`, `attention_mask` and, where the model has token types,
            `token_type_ids`; its outputs are `logits` and what else the model gives, see `compressor.outputs`.
    """
    import onnx
    import torch

    from compressor import outputs
    from compressor.runtimes import onnx_attention, onnx_graph, onnx_sharing, tracing

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
    onnx_sharing.share(model)
    onnx_graph.simplify(model)
    onnx_attention.fold_biases(model)
    onnx.save(model, str(path))


def strip(model: onnx.ModelProto) -> None:
    """Removes what only describes the build: stale shapes, which break quantizers, and source positions.

    Without the shapes, ONNX Runtime also leaves Add and LayerNormalization apart, which is faster on a CPU: its fused
    SkipLayerNormalization took 140 us where the two take 35 (1.31, 64 tokens of 384, one thread).
    """
    del model.graph.value_info[:]
    for node in model.graph.node:
        node.ClearField("doc_string")


class Session:
    """An ONNX Runtime session on the CPU.

    Args:
        path: The .onnx file.
        threads: Threads within an operator.
    """

    concurrent = True

    def __init__(self, path: Path, threads: int) -> None:
        import onnxruntime

        self._session = onnxruntime.InferenceSession(
            str(path), session_options(threads), providers=["CPUExecutionProvider"]
        )
        self._inputs = [entry.name for entry in self._session.get_inputs()]
        self._outputs = [entry.name for entry in self._session.get_outputs()]

    def predict(self, inputs: Inputs) -> Outputs:
        """What the model gives, by name."""
        given = self._session.run(self._outputs, {name: inputs[name] for name in self._inputs})
        return dict(zip(self._outputs, given, strict=True))


def session_options(threads: int) -> onnxruntime.SessionOptions:
    """How every session of ours runs, whatever for."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Idle threads of one session would burn the cores of the session it is compared with.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


_MATRIX_OPERATORS = frozenset(
    {
        "MatMul", "Gemm", "FusedMatMul", "FusedGemm", "Attention", "MultiHeadAttention",
        "MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul", "QLinearMatMul", "QGemm", "QAttention",
        "MatMulNBits",
    }
)  # fmt: skip
_TABLE_OPERATORS = frozenset({"Gather", "GatherBlockQuantized", "EmbedLayerNormalization", "QEmbedLayerNormalization"})


def quantized_coverage(path: Path) -> float:
    """Share of weight matrices and embedding tables that run as integers in the graph that ONNX Runtime executes.

    Counts the uses of constant matrices after the runtime's own optimisation, not nodes by name: a matrix whose int8
    form is expanded to float before its product runs in float.

    Args:
        path: The .onnx file.
    """
    import onnx
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        optimized = Path(folder) / "optimized.onnx"
        options = session_options(1)
        options.optimized_model_filepath = str(optimized)
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        model = onnx.load(str(optimized))
    integer = _weight_uses(model)
    return sum(integer) / len(integer) if integer else 0.0


def _weight_uses(model: onnx.ModelProto) -> list[bool]:
    """For each use of a constant matrix by an operator, whether it enters as integers."""
    import onnx

    floats = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)
    wholes = (onnx.TensorProto.INT8, onnx.TensorProto.UINT8, onnx.TensorProto.INT4, onnx.TensorProto.UINT4)
    weights = {
        tensor.name: tensor.data_type in wholes
        for tensor in model.graph.initializer
        if len(tensor.dims) >= 2 and tensor.data_type in (*floats, *wholes)
    }
    for node in model.graph.node:
        # What leaves a DequantizeLinear or a Transpose of a constant is a float or the same constant.
        if node.input and node.input[0] in weights:
            if node.op_type == "DequantizeLinear":
                weights[node.output[0]] = False
            elif node.op_type in ("Transpose", "Cast", "Reshape"):
                weights[node.output[0]] = weights[node.input[0]]
    uses: list[bool] = []
    for node in model.graph.node:
        if node.op_type in _MATRIX_OPERATORS | _TABLE_OPERATORS:
            uses.extend(weights[name] for name in node.input if name in weights)
    return uses
