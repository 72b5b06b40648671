"""Whether times of a device say what it can do: not if it throttled, grew slower, or was busy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

_SLOWER = 1.15
"""Growth of all files' times, from the first third of a process's rounds to the last, that is no coincidence."""
_INTERRUPTED = 0.2
"""Share of calls, each retried, during which another process had the core."""
_LEAST_OF_DRIFT, _LEAST_MS = 30, 1000.0
"""Rounds, and milliseconds of all calls, below which a processor has no time to grow hot."""


def disturbed(header: Mapping[str, Any], times: list[NDArray[np.float64]]) -> list[str]:
    """Why the times of one process say nothing of what the device can do; empty if they do.

    Args:
        header: The worker's: its `state` `before` and `after`, and `disturbed` calls.
        times: Milliseconds of each file, in the order measured.
    """
    found, rounds = [], len(times[0])
    before, after = ({**(header.get(name) or {})} for name in ("before", "after"))
    if after.get("throttled", 0) > before.get("throttled", 0):
        found.append("the device throttled its processor while it was timed: let it cool down")
    third = rounds // 3
    if rounds >= _LEAST_OF_DRIFT and sum(float(each.sum()) for each in times) >= _LEAST_MS:
        growth = min(float(np.median(each[-third:]) / np.median(each[:third])) for each in times)
        if growth > _SLOWER:
            warm = f", at {after['temperature_c']:.0f} °C" if "temperature_c" in after else ""
            found.append(f"the device grew slower by {growth - 1:.0%} while it was timed{warm}: let it cool down")
    if header.get("disturbed", 0) > _INTERRUPTED * rounds * len(times):
        found.append("the device is busy with other processes: end them, or set threads to fewer than its cores")
    return found
