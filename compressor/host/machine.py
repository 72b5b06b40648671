"""This machine and this installation: CPU features, cores, library versions. Imports none of the libraries."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from typing import Any

DISTRIBUTION = "bert-compressor"


_SHOWN = ("torch", "transformers", "onnx", "onnxruntime", "accelerate", "datasets", "numpy", "tokenizers")
"""Libraries that reports and locks name for the whole run; keys have their own lists."""


def versions(libraries: tuple[str, ...] = _SHOWN) -> dict[str, str]:
    """Installed versions, found without importing anything."""
    return {library: metadata.version(library) for library in libraries}


@cache
def host() -> dict[str, Any]:
    """The properties of this machine that decide speed and which kernels run."""
    from compressor.device.worker import machine

    return machine()


def processor() -> dict[str, Any]:
    """The machine without its number of cores: the part that decides results, not speed."""
    return {name: value for name, value in host().items() if name != "cores"}


def saturates(machine: Mapping[str, Any]) -> bool:
    """Whether ONNX Runtime adds 8-bit products in 16 bits, where sums are clipped: on x86 without VNNI.

    Args:
        machine: As `host` gives it.

    Source: ONNX Runtime, "Quantize ONNX models", section "When and why do I need to try U8U8?".
    """
    return machine["machine"] in ("x86_64", "AMD64") and "vnni" not in str(machine["cpu_features"])


def environment() -> dict[str, Any]:
    """Versions and machine, for reports."""
    package = metadata.version(DISTRIBUTION) if installed(DISTRIBUTION) else "not installed"
    python = ".".join(str(part) for part in sys.version_info[:3])
    return {DISTRIBUTION: package, "python": python, **versions(), **host()}


def installed(distribution: str) -> bool:
    """Whether a library is there, found without importing it."""
    try:
        metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True


def missing_libraries() -> dict[str, list[str]]:
    """For each extra, the packages it needs that are not installed; `""` stands for the plain installation."""
    gaps: dict[str, list[str]] = {}
    for requirement in metadata.requires(DISTRIBUTION) or []:
        name = re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]
        extra = re.search(r"extra == ['\"]([^'\"]+)['\"]", requirement)
        absent = gaps.setdefault(extra[1] if extra else "", [])
        if not installed(name):
            absent.append(name)
    return gaps
