"""The process that converts a graph to ORT format: `python -m compressor.runtimes.ort.conversion graph path config`.

Two conversions of one graph are the same bytes.
"""

from __future__ import annotations

import struct
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

_IDENTIFIER = b"ORTM"
_ALIGNMENT = 16

_HEADER = """\
# The operators of {name}. For a runtime that has only these, build ONNX Runtime with
#   build.sh --minimal_build --include_ops_by_config {config}
"""


def schema() -> Any:
    """What reads and writes the format; ONNX Runtime has it as a package that another one makes known."""
    import_module("onnxruntime.tools.ort_format_model")
    return import_module("ort_flatbuffers_py.fbs")


def convert(graph: Path, path: Path) -> None:
    """Converts an ONNX file.

    A minimal build cannot optimise, so ONNX Runtime does it here. `extended` has all of its fusions but not the level
    above, which lays tensors out for the processor that it finds. Whether integers may be signed would be decided by
    the processor too; it is decided here, as ONNX Runtime's own converter does it for files that are to run anywhere.

    Args:
        graph: The .onnx file.
        path: The .ort file.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(path)
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.save_model_format", "ORT")
    options.add_session_config_entry("session.qdqisint8allowed", "0")
    # Given as bytes, it has no path that could end up in the file.
    onnxruntime.InferenceSession(graph.read_bytes(), options, providers=["CPUExecutionProvider"])


def settle(path: Path) -> None:
    """Writes the only part of an ORT file whose order is left to chance again, in the order of its keys, in place.

    That is the table of which argument decides an operator's type. ONNX Runtime 1.31 fills it from a hash map whose
    order depends on where the process lies in memory. FlatBuffers are written from their end to their beginning, and
    this table after the model, so the model's bytes stay as they are: all offsets inside it are relative.

    Args:
        path: The .ort file.
    """
    import flatbuffers

    fbs = schema()
    content = bytearray(path.read_bytes())
    session = fbs.InferenceSession.InferenceSession.GetRootAs(content, 0)
    resolver = session.KernelTypeStrResolver()
    model = session.Model()._tab.Pos
    layout = model - struct.unpack_from("<i", content, model)[0]
    body = content[min(model, layout) :]
    version = session._tab.Indirect(session._tab.Pos + session._tab.Offset(4))
    assert resolver._tab.Pos < min(model, layout) < version, "the model lies behind the table"

    builder = flatbuffers.Builder(len(content) + 65536)
    builder.Prep(_ALIGNMENT, 0)
    builder.head -= len(body)
    builder.Bytes[builder.head : builder.head + len(body)] = body
    table = _resolver(builder, fbs, resolver)
    fbs.InferenceSession.Start(builder)
    fbs.InferenceSession.AddOrtVersion(builder, len(content) - version)
    fbs.InferenceSession.AddModel(builder, len(content) - model)
    fbs.InferenceSession.AddKernelTypeStrResolver(builder, table)
    builder.Finish(fbs.InferenceSession.End(builder), file_identifier=_IDENTIFIER)
    path.write_bytes(builder.Output())


def _resolver(builder: Any, fbs: Any, resolver: Any) -> int:
    """For each operator, each name of a type, and the arguments that have it; sorted already, as keys must be."""
    operators = []
    for operator in (resolver.OpKernelTypeStrArgs(index) for index in range(resolver.OpKernelTypeStrArgsLength())):
        types = []
        for entry in (operator.KernelTypeStrArgs(index) for index in range(operator.KernelTypeStrArgsLength())):
            arguments = []
            for argument in (entry.Args(index) for index in range(entry.ArgsLength())):
                fbs.ArgTypeAndIndex.Start(builder)
                fbs.ArgTypeAndIndex.AddArgType(builder, argument.ArgType())
                fbs.ArgTypeAndIndex.AddIndex(builder, argument.Index())
                arguments.append(fbs.ArgTypeAndIndex.End(builder))
            listed, name = _vector(builder, arguments), builder.CreateString(entry.KernelTypeStr())
            fbs.KernelTypeStrArgsEntry.Start(builder)
            fbs.KernelTypeStrArgsEntry.AddKernelTypeStr(builder, name)
            fbs.KernelTypeStrArgsEntry.AddArgs(builder, listed)
            types.append(fbs.KernelTypeStrArgsEntry.End(builder))
        listed, name = _vector(builder, types), builder.CreateString(operator.OpId())
        fbs.OpIdKernelTypeStrArgsEntry.Start(builder)
        fbs.OpIdKernelTypeStrArgsEntry.AddOpId(builder, name)
        fbs.OpIdKernelTypeStrArgsEntry.AddKernelTypeStrArgs(builder, listed)
        operators.append(fbs.OpIdKernelTypeStrArgsEntry.End(builder))
    listed = _vector(builder, operators)
    fbs.KernelTypeStrResolver.Start(builder)
    fbs.KernelTypeStrResolver.AddOpKernelTypeStrArgs(builder, listed)
    table: int = fbs.KernelTypeStrResolver.End(builder)
    return table


def _vector(builder: Any, offsets: list[int]) -> int:
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    vector: int = builder.EndVector()
    return vector


def write_operators(path: Path, config: Path) -> None:
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


def main() -> None:
    """Converts the file that the first argument names."""
    graph, path, config = map(Path, sys.argv[1:])
    convert(graph, path)
    settle(path)
    write_operators(path, config)


if __name__ == "__main__":
    main()
