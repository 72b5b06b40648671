"""Quantization: a float graph in, a graph with small weights out. One module for each way of doing it.

A module has `write(source, target, settings, ranges)`, and a line in `WAYS`. What they have in common, such as which
matrices there are and what they are called, is in `matrices`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

Ranges = Mapping[str, tuple[float, float]]
"""For each weight matrix, by name, the least and the greatest value that it is multiplied with."""


@dataclass(frozen=True)
class Settings:
    """How weights become small.

    Attributes:
        bits: Of a weight: 8, or 4 for weight-only schemes.
        per_channel: One scale per output channel.
        embeddings: Quantize embedding tables too.
        reduce_range: 7-bit weights.
        block_size: Neighbouring weights that have one scale together, in weight-only schemes.
        keep_float: Names or patterns of matrices that stay in float.
    """

    bits: int = 8
    per_channel: bool = True
    embeddings: bool = True
    reduce_range: bool = False
    block_size: int = 32
    keep_float: tuple[str, ...] = ()

    def keeps(self, name: str) -> bool:
        """Whether a matrix stays in float."""
        return any(fnmatchcase(name, pattern) for pattern in self.keep_float)

    def keeping(self, names: tuple[str, ...]) -> Settings:
        """The same, and more matrices stay in float."""
        return replace(self, keep_float=(*self.keep_float, *names))


class Way(Protocol):
    """A module that quantizes graphs."""

    def write(self, source: Path, target: Path, settings: Settings, ranges: Ranges | None) -> None:
        """Writes the quantized form of a float .onnx file; ranges are given to static schemes."""


WAYS = {
    ("onnxruntime", "dynamic_int8"): "dynamic_int8",
    ("onnxruntime", "static_int8"): "static_int8",
    ("onnxruntime", "qat_int8"): "static_int8",
    ("onnxruntime", "weight_only_int8"): "weight_only",
    ("onnxruntime", "weight_only_int4"): "weight_only",
    ("onnxruntime", "fp16"): "fp16",
    ("neural_compressor", "static_int8"): "neural_compressor.static",
    ("neural_compressor", "weight_only_int8"): "neural_compressor.weight_only",
    ("neural_compressor", "weight_only_int4"): "neural_compressor.weight_only",
}
"""Which module of this package does it, by backend and scheme; neural-compressor's are run by `neural`."""


def module_name(backend: str, scheme: str) -> str:
    """Dotted name of the module that quantizes graphs."""
    return f"{__name__}.{WAYS[backend, scheme]}"


def way(backend: str, scheme: str) -> Way:
    """The module that quantizes graphs."""
    return cast(Way, import_module(module_name(backend, scheme)))
