"""Settings of a quantized graph, and the entry of a scheme in the table."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal, Protocol

from compressor.models.quantized import PRECISIONS, Precision

Embeddings = bool | Literal["int4"]
"""Whether embedding tables are quantized, and how small."""

Ranges = Mapping[str, tuple[float, float]]
"""For each weight matrix, by name, the range of the activations that it is multiplied with."""


@dataclass(frozen=True)
class Settings:
    """How weights are quantized.

    Attributes:
        bits: Bits of a weight: 8, or 4 for weight-only schemes.
        per_channel: One scale per output channel.
        embeddings: Quantize embedding tables too; `int4`: of schemes with products of 8 bits, the tokens' to 4 bits.
        reduce_range: 7-bit weights.
        block_size: Neighbouring weights that share a scale, in weight-only schemes.
        keep_float: Names or patterns of matrices that stay in float.
        row_ranges: Names of matrices whose activations get a range for each row, where ranges are found as the graph
            runs; see `compressor.quantization.row_ranges`.
    """

    bits: int = 8
    per_channel: bool = True
    embeddings: Embeddings = True
    reduce_range: bool = False
    block_size: int = 32
    keep_float: tuple[str, ...] = ()
    row_ranges: tuple[str, ...] = ()

    def stays_float(self, name: str) -> bool:
        """Whether a matrix stays in float."""
        return any(fnmatchcase(name, pattern) for pattern in self.keep_float)

    def with_float(self, names: tuple[str, ...]) -> Settings:
        """The same settings, with more matrices in float."""
        return replace(self, keep_float=(*self.keep_float, *names))


def unmatched(patterns: Sequence[str], names: Sequence[str]) -> tuple[str, str] | None:
    """The first pattern that matches no name, with a hint; None if all match."""
    for pattern in patterns:
        if any(fnmatchcase(name, pattern) for name in names):
            continue
        if any(fnmatchcase(name, f"*{pattern}") for name in names):
            return pattern, f"did you mean '*{pattern}'? Names are matched as a whole"
        close = difflib.get_close_matches(pattern, names, n=5, cutoff=0)
        return pattern, f"of {len(names)} the closest are {', '.join(close)}"
    return None


class Quantizer(Protocol):
    """Writes a quantized graph."""

    def __call__(self, source: Path, target: Path, settings: Settings, ranges: Ranges | None) -> None:
        """Writes the quantized form of a float .onnx file; ranges are given to calibrated schemes."""


@dataclass(frozen=True)
class Scheme:
    """A way to quantize a float graph.

    Attributes:
        name: The name in recipes.
        help: One sentence for the recipe's reference.
        write: Writes the quantized graph.
        bits: Bits of a weight; 16 for half precision.
        integer: Whether products are integers throughout, with a scale per channel; else weights are stored small.
        calibrated: Whether it needs the ranges of the activations.
        trained: Whether training comes before, with weights and activations rounded as they will be.
        in_blocks: Whether a scale is of `block_size` neighbouring weights.
    """

    name: str
    help: str
    write: Quantizer
    bits: int = 8
    integer: bool = False
    calibrated: bool = False
    trained: bool = False
    in_blocks: bool = False

    @property
    def dynamic(self) -> bool:
        """Whether products are integers throughout and the ranges of their activations are found as the graph runs."""
        return self.integer and not self.calibrated

    @property
    def precision(self) -> Precision:
        """What most weights are stored in."""
        return PRECISIONS[self.bits]
