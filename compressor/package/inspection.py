"""The contents of a checkpoint or an exported file: parameters stored and called, bytes by part, types, operators."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable
from pathlib import Path

from compressor.errors import Problem, RecipeError
from compressor.files import suffix
from compressor.models.checking import check
from compressor.models.checkpoint import Checkpoint
from compressor.models.families import FAMILIES
from compressor.runtimes import RUNTIMES
from compressor.runtimes.inspection import Inspection, Weight, part_of

_SAFETENSORS_BITS = {"F64": 64, "F32": 32, "F16": 16, "BF16": 16, "I64": 64, "I32": 32, "I16": 16, "I8": 8, "U8": 8}
_SAFETENSORS_TYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I8": "int8"}


def inspect(path: Path) -> list[Inspection]:
    """Reads the contents of a checkpoint folder with its exported files, or of one file.

    Args:
        path: A checkpoint folder, or a file of one of `READERS`.

    Raises:
        RecipeError: It is none of these, or cannot be read.
    """
    if path.is_dir():
        check(path, str(path))
        return [_inspect_file(file) for file in sorted(path.rglob("*")) if suffix(file) in READERS]
    if not path.is_file():
        raise RecipeError([Problem(str(path), "no such file or folder", kind="not_found")])
    if suffix(path) not in READERS:
        raise RecipeError(
            [Problem(str(path), "cannot be inspected", f"allowed: folders, {', '.join(READERS)}", kind="unsupported")]
        )
    return [_inspect_file(path)]


def _inspect_file(path: Path) -> Inspection:
    try:
        return READERS[suffix(path)](path)
    except Exception as error:  # each library has errors of its own for a file that is damaged
        raise RecipeError(
            [Problem(str(path), f"cannot be read: {error}", "save or export it again", kind="unreadable")]
        ) from None


def _safetensors(path: Path) -> Inspection:
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    layers = _uses_of_blocks(path.parent)
    weights = []
    for name, entry in header.items():
        kind, shape = entry["dtype"], tuple(entry["shape"])
        size = math.prod(shape) * _SAFETENSORS_BITS.get(kind, 8) // 8
        uses = next((count for start, count in layers.items() if name.startswith(f"{start}.")), 1)
        weights.append(Weight(name, part_of(name), _SAFETENSORS_TYPES.get(kind, kind), shape, size, uses))
    return Inspection(str(path), path.stat().st_size, tuple(weights), {})


def _uses_of_blocks(folder: Path) -> dict[str, int]:
    """How many layers use each block of a checkpoint that shares weights, by the beginning of its tensors' names."""
    if not (folder / "config.json").is_file():
        return {}
    checkpoint = Checkpoint(folder)
    family = FAMILIES.get(checkpoint.family)
    return {} if family is None else family.shared_blocks(checkpoint.config)


READERS: dict[str, Callable[[Path], Inspection]] = {
    ".safetensors": _safetensors,
    **{runtime.file.suffix: runtime.inspect for runtime in RUNTIMES.values() if runtime.inspectable},
}
"""Reads a file, by its suffix."""
