"""Ranges of the activations, found by running a float graph on training rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from compressor.context import Context
from compressor.progress import Step
from compressor.quantization import Ranges
from compressor.recipe_deployment import QuantizeSpec


def ranges(
    graph: Path, checkpoint: Path, spec: QuantizeSpec, context: Context, step: Step
) -> tuple[Ranges, dict[str, Any]]:
    """For each weight matrix, the range of what it is multiplied with, and how it was found."""
    raise NotImplementedError
