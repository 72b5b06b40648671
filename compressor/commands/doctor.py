"""What is installed, what this machine can do, and what is missing for which extra. Imports nothing to find out."""

from __future__ import annotations

import re
from importlib import metadata

from compressor.host import DISTRIBUTION, environment


def rows() -> list[tuple[str, str]]:
    """Names and values: versions, machine, CPU features, threads."""
    return [(name, str(value)) for name, value in environment().items()]


def missing() -> dict[str, list[str]]:
    """For each extra, the packages it needs that are not installed; `""` stands for the plain installation."""
    gaps: dict[str, list[str]] = {}
    for requirement in metadata.requires(DISTRIBUTION) or []:
        name = re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]
        extra = re.search(r"extra == ['\"]([^'\"]+)['\"]", requirement)
        absent = gaps.setdefault(extra[1] if extra else "", [])
        try:
            metadata.version(name)
        except metadata.PackageNotFoundError:
            absent.append(name)
    return gaps
