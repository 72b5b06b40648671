"""ORT format: the graph that ships, optimised ahead of time, for minimal builds of ONNX Runtime."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from compressor.errors import StageError
from compressor.runtimes.base import Runtime
from compressor.runtimes.inspection import Inspection
from compressor.runtimes.onnxruntime import Session as Session
from compressor.runtimes.ort.conversion import schema

if TYPE_CHECKING:
    import onnx

OPERATORS = Path("ort") / "required_operators.config"
_LIMIT_S = 1800
"""A conversion that takes so long hangs: that of a large model takes seconds."""
"""Where a checkpoint folder keeps the list of operators that its ORT file needs."""


RUNTIME = Runtime(
    name="ort",
    module=__name__,
    file=Path("ort") / "model.ort",
    usage="onnxruntime, also its minimal builds; the same inputs",
    target="ort",
    follows_quantized=True,
    quantizes=True,
    inspectable=True,
)


def export(source: Path, path: Path) -> None:
    """Writes the ONNX file that ships of a checkpoint, the quantized one where there is one, in ORT format.

    Args:
        source: Checkpoint folder; a graph that is there already is taken as it is.
        path: The .ort file; the list of its operators goes beside it.
    """
    from compressor.models.checkpoint import Checkpoint
    from compressor.runtimes import onnxruntime

    made = source / onnxruntime.RUNTIME.file
    if graph := Checkpoint(source).quantized or (made if made.is_file() else None):
        write(graph, path)
        return
    with tempfile.TemporaryDirectory() as folder:
        onnxruntime.export(source, graph := Path(folder) / "model.onnx")
        write(graph, path)


def write(graph: Path, path: Path) -> None:
    """Converts an ONNX file, and writes the list of its operators beside it; see `ort.conversion`.

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
    command = [sys.executable, "-m", "compressor.runtimes.ort.conversion", str(graph), str(path), str(config)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", env=environment, check=False, timeout=_LIMIT_S
        )
    except subprocess.TimeoutExpired:
        what = f"ONNX Runtime hung as it converted {graph}: it was not done after {_LIMIT_S} s"
        raise StageError(f"{what}; run the command again, or take ort out of the export stage's targets") from None
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no output"]
        raise StageError(f"ONNX Runtime cannot write {graph.name} in ORT format: {lines[-1]}")


def inspect(path: Path) -> Inspection:
    """The weights and operators of an ORT file, and which products saturate."""
    from compressor.runtimes.onnx.inspection import inspect_graph
    from compressor.runtimes.onnx.saturation import saturation

    graph = graph_of(path)
    return inspect_graph(path, graph, saturation=saturation(graph))


def graph_of(path: Path) -> onnx.GraphProto:
    """The nodes, with those of their attributes that are numbers, and the constants of an ORT file.

    Raises:
        ValueError: It is not in ORT format.
    """
    from onnx import GraphProto, TensorProto, helper

    fbs = schema()
    session = fbs.InferenceSession.InferenceSession
    buffer = bytearray(path.read_bytes())
    if not session.InferenceSessionBufferHasIdentifier(buffer, 0):
        raise ValueError("it is not in ORT format")
    number = fbs.AttributeType.AttributeType.INT
    stored, graph = session.GetRootAs(buffer, 0).Model().Graph(), GraphProto()
    for tensor in (stored.Initializers(index) for index in range(stored.InitializersLength())):
        sizes = [int(tensor.Dims(axis)) for axis in range(tensor.DimsLength())]
        raw = tensor.RawDataAsNumpy().tobytes() if tensor.RawDataLength() else b""
        graph.initializer.append(
            TensorProto(name=tensor.Name().decode(), data_type=tensor.DataType(), dims=sizes, raw_data=raw)
        )
    for node in (stored.Nodes(index) for index in range(stored.NodesLength())):
        inputs = [node.Inputs(index).decode() for index in range(node.InputsLength())]
        outputs = [node.Outputs(index).decode() for index in range(node.OutputsLength())]
        attributes = (node.Attributes(index) for index in range(node.AttributesLength()))
        numbers = {entry.Name().decode(): entry.I() for entry in attributes if entry.Type() == number}
        names = {"name": node.Name().decode(), "domain": node.Domain().decode()}
        graph.node.append(helper.make_node(node.OpType().decode(), inputs, outputs, **names, **numbers))
    return graph
