"""The checkpoint itself in torch: the reference that every exported format is held against."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from compressor.runtimes import Inputs


class Session:
    """A checkpoint run by transformers.

    Args:
        path: Checkpoint folder.
        threads: Threads within an operator.
    """

    concurrent = False

    def __init__(self, path: Path, threads: int) -> None:
        import torch

        from compressor import checkpoint

        torch.set_num_threads(threads)
        self._torch = torch
        self._model = checkpoint.load_model(path).eval()
        self._names = checkpoint.input_names(self._model.config.model_type)

    def predict(self, inputs: Inputs) -> NDArray[np.float32]:
        """Logits `(batch, labels)`."""
        with self._torch.inference_mode():
            tensors = {name: self._torch.from_numpy(inputs[name]) for name in self._names}
            logits: NDArray[np.float32] = self._model(**tensors).logits.numpy()
        return logits
