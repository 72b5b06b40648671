"""ExecuTorch: export to a .pte file that XNNPACK runs, for apps on phones. An extra; imported when it is used.

The file takes one row at a time, of any length up to the model's longest, because ExecuTorch plans its memory when it
exports. Weights are floats, also where the checkpoint is quantized: XNNPACK rounds activations row by row, other
than the ONNX graph that ships, and would give other labels.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from compressor.errors import StageError
from compressor.models.outputs import LOGITS, SENTENCE_ORDER
from compressor.runtimes.base import Inputs, Outputs, Runtime

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
OUTPUTS = (LOGITS, SENTENCE_ORDER)
"""Names of what a file takes and gives, in its order; it has the first few of them."""


RUNTIME = Runtime(
    name="executorch",
    module=__name__,
    file=Path("executorch") / "model.pte",
    usage="ExecuTorch with XNNPACK; the same inputs, `(1, sequence)`",
    target="executorch",
    extra="executorch",
    requires=("executorch",),
)


def export(source: Path, path: Path) -> None:
    """Lowers a checkpoint to XNNPACK; the length of the row stays free.

    Args:
        source: Checkpoint folder.
        path: The .pte file. Its method `forward` takes `INPUTS`, int64 `(1, sequence)` each, without token types where
            the model has none, and gives the model's outputs in the order of `OUTPUTS`.

    Raises:
        StageError: The extra is not installed.
    """
    _check()
    import torch
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    from compressor.runtimes import tracing

    # Eager attention: the other one guards rows without any token by operators that XNNPACK does not take.
    module = tracing.load(source, "eager")
    longest = int(module.model.config.max_position_embeddings)
    # No size of the example may be 1 but the batch's, or it would be taken for fixed.
    inputs = tuple(tensor[:1].clone() for tensor in tracing.example_inputs(module))
    sequence = torch.export.Dim("sequence", min=1, max=longest)
    free = (tuple({1: sequence} for _ in inputs),)
    with torch.no_grad():
        program = torch.export.export(module, inputs, dynamic_shapes=free, strict=False)
        lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()]).to_executorch()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        lowered.write_to_file(file)


class Session:
    """A .pte file; rows of a batch run one after the other.

    Args:
        path: The file.
        threads: Of XNNPACK, within an operator; of all sessions of the process.

    Raises:
        StageError: The extra is not installed.
    """

    concurrent = False

    def __init__(self, path: Path, threads: int) -> None:
        _check()
        import torch
        from executorch.extension.pybindings import portable_lib
        from executorch.runtime import Runtime

        portable_lib._unsafe_reset_threadpool(threads)  # before anything runs in it
        self._torch = torch
        self._program = Runtime.get().load_program(path)
        self._method = self._program.load_method("forward")
        self._inputs = INPUTS[: self._method.metadata.num_inputs()]
        self._outputs = OUTPUTS[: self._method.metadata.num_outputs()]

    def predict(self, inputs: Inputs) -> Outputs:
        """The model's outputs by name."""
        tensors = [self._torch.from_numpy(np.ascontiguousarray(inputs[name])) for name in self._inputs]
        # What `execute` gives is overwritten by the next call.
        rows = [
            [
                output.numpy().copy()
                for output in self._method.execute([tensor[index : index + 1] for tensor in tensors])
            ]
            for index in range(len(tensors[0]))
        ]
        return {
            name: np.concatenate(column) for name, column in zip(self._outputs, zip(*rows, strict=True), strict=True)
        }


def _check() -> None:
    if missing := RUNTIME.missing():
        raise StageError(f"the target executorch needs {', '.join(missing)}, not installed: {RUNTIME.install}")
