"""Compress BERT checkpoints for devices: recipes in, measured and gated ONNX and TorchScript artifacts out.

The Python API is `run`, `validate`, `plan`, `verify` and `compare`. Importing this package imports nothing heavy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from compressor.pipeline.api import compare, plan, run, validate, verify

__version__ = "0.1.0"

__all__ = ["__version__", "compare", "plan", "run", "validate", "verify"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from compressor.pipeline import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted(__all__)
