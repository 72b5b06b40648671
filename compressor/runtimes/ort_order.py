"""Makes two conversions of one graph to ORT format the same bytes."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

_IDENTIFIER = b"ORTM"
_ALIGNMENT = 16


def settle(path: Path) -> None:
    """Writes the only part of an ORT file whose order is left to chance again, in the order of its keys, in place.

    That is the table of which argument decides an operator's type. ONNX Runtime 1.31 fills it from a hash map whose
    order depends on where the process lies in memory. FlatBuffers are written from their end to their beginning, and
    this table after the model, so the model's bytes stay as they are: all offsets inside it are relative.

    Args:
        path: The .ort file.
    """
    import flatbuffers
    import onnxruntime.tools.ort_format_model  # makes the next one known
    from ort_flatbuffers_py import fbs

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
