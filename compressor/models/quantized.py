"""What a checkpoint's quantized files hold: a small record beside them, for the formats that are made from it later."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

FILE = "quantization.json"
"""The record's name in a checkpoint's folder."""

Precision = Literal["int8", "int4", "fp16"]
"""What most weights are stored in."""

PRECISIONS: dict[int, Precision] = {4: "int4", 8: "int8", 16: "fp16"}
"""Precisions by the bits of a weight."""

ONNX_FILES: dict[Precision, Path] = {
    "int8": Path("onnx") / "model_quantized.onnx",
    "int4": Path("onnx") / "model_q4.onnx",
    "fp16": Path("onnx") / "model_fp16.onnx",
}
"""Where a checkpoint's folder keeps a quantized graph: the names that transformers.js looks for (`dtype`)."""

DTYPES: dict[Precision, str] = {"int8": "q8", "int4": "q4", "fp16": "fp16"}
"""What transformers.js calls a precision."""


@dataclass(frozen=True)
class QuantizedFile:
    """One quantized file, and what was chosen for it; see `compressor.quantization.spec` for the words.

    Attributes:
        scheme: The scheme's name.
        precision: Of most weights.
        file: The graph, in the checkpoint's folder.
        integer_products: Whether products are of integers; else weights become floats again as they are used.
        embeddings: Bits of the numbers in the tokens' table; 32 where tables stay in float. With products of integers
            the other tables have 8 where it has 4.
        per_channel: One scale per output channel.
        block_size: Neighbouring weights that share a scale; None for schemes without blocks.
        keep_float: Names and patterns of the matrices that stay in float: the recipe's, and those that its accuracy
            budget has chosen.
    """

    scheme: str
    precision: Precision
    file: str
    integer_products: bool
    embeddings: int
    per_channel: bool
    block_size: int | None
    keep_float: tuple[str, ...]


def write(folder: Path, entries: Sequence[QuantizedFile]) -> None:
    """Writes the record of a checkpoint's folder, an entry for each quantized file in it."""
    text = json.dumps([asdict(entry) for entry in entries], indent=2)
    (folder / FILE).write_text(f"{text}\n", encoding="utf-8")


def read(folder: Path) -> tuple[QuantizedFile, ...]:
    """The record of a checkpoint's folder; empty where nothing is quantized.

    Raises:
        ValueError: There is a record, and it cannot be read.
    """
    path = folder / FILE
    if not path.is_file():
        return ()
    try:
        return tuple(_entry(**entry) for entry in json.loads(path.read_bytes()))
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"{path} is not a record of quantized files ({error}); copy the folder again") from None


def _entry(*, precision: Precision, keep_float: Sequence[str], **others: Any) -> QuantizedFile:
    if precision not in PRECISIONS.values():
        raise ValueError(f"precision is {precision!r}, not one of {', '.join(PRECISIONS.values())}")
    return QuantizedFile(precision=precision, keep_float=tuple(keep_float), **others)
