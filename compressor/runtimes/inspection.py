"""Contents of an exported file, as each runtime reads its own: weights, their types and parts, operators."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

_PARTS = (
    ("token embeddings", r"word_embeddings|vocab_projector|decoder"),
    ("other embeddings", r"embeddings|embedding_hidden_mapping"),
    ("attention", r"attention|q_lin|k_lin|v_lin|out_lin|sa_layer_norm"),
    ("feed-forward", r"intermediate|ffn|feed_forward|lin1|lin2|full_layer|layer\.\d+[./]output|output_layer"),
)
"""Parts by what the name of a tensor, or of the operator that reads it, contains; the first that fits counts."""
_REST = "head"


@dataclass(frozen=True)
class Weight:
    """A tensor that is stored.

    Attributes:
        name: In the file.
        part: What it belongs to.
        type: Such as `float32` or `int8`.
        shape: Its shape.
        size_bytes: What it takes, of packed integers with their scales.
        uses: How many layers or operators read it.
    """

    name: str
    part: str
    type: str
    shape: tuple[int, ...]
    size_bytes: int
    uses: int

    @property
    def parameters(self) -> int:
        """Its elements."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Inspection:
    """The contents of a file.

    Attributes:
        path: The file.
        size_bytes: The file's size.
        weights: Every tensor that is stored.
        operators: How often each kind of operator occurs; empty for a checkpoint, which is no graph.
        quantized_coverage: Share of weight matrices that run as integers; None where that is not known.
        saturation: Products that are clipped on some processors, see `compressor.runtimes.onnx.saturation`; empty where
            there are none, None where that is not known.
    """

    path: str
    size_bytes: int
    weights: tuple[Weight, ...]
    operators: Mapping[str, int]
    quantized_coverage: float | None = None
    saturation: Mapping[str, Any] | None = None

    @property
    def stored(self) -> int:
        """Parameters in the file."""
        return sum(weight.parameters for weight in self.weights)

    @property
    def called(self) -> int:
        """Parameters as they are used: those of a layer that is called six times count six times."""
        return sum(weight.parameters * weight.uses for weight in self.weights)

    def by_part(self) -> dict[str, dict[str, int]]:
        """`parameters`, `called` and `size_bytes` of each part, largest first."""
        return _sums(self.weights, "part")

    def by_type(self) -> dict[str, dict[str, int]]:
        """`parameters`, `called` and `size_bytes` of each type, largest first."""
        return _sums(self.weights, "type")

    def to_json(self) -> dict[str, object]:
        """For programs."""
        return {
            "path": self.path,
            "size_bytes": self.size_bytes,
            "parameters_stored": self.stored,
            "parameters_called": self.called,
            "quantized_coverage": self.quantized_coverage,
            "saturation": self.saturation,
            "parts": self.by_part(),
            "types": self.by_type(),
            "operators": dict(self.operators),
            "weights": [
                {"name": w.name, "part": w.part, "type": w.type, "shape": list(w.shape), "uses": w.uses}
                for w in self.weights
            ],
        }


def _sums(weights: Iterable[Weight], by: str) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for weight in weights:
        entry = found.setdefault(getattr(weight, by), {"parameters": 0, "called": 0, "size_bytes": 0})
        entry["parameters"] += weight.parameters
        entry["called"] += weight.parameters * weight.uses
        entry["size_bytes"] += weight.size_bytes
    return dict(sorted(found.items(), key=lambda item: -item[1]["size_bytes"]))


def part_of(name: str) -> str:
    """The part of the model that a tensor, or an operator that reads it, belongs to by its name."""
    return next((part for part, pattern in _PARTS if re.search(pattern, name)), _REST)
