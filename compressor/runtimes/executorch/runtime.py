"""The runtime: what a checkpoint's .pte file holds, and how it is run.

The file takes one row at a time, because ExecuTorch plans its memory when it exports: of any length up to the model's
longest, at most `program.LONGEST`. Its integers are its own: XNNPACK rounds activations token by token, finer than the
ONNX graph that ships.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from compressor.errors import StageError
from compressor.models.checkpoint import Checkpoint
from compressor.models.outputs import EMBEDDING, EMBEDDINGS, END, LOGITS, SENTENCE_ORDER, START, TOKENS
from compressor.models.quantized import QuantizedFile
from compressor.runtimes.base import Inputs, Outputs, Runtime

if TYPE_CHECKING:
    from compressor.runtimes.executorch.program import Tables, Weights

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
"""Names of what a file takes, in its order; it has the first few of them."""
OUTPUTS = {
    (2,): (LOGITS,),
    (3,): (LOGITS,),
    (3, 2): (LOGITS, SENTENCE_ORDER),
    (2, 2): (START, END),
    (2, 3): (EMBEDDING, TOKENS),
}
"""Names of what a file gives, in its order, by the number of axes of each: the file itself has no names."""


_BYTES = {1: EMBEDDINGS["int8"], 0: EMBEDDINGS["binary"]}
"""Names of outputs by ExecuTorch's number of their type: signed and unsigned bytes."""

RUNTIME = Runtime(
    name="executorch",
    module=__name__,
    file=Path("executorch") / "model.pte",
    usage="ExecuTorch with XNNPACK; the same inputs, `(1, sequence)`",
    target="executorch",
    quantizes=True,
    blocks=False,  # XNNPACK has no product of floats with such weights
    extra="executorch",
    requires=("executorch",),
)


def export(source: Path, path: Path) -> None:
    """Lowers a checkpoint to XNNPACK, in the precision that its quantized files have, else in float.

    Args:
        source: Checkpoint folder.
        path: The .pte file; see `program.write`.

    Raises:
        StageError: The extra is not installed.
    """
    _check()
    from compressor.runtimes.executorch import program

    entries = Checkpoint(source).quantizations
    weights, tables = precision(entries[0] if entries else None)
    program.write(source, path, weights, tables, entries[0].keep_float if entries else ())


def precision(quantized: QuantizedFile | None) -> tuple[Weights, Tables]:
    """What a file's matrices and tables are stored in, by what a stage has chosen for the ONNX file.

    Integer products are dynamic here whatever the scheme. Recipes that ship weights in blocks are refused: see
    `Runtime.blocks`.

    Args:
        quantized: The entry of the record; None for a checkpoint in float.
    """
    if quantized is None:
        return "float32", "float32"
    assert quantized.block_size is None, "recipes that ship weights in blocks are refused"
    return "int8" if quantized.integer_products else "float16", _TABLES[quantized.embeddings]


_TABLES: dict[int, Tables] = {32: "float32", 16: "float16", 8: "int8", 4: "int4"}


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
        import executorch.kernels.quantized  # noqa: F401 -- the operators that look up rows of integers
        import torch
        from executorch.extension.pybindings import portable_lib
        from executorch.runtime import Runtime

        portable_lib._unsafe_reset_threadpool(threads)  # before anything runs in it
        self._torch = torch
        self._program = Runtime.get().load_program(path)
        self._method = self._program.load_method("forward")
        self._inputs = INPUTS[: self._method.metadata.num_inputs()]
        meta = self._method.metadata
        self._outputs = _names([meta.output_tensor_meta(at) for at in range(meta.num_outputs())])
        self._longest = int(self._method.metadata.input_tensor_meta(0).sizes()[1])

    def predict(self, inputs: Inputs) -> Outputs:
        """The model's outputs by name.

        Raises:
            StageError: A row is longer than the file takes.
        """
        if (length := inputs[self._inputs[0]].shape[1]) > self._longest:
            raise StageError(f"a row has {length} tokens, and this .pte file takes {self._longest} at most; cut it")
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


def _names(outputs: Sequence[Any]) -> tuple[str, ...]:
    """Names of what a file gives, which has none itself: by `OUTPUTS`, and of vectors in 8 bits by their types."""
    smaller = [_BYTES[entry.dtype()] for entry in outputs if entry.dtype() in _BYTES]
    floats = [entry for entry in outputs if entry.dtype() not in _BYTES]
    return (*OUTPUTS[tuple(len(entry.sizes()) for entry in floats)], *smaller)


def _check() -> None:
    if missing := RUNTIME.missing():
        raise StageError(f"the target executorch needs {', '.join(missing)}, not installed: {RUNTIME.install}")
