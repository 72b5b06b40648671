"""neural-compressor as the library that chooses integers and ranges, an extra: `backend: neural_compressor`.

To add an algorithm: a module with a class that satisfies `backend.Algorithm` and with `make(quantizer, context)`, and a
line in `ALGORITHMS`.
"""

from __future__ import annotations

from compressor.quantization.neural_compressor import static, weight_only
from compressor.quantization.neural_compressor.backend import INSTALL, LIBRARIES, Make

__all__ = ["ALGORITHMS", "INSTALL", "LIBRARIES", "NAME"]

NAME = "neural_compressor"

ALGORITHMS: dict[str, Make] = {
    "static_int8": static.make,
    "weight_only_int8": weight_only.make,
    "weight_only_int4": weight_only.make,
}
"""Its algorithms, by the scheme that each is for."""
