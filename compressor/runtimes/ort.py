"""ORT format: the graph that ships, optimised once and for all, for builds of ONNX Runtime that hold little else."""

from __future__ import annotations

import tempfile
from pathlib import Path

from compressor.runtimes import ort_order
from compressor.runtimes.onnx import Session as Session

OPERATORS = Path("ort") / "required_operators.config"
"""Where a checkpoint folder keeps the list of operators that its ORT file needs."""

_HEADER = """\
# The operators of {name}. For a runtime that has only these, build ONNX Runtime with
#   build.sh --minimal_build --include_ops_by_config {config}
"""


def export(source: Path, path: Path) -> None:
    """Writes the ONNX file that ships of a checkpoint, the quantized one where there is one, in ORT format.

    Args:
        source: Checkpoint folder; a graph that is there already is taken as it is.
        path: The .ort file; the list of its operators goes beside it.
    """
    from compressor.checkpoint import Checkpoint
    from compressor.runtimes import RUNTIMES, onnx

    made = source / RUNTIMES["onnxruntime"].file
    if graph := Checkpoint(source).quantized or (made if made.is_file() else None):
        write(graph, path)
        return
    with tempfile.TemporaryDirectory() as folder:
        onnx.export(source, graph := Path(folder) / "model.onnx")
        write(graph, path)


def write(graph: Path, path: Path) -> None:
    """Converts an ONNX file, and writes the list of its operators beside it.

    A minimal build cannot optimise, so ONNX Runtime does it here. `extended` has all of its fusions but not the level
    above, which lays tensors out for the processor that it finds. Whether integers may be signed would be decided by
    the processor too; it is decided here, as ONNX Runtime's own converter does it for files that are to run anywhere.

    Args:
        graph: The .onnx file.
        path: The .ort file.
    """
    import onnxruntime

    path.parent.mkdir(parents=True, exist_ok=True)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(path)
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.save_model_format", "ORT")
    options.add_session_config_entry("session.qdqisint8allowed", "0")
    # Given as bytes, it has no path that could end up in the file.
    onnxruntime.InferenceSession(graph.read_bytes(), options, providers=["CPUExecutionProvider"])
    ort_order.settle(path)
    _write_operators(path, path.parent / OPERATORS.name)


def _write_operators(path: Path, config: Path) -> None:
    """The list of a file's operators, as ONNX Runtime's build scripts read it."""
    from onnxruntime.tools.ort_format_model import OrtFormatModelProcessor

    operators: dict[str, dict[int, set[str]]] = {}  # by domain and version
    OrtFormatModelProcessor(str(path), operators, None).process()
    lines = [
        f"{domain};{version};{','.join(sorted(names))}"
        for domain, versions in sorted(operators.items())
        for version, names in sorted(versions.items())
    ]
    header = _HEADER.format(name=path.name, config=config.name)
    config.write_text(header + "\n".join(lines) + "\n", encoding="utf-8")


def contents(
    path: Path,
) -> tuple[list[tuple[str, int, tuple[int, ...], int]], list[tuple[str, str, list[str]]]]:
    """What an ORT file holds.

    Args:
        path: The .ort file.

    Returns:
        Constants: name, ONNX data type, shape and bytes; nodes: name, operator, inputs.
    """
    import onnxruntime.tools.ort_format_model  # makes the next one known
    from ort_flatbuffers_py import fbs

    session = fbs.InferenceSession.InferenceSession
    buffer = bytearray(path.read_bytes())
    if not session.InferenceSessionBufferHasIdentifier(buffer, 0):
        raise ValueError("it is not in ORT format")
    graph = session.GetRootAs(buffer, 0).Model().Graph()
    tensors = [graph.Initializers(index) for index in range(graph.InitializersLength())]
    nodes = [graph.Nodes(index) for index in range(graph.NodesLength())]
    return (
        [
            (
                tensor.Name().decode(),
                tensor.DataType(),
                tuple(int(tensor.Dims(axis)) for axis in range(tensor.DimsLength())),
                tensor.RawDataLength(),
            )
            for tensor in tensors
        ],
        [
            (
                node.Name().decode(),
                node.OpType().decode(),
                [node.Inputs(index).decode() for index in range(node.InputsLength())],
            )
            for node in nodes
        ],
    )
