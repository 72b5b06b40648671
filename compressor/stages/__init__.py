"""Stages: functions from a checkpoint on disk to a new checkpoint on disk. One module each, found by name.

A stage module has `run(source, output, spec, context) -> Facts`. It reads the checkpoint folder `source`, fills the
empty folder `output`, and knows nothing of gates, measurements, the store or other stages.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from compressor import quantization
from compressor.stages.base import StageSpec
from compressor.stages.quantize import QuantizeSpec
from compressor.training.context import Context, Facts

Run = Callable[[Path, Path, Any, Context], Facts]


def module_name(kind: str) -> str:
    """Dotted name of a stage's module."""
    return f"compressor.stages.{kind}"


def modules(spec: StageSpec) -> list[str]:
    """Dotted names of the modules whose code, with what they import, does a stage's work: some are found by name."""
    ways = [quantization.module_name(spec.backend, spec.scheme)] if isinstance(spec, QuantizeSpec) else []
    return [module_name(spec.kind), *ways]


def get(kind: str) -> Run:
    """The `run` function of a kind of stage."""
    run: Run = import_module(module_name(kind)).run
    return run
