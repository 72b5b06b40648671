"""The target of a draft: limits on size and latency, as `size=10MB,latency=5ms`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from compressor.errors import Problem, RecipeError, shown, suggest

PLACE = "--target"

_UNITS = {
    "size": {
        "B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30,
    },
    "latency": {"us": 1e-3, "µs": 1e-3, "ms": 1, "s": 1e3},
}  # fmt: skip
"""Bytes and milliseconds of each unit, which may be written in capitals or small letters."""

_LIMIT = re.compile(r"([0-9]+(?:\.[0-9]+)?|\.[0-9]+)\s*([A-Za-zµ]*)")
_MOST = {"size": (4e9, "4 GB"), "latency": (1e6, "1000 s")}
_EXAMPLE = "such as size=10MB,latency=5ms"


@dataclass(frozen=True)
class Budget:
    """Limits that the file that ships has to meet.

    Attributes:
        size_bytes: At most so many bytes; None for any.
        latency_ms: At most so many milliseconds for a row, at the median; None for any.
    """

    size_bytes: int | None = None
    latency_ms: float | None = None


def parse(text: str) -> Budget:
    """The target that a text says; sizes are in B, kB, MB, GB or KiB, MiB, GiB, latencies in us, ms or s.

    Raises:
        RecipeError: It says something else; reports every part that is wrong.
    """
    found: dict[str, float] = {}
    problems = []
    for part in text.split(","):
        name, equals, limit = (piece.strip() for piece in part.partition("="))
        if name not in _UNITS or not equals:
            what = f"unknown limit {shown(name)}" if equals else f"{shown(part.strip())} is not a limit"
            hint = suggest(name, list(_UNITS)) if equals else f"give limits {_EXAMPLE}"
            problems.append(Problem(PLACE, what, hint, kind="unknown"))
        elif name in found:
            problems.append(Problem(PLACE, f"{name} is given twice", "keep one", kind="conflict"))
        elif isinstance(value := _amount(limit, name), Problem):
            problems.append(value)
        else:
            found[name] = value
    if problems:
        raise RecipeError(problems)
    return Budget(int(found["size"]) if "size" in found else None, found.get("latency"))


def _amount(limit: str, name: str) -> float | Problem:
    """Bytes or milliseconds."""
    units = _UNITS[name]
    matched = _LIMIT.fullmatch(limit)
    factor = next((units[unit] for unit in units if matched and matched[2].lower() == unit.lower()), None)
    if matched is None or factor is None:
        what = f"{name} is {shown(limit)}, must be a number with a unit"
        return Problem(PLACE, what, f"allowed: {', '.join(units)}; {_EXAMPLE}", kind="type")
    value = float(matched[1]) * factor
    most, written = _MOST[name]
    if not 0 < value <= most or (name == "size" and value < 1):
        what = f"{name} is {shown(limit)}, must be above 0 and at most {written}"
        return Problem(PLACE, what, f"give limits {_EXAMPLE}", kind="value")
    return value
