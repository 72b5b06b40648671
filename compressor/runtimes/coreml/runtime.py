"""The runtime: writes a checkpoint's .mlpackage, and evaluates it operator by operator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from compressor.errors import StageError
from compressor.models.checkpoint import Checkpoint
from compressor.models.quantized import PRECISIONS
from compressor.runtimes.base import Inputs, Outputs, Runtime

RUNTIME = Runtime(
    name="coreml",
    module=__name__,
    file=Path("coreml") / "model.mlpackage",
    usage="Core ML on iOS and macOS: evaluated, never run on a device; {inputs}, int32 `(1, sequence)` each",
    target="coreml",
    quantizes=True,
    floats=PRECISIONS[16],
    runs_here=False,
    bytes_out=False,
    extra="coreml",
    requires=("coremltools",),
)


def export(source: Path, path: Path) -> None:
    """Converts a checkpoint to an ML program, its weights in the precision that its quantized files have, else in fp16.

    Args:
        source: Checkpoint folder.
        path: The package, a folder; see `conversion.write`.

    Raises:
        StageError: The extra is not installed, or the converter does not know an operator of the model.
    """
    _check()
    from compressor.runtimes.coreml import conversion

    conversion.write(source, path, next(iter(Checkpoint(source).quantizations), None))


class Session:
    """A package, evaluated without Apple's kernels; rows of a batch one after the other.

    Args:
        path: The package, a folder.
        threads: Threads within an operator.

    Raises:
        StageError: The extra is not installed.
    """

    concurrent = False

    def __init__(self, path: Path, threads: int) -> None:
        _check()
        import torch

        from compressor.runtimes.coreml import operators, package

        torch.set_num_threads(threads)
        self._torch, self._evaluate = torch, operators.evaluate
        self._program = package.read(path)

    def predict(self, inputs: Inputs) -> Outputs:
        """The model's outputs by name.

        Raises:
            StageError: A row is longer than the program takes, or an operator is not known here.
        """
        names, longest = self._program.inputs, self._program.longest
        count, length = inputs[names[0]].shape
        if length > longest:
            raise StageError(f"a row has {length} tokens, and this .mlpackage takes {longest} at most; cut it")
        with self._torch.inference_mode():
            rows = [self._row({name: inputs[name][index : index + 1] for name in names}) for index in range(count)]
        return {name: np.concatenate([row[name] for row in rows]) for name in self._program.outputs}

    def _row(self, inputs: Inputs) -> Outputs:
        values: dict[str, Any] = dict(self._program.constants)
        for name, array in inputs.items():
            values[name] = self._torch.from_numpy(np.ascontiguousarray(array)).to(self._torch.int32)
        for operator in self._program.operators:
            operands = {
                name: [values[entry] for entry in given] if isinstance(given, list) else values[given]
                for name, given in operator.operands.items()
            }
            values.update(zip(operator.outputs, self._evaluate(operator.kind, operands), strict=True))
        return {name: values[name].float().numpy() for name in self._program.outputs}


def _check() -> None:
    if missing := RUNTIME.missing():
        raise StageError(f"the target coreml needs {', '.join(missing)}, not installed: {RUNTIME.install}")
