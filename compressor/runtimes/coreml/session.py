"""Runs a package's program, read back from the disk, operator by operator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from compressor.runtimes.base import Inputs, Outputs


class Evaluator:
    """An .mlpackage, evaluated without Apple's kernels; rows of a batch run one after the other.

    Args:
        path: The package, a folder.
        threads: Threads within an operator.
    """

    concurrent = False

    def __init__(self, path: Path, threads: int) -> None:
        import torch

        from compressor.runtimes.coreml import operators, package

        torch.set_num_threads(threads)
        self._torch, self._evaluate = torch, operators.evaluate
        self._program = package.read(path)

    def predict(self, inputs: Inputs) -> Outputs:
        """The model's outputs by name, float32."""
        names = self._program.inputs
        count = len(inputs[names[0]])
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
