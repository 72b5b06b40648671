"""Runtimes: each writes its format and runs it, with the same `predict` everywhere. One module or folder each.

To add one: a module with `export(source, path)`, `Session(path, threads)`, `inspect(path)` if its files can be read,
and a `RUNTIME`; and its name in `_MODULES` below. Importing a module imports nothing heavy: `Session` imports its
runtime, `export` imports torch. The export stage's targets, the parity checks, `compress bench`, `compress inspect`
and the model card read the table.
"""

from __future__ import annotations

from compressor.runtimes import onnxruntime, pytorch, torchscript
from compressor.runtimes.baked_tokenizer import runtime as baked
from compressor.runtimes.base import Inputs, Outputs, Runtime, Session
from compressor.runtimes.coreml import runtime as coreml
from compressor.runtimes.executorch import runtime as executorch
from compressor.runtimes.ort import runtime as ort

__all__ = ["RUNTIMES", "TARGETS", "TEXT_RUNTIME", "TORCH", "Inputs", "Outputs", "Runtime", "Session"]

_MODULES = (
    onnxruntime,
    torchscript,
    ort,
    executorch,
    coreml,
    pytorch,
    baked,
)

RUNTIMES: dict[str, Runtime] = {module.RUNTIME.name: module.RUNTIME for module in _MODULES}
"""Runtimes by name."""

TORCH = pytorch.RUNTIME
"""Runs the checkpoint itself; every float format is compared with it."""

TEXT_RUNTIME = baked.RUNTIME
"""Runs the file that holds its tokenizer, which is compared with the graph in it."""

TARGETS: dict[str, Runtime] = {runtime.target: runtime for runtime in RUNTIMES.values() if runtime.target}
"""Runtimes by the export stage's targets."""
