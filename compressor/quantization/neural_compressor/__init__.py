"""neural-compressor as the library that chooses integers and ranges, an extra: `backend: neural_compressor`.

To add an algorithm: a module whose class satisfies `backend.Algorithm`, and a line in `ALGORITHMS`, which maps a
scheme to the module's class.
"""

from __future__ import annotations

from compressor.host import DISTRIBUTION

NAME = "neural_compressor"

LIBRARIES = ("neural-compressor", "torchao")
"""Distributions that it needs: its observers are torchao's."""

INSTALL = f"pip install '{DISTRIBUTION}[neural-compressor]'"

SCHEMES = ("static_int8", "weight_only_int8", "weight_only_int4")
"""Schemes that it has algorithms for."""
