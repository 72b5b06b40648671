"""The checkpoint itself in torch: the reference that every exported format is held against."""

from __future__ import annotations

from pathlib import Path

from compressor.runtimes.base import Inputs, Outputs, Runtime

RUNTIME = Runtime(name="torch", module=__name__, file=Path(), usage="")


class Session:
    """A checkpoint run by transformers.

    Args:
        path: Checkpoint folder.
        threads: Threads within an operator.
    """

    concurrent = False

    def __init__(self, path: Path, threads: int) -> None:
        import torch

        from compressor.models import checkpoint, loading, outputs

        torch.set_num_threads(threads)
        self._torch = torch
        self._model = loading.load_model(path).eval()
        self._names = checkpoint.input_names(self._model.config.model_type)
        self._by_name = outputs.outputs_by_name

    def predict(self, inputs: Inputs) -> Outputs:
        """The model's outputs by name."""
        with self._torch.inference_mode():
            tensors = {name: self._torch.from_numpy(inputs[name]) for name in self._names if name in inputs}
            given = self._by_name(self._model, self._model(**tensors))
            return {name: tensor.numpy() for name, tensor in given.items()}
