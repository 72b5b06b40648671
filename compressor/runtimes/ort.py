"""ORT format: the graph that ships, optimised once and for all, for builds of ONNX Runtime that hold little else."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from compressor.errors import StageError
from compressor.runtimes.onnx import Session as Session
from compressor.runtimes.ort_conversion import schema

OPERATORS = Path("ort") / "required_operators.config"
"""Where a checkpoint folder keeps the list of operators that its ORT file needs."""


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
    """Converts an ONNX file, and writes the list of its operators beside it; see `ort_conversion`.

    In a process of its own: ONNX Runtime lists in the file what libraries of operators this one has loaded before.

    Args:
        graph: The .onnx file.
        path: The .ort file.

    Raises:
        StageError: ONNX Runtime cannot convert it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(folder for folder in sys.path if folder)}
    config = path.parent / OPERATORS.name
    command = [sys.executable, "-m", "compressor.runtimes.ort_conversion", str(graph), str(path), str(config)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", env=environment, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no output"]
        raise StageError(f"ONNX Runtime cannot write {graph.name} in ORT format: {lines[-1]}")


def contents(
    path: Path,
) -> tuple[list[tuple[str, int, tuple[int, ...], int]], list[tuple[str, str, list[str]]]]:
    """What an ORT file holds.

    Args:
        path: The .ort file.

    Returns:
        Constants: name, ONNX data type, shape and bytes; nodes: name, operator, inputs.
    """
    session = schema().InferenceSession.InferenceSession
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
