"""Runtimes: each writes its format (`export`) and runs it (`Session`, the same `predict` everywhere). One module each.

A module has `export(source, path)` and `Session(path, threads)`, and a line in `RUNTIMES`.
Importing a module imports nothing heavy: `Session` imports its runtime, `export` imports torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

Inputs = Mapping[str, NDArray[np.int64]]
"""`input_ids`, `attention_mask` and, where the model has token types, `token_type_ids`; `(batch, sequence)` each."""

Outputs = dict[str, NDArray[np.float32]]
"""`logits` `(batch, labels)` or `(batch, sequence, vocabulary)`, and what else the model gives, by name; see
`compressor.models.outputs`."""


class Session(Protocol):
    """A loaded model."""

    concurrent: bool
    """Whether several threads may call `predict` at once and gain from it."""

    def predict(self, inputs: Inputs) -> Outputs:
        """What the model gives, by name; inputs that it does not take are ignored."""


class _Module(Protocol):
    """What a runtime module has."""

    Session: Callable[[Path, int], Session]

    def export(self, source: Path, path: Path) -> None:
        """Writes a checkpoint in the runtime's format."""


@dataclass(frozen=True)
class Runtime:
    """A runtime module, imported when it is first used.

    Attributes:
        file: Where a checkpoint folder keeps the runtime's float format.
        load: Imports the module.
    """

    file: Path
    load: Callable[[], _Module]

    def export(self, source: Path, path: Path) -> None:
        """Writes a checkpoint in this runtime's format."""
        self.load().export(source, path)

    def session(self, path: Path, threads: int) -> Session:
        """Loads a file of this runtime's format."""
        return self.load().Session(path, threads)


def _onnx() -> _Module:
    from compressor.runtimes import onnxruntime

    return cast(_Module, onnxruntime)


def _ort() -> _Module:
    from compressor.runtimes.ort import runtime

    return cast(_Module, runtime)


def _torchscript() -> _Module:
    from compressor.runtimes import torchscript

    return cast(_Module, torchscript)


def _executorch() -> _Module:
    from compressor.runtimes import executorch

    return cast(_Module, executorch)


def _pytorch() -> _Module:
    from compressor.runtimes import pytorch

    return cast(_Module, pytorch)


RUNTIMES: dict[str, Runtime] = {
    "onnxruntime": Runtime(Path("onnx") / "model.onnx", _onnx),
    "torchscript": Runtime(Path("torchscript") / "model.pt", _torchscript),
    "ort": Runtime(Path("ort") / "model.ort", _ort),
    "executorch": Runtime(Path("executorch") / "model.pte", _executorch),
    "torch": Runtime(Path(), _pytorch),
}
"""Runtimes by name; `torch` runs the checkpoint itself and is the reference of every other."""

TARGETS = {"onnx": "onnxruntime", "torchscript": "torchscript", "ort": "ort", "executorch": "executorch"}
"""Which runtime writes and runs each of the export stage's targets."""
