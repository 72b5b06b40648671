"""Converts a checkpoint to an ML program and saves it as an .mlpackage, with weights in fp16, int8 or int4."""

from __future__ import annotations

import shutil
import warnings
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import torch
from torch import nn

from compressor.errors import StageError
from compressor.models.block_rounding import SIZES, round_rows
from compressor.models.families import is_token_table
from compressor.models.quantized import PRECISIONS, QuantizedFile
from compressor.runtimes import tracing
from compressor.runtimes.coreml import package

_MASKED = -1e4
"""Added to attention scores of padding. The smallest float32 would be -inf in fp16, and -inf times 0 is NaN."""
_SMALLEST = 1000
"""Elements from which a tensor is made small; below, its scales would take as much."""
_HALF, _INTEGERS = 16, 3
"""Bits of a half; and what the converter calls integers with scales."""
_TABLE_BLOCK = 32
"""Neighbours that share a scale in a 4-bit table beside products of 8 bits."""


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

    module = tracing.load(source, "eager", _MASKED, floats_alone=True)
    longest = module.longest
    example = tuple(tensor[:1].to(torch.int32) for tensor in tracing.example_inputs(module))
    length = ct.RangeDim(1, longest, default=min(64, longest))
    if chosen is not None:
        _round(module.model, chosen)
    in_blocks = chosen is not None and 4 in (chosen.embeddings, _bits(chosen))
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
                minimum_deployment_target=ct.target.iOS18 if in_blocks else ct.target.iOS16,
                skip_model_load=True,
            )
        except (NotImplementedError, ValueError, RuntimeError) as error:
            reason = str(error).strip().splitlines()
            if not reason:
                raise  # `Runtime.export` says where it was raised
            raise StageError(f"export: coreml: {reason[-1]}; leave coreml out of the stage's targets") from error
    shutil.rmtree(path, ignore_errors=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    model.save(str(path))
    package.name_items(path)


def _round(model: nn.Module, chosen: QuantizedFile) -> None:
    """Rounds matrices and tables, in place, and leaves beside each what the converter makes integers of it with.

    What two parts share is rounded once, with the more bits of both.
    """
    bits: dict[torch.Tensor, int] = {}
    parts = [(name, part) for name, part in model.named_modules() if isinstance(part, nn.Linear | nn.Embedding)]
    for name, part in parts:
        stays = any(fnmatchcase(name, pattern) for pattern in chosen.keep_float)
        wanted = _HALF if stays else _wanted(name, part, chosen)
        bits[part.weight] = max(bits.get(part.weight, 0), wanted)
    scales: dict[torch.Tensor, tuple[int, torch.Tensor]] = {}
    for _, part in parts:
        if bits[part.weight] == _HALF or part.weight.numel() < _SMALLEST:
            continue
        if part.weight not in scales:
            scales[part.weight] = _rounded(part.weight, bits[part.weight], chosen)
        of, scale = scales[part.weight]
        found = {"compression_type": torch.tensor([_INTEGERS]), "quantization_n_bits": of, "quantization_scale": scale}
        for key, value in found.items():
            part.register_buffer(f"_COREML_/weight/{key}", torch.as_tensor(value))


def _wanted(name: str, part: nn.Module, chosen: QuantizedFile) -> int:
    """Bits of a matrix or a table."""
    if not isinstance(part, nn.Embedding):
        return _bits(chosen)
    # Tables of positions and of types are small, and every token gets the error of theirs.
    other = chosen.embeddings == 4 and chosen.integer_products and not is_token_table(name)
    return 8 if other else min(chosen.embeddings, _HALF)


def _rounded(weight: torch.Tensor, bits: int, chosen: QuantizedFile) -> tuple[int, torch.Tensor]:
    """Rounds a matrix, in place; its bits, and its scales `(rows, blocks)`.

    4 bits are in blocks that divide a row. Where there are none, and with 8 bits, a row has a scale.
    """
    value = weight.detach().numpy()
    sizes = [size for size in SIZES if value.shape[1] % size == 0 and size <= (chosen.block_size or _TABLE_BLOCK)]
    if bits == 4 and sizes:
        blocks = round_rows(value, bits, sizes[-1])
        weight.data = torch.from_numpy(blocks.floats())
        return bits, torch.from_numpy(blocks.scales.astype(np.float32))
    largest = np.abs(value).max(axis=1 if chosen.per_channel else None, keepdims=True)
    scale = np.maximum(largest / 127, np.finfo(np.float16).tiny).astype(np.float16).astype(np.float32)
    weight.data = torch.from_numpy(np.clip(np.round(value / scale), -127, 127) * scale)
    return 8, torch.from_numpy(scale)


def _bits(chosen: QuantizedFile) -> int:
    """Bits of matrices."""
    return next(bits for bits, precision in PRECISIONS.items() if precision == chosen.precision)
