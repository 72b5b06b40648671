"""Converts a checkpoint to an ML program and saves it as an .mlpackage, with weights in fp16, int8 or int4."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from compressor.errors import StageError
from compressor.models.quantized import PRECISIONS, QuantizedFile
from compressor.runtimes import tracing
from compressor.runtimes.coreml import package

if TYPE_CHECKING:
    from coremltools.optimize.coreml import OpLinearQuantizerConfig

_MASKED = -1e4
"""Added to attention scores of padding. The smallest float32 would be -inf in fp16, and -inf times 0 is NaN."""
_SMALLEST = 1000
"""Elements from which a tensor is made small; below, its scales would take as much."""
_HALF = 16
_LEAST_BLOCK = 8
"""Weights that share a scale, at least: with fewer, scales would take more than what they save."""


def write(source: Path, path: Path, chosen: QuantizedFile | None) -> None:
    """Converts a checkpoint; rows are taken one at a time, of any length that the model takes.

    Args:
        source: Checkpoint folder.
        path: The package, a folder; one that is there is replaced.
        chosen: How weights are stored, as a stage has chosen it for the ONNX file; None for fp16. Products are of
            halves in any case: weights become halves again as they are used.

    Raises:
        StageError: The converter does not know an operator of the model.
    """
    import coremltools as ct

    module = tracing.load(source, "eager")
    module.masked = _MASKED
    longest = int(module.model.config.max_position_embeddings)
    example = tuple(tensor[:1].to(torch.int32) for tensor in tracing.example_inputs(module))
    length = ct.RangeDim(1, longest, default=min(64, longest))
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(module, example, check_trace=False)  # type: ignore[no-untyped-call]  # torch.jit is untyped
        try:
            model = ct.convert(
                traced,
                inputs=[ct.TensorType(name, shape=(1, length), dtype=np.int32) for name in module.input_names],
                outputs=[ct.TensorType(name, dtype=np.float32) for name in module.output_names],
                convert_to="mlprogram",
                compute_precision=ct.precision.FLOAT16,
                # Scales of blocks, and 4 bits, came with iOS 18.
                minimum_deployment_target=ct.target.iOS18 if chosen and chosen.block_size else ct.target.iOS16,
                skip_model_load=True,
            )
            model = model if chosen is None else _smaller(model, module.model, chosen)
        except (NotImplementedError, ValueError, RuntimeError) as error:
            reason = str(error).strip().splitlines()
            raise StageError(f"export to coreml: {reason[-1] if reason else type(error).__name__}") from error
    shutil.rmtree(path, ignore_errors=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    model.save(str(path))
    package.name_items(path)


def _smaller(program: Any, model: nn.Module, chosen: QuantizedFile) -> Any:
    """The program with its matrices and tables in integers."""
    import coremltools.optimize.coreml as cto

    bits = _bits(model, chosen)
    matrices = {
        name: found.val
        for name, found in cto.get_weights_metadata(program, weight_threshold=_SMALLEST).items()
        if found.val.ndim == 2 and found.val.dtype.kind == "f"
    }
    settings = {
        name: _setting(value.shape[1], wanted, chosen)
        for name, value in matrices.items()
        # What the converter has changed is none that the model names, and is a matrix like the others.
        if (wanted := bits.get(_content(value), _weight_bits(chosen))) < _HALF
    }
    if not settings:
        return program
    return cto.linear_quantize_weights(program, cto.OptimizationConfig(op_name_configs=settings))


def _setting(width: int, bits: int, chosen: QuantizedFile) -> OpLinearQuantizerConfig:
    """How a matrix with rows of a width is rounded.

    In blocks that its rows divide into, or it would stay in fp16 with a warning only. Where there are none, by row.
    """
    import coremltools.optimize.coreml as cto

    grain: dict[str, Any] = {"granularity": "per_channel" if chosen.per_channel else "per_tensor"}
    if chosen.block_size is not None:
        size = next(size for size in range(chosen.block_size, 0, -1) if width % size == 0)
        if size >= _LEAST_BLOCK:
            grain = {"granularity": "per_block", "block_size": size}
        else:
            bits = 8
    return cto.OpLinearQuantizerConfig(mode="linear_symmetric", dtype=f"int{bits}", weight_threshold=_SMALLEST, **grain)


def _bits(model: nn.Module, chosen: QuantizedFile) -> Mapping[bytes, int]:
    """Bits of each matrix and table of the model, by its content: what two parts share gets the more of both."""
    found: dict[bytes, int] = {}
    for name, part in model.named_modules():
        if isinstance(part, nn.Linear | nn.Embedding):
            stays = any(fnmatchcase(name, pattern) for pattern in chosen.keep_float)
            wanted = chosen.embeddings if isinstance(part, nn.Embedding) else _weight_bits(chosen)
            content = _content(part.weight.detach().numpy())
            found[content] = max(found.get(content, 0), _HALF if stays else wanted)
    return found


def _weight_bits(chosen: QuantizedFile) -> int:
    return next(bits for bits, precision in PRECISIONS.items() if precision == chosen.precision)


def _content(value: NDArray[np.floating[Any]]) -> bytes:
    return value.astype(np.float16).tobytes()
