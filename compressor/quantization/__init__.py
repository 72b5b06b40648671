"""Quantization: a float ONNX graph in, a graph with small weights out. One file for each scheme.

To add one: a file with `write(source, target, settings, ranges)` and a `Scheme`, and a line in `_SCHEMES` below.
`write` reads the float graph with `weight_matrices.read` and leaves in float what `settings.stays_float` names; then
`accuracy: {max_drop}` works, which quantizes one matrix at a time. Operators that no scheme has used yet have to be
known to `runtimes.onnx.coverage` and `runtimes.torchscript_int8.operators`, or they count as float and TorchScript
refuses them.
"""

from __future__ import annotations

from compressor.quantization import dynamic_int8, fp16, static_int8, weight_only
from compressor.quantization.base import Ranges, Scheme, Settings

__all__ = ["SCHEMES", "Ranges", "Scheme", "Settings"]

_SCHEMES = (
    dynamic_int8.SCHEME,
    static_int8.SCHEME,
    static_int8.TRAINED,
    weight_only.INT8,
    weight_only.INT4,
    fp16.SCHEME,
)

SCHEMES: dict[str, Scheme] = {scheme.name: scheme for scheme in _SCHEMES}
"""Schemes by their names in recipes."""
