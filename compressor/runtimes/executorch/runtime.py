"""The runtime: what a checkpoint's .pte file holds, and how it is run.

The file takes one row at a time, because ExecuTorch plans its memory when it exports: of any length up to the model's
longest, at most `program.LONGEST`. Its integers are its own: XNNPACK rounds activations token by token, finer than the
ONNX graph that ships.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from compressor.device.worker import ExecuTorch
from compressor.errors import StageError
from compressor.models.checkpoint import Checkpoint
from compressor.models.quantized import QuantizedFile
from compressor.runtimes.base import Runtime

if TYPE_CHECKING:
    from compressor.runtimes.executorch.program import Tables, Weights

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


def Session(path: Path, threads: int) -> ExecuTorch:
    """Loads a .pte file.

    Args:
        path: The file.
        threads: Of XNNPACK, within an operator; of all sessions of the process.

    Raises:
        StageError: The extra is not installed.
    """
    _check()
    return ExecuTorch(path, threads)


def _check() -> None:
    if missing := RUNTIME.missing():
        raise StageError(f"the target executorch needs {', '.join(missing)}, not installed: {RUNTIME.install}")
