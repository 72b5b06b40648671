"""TorchScript: export by tracing, run by torch.jit. Deprecated in torch since 2.11, so it all lives in this file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from compressor.runtimes import Inputs

_NAMES = "input_names.txt"


def export(source: Path, path: Path) -> None:
    """Traces a checkpoint; batch and length stay free.

    The order of the inputs is stored in the file, as the extra file `input_names.txt`.

    Args:
        source: Checkpoint folder.
        path: The .pt file.
    """
    import torch

    from compressor.runtimes import tracing

    module = tracing.load(source, "sdpa")
    with torch.inference_mode():
        traced = torch.jit.trace(module, tracing.example_inputs(module), strict=False, check_trace=False)  # type: ignore[no-untyped-call]  # torch.jit is untyped
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.jit.save(traced, str(path), _extra_files={_NAMES: "\n".join(module.input_names)})


class Session:
    """A TorchScript file.

    Args:
        path: The .pt file.
        threads: Threads within an operator.
    """

    concurrent = False

    def __init__(self, path: Path, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        extra = {_NAMES: ""}
        self._torch = torch
        self._module = torch.jit.load(str(path), map_location="cpu", _extra_files=extra)  # type: ignore[no-untyped-call]  # torch.jit is untyped
        names = extra[_NAMES]
        self._names = (names.decode() if isinstance(names, bytes) else names).split("\n")

    def predict(self, inputs: Inputs) -> NDArray[np.float32]:
        """Logits `(batch, labels)`."""
        with self._torch.inference_mode():
            logits: NDArray[np.float32] = self._module(
                *(self._torch.from_numpy(inputs[name]) for name in self._names)
            ).numpy()
        return logits
