"""Converts a graph to ORT format, in a process: `python -m compressor.runtimes.ort.conversion graph path config`.

The order of one table in the file is left to chance by ONNX Runtime 1.31 (it comes from a hash map), so that two
conversions of one graph can differ in bytes; they run the same.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

_HEADER = """\
# The operators of {name}. For a runtime that has only these, build ONNX Runtime with
#   build.sh --minimal_build --include_ops_by_config {config}
"""


def schema() -> Any:
    """The generated classes of the format. Importing one of ONNX Runtime's packages makes theirs importable."""
    import_module("onnxruntime.tools.ort_format_model")
    return import_module("ort_flatbuffers_py.fbs")


def convert(graph: Path, path: Path) -> None:
    """Converts an ONNX file.

    A minimal build cannot optimise, so the graph is optimised here. Level `extended` has all fusions; the level above
    would lay tensors out for this processor. Whether QDQ integers may be signed would depend on the processor too; it
    is turned off, as in ONNX Runtime's own converter for files that run anywhere.

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
    # As bytes, so that the file does not contain the path.
    onnxruntime.InferenceSession(graph.read_bytes(), options, providers=["CPUExecutionProvider"])


def write_operators(path: Path, config: Path) -> None:
    """Writes the list of a file's operators in the form that ONNX Runtime's build scripts read."""
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
    """Converts the file named by the first argument."""
    graph, path, config = map(Path, sys.argv[1:])
    convert(graph, path)
    write_operators(path, config)


if __name__ == "__main__":
    main()
