"""Axes: values to coordinates, and round tick marks."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

_STEPS = (1.0, 2.0, 5.0)


@dataclass(frozen=True)
class Scale:
    """An axis.

    Attributes:
        low: Value at `start`.
        high: Value at `end`; above `low`.
        start: Coordinate of `low`.
        end: Coordinate of `high`; smaller than `start` on an upward axis.
        log: Whether equal distances are equal ratios.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    @classmethod
    def around(
        cls, values: Iterable[float], start: float, end: float, log: bool = False, margin: float = 0.08
    ) -> Scale:
        """A scale that shows all values.

        Args:
            values: At least one; positive if `log`.
            start: Coordinate of its low end.
            end: Coordinate of its high end.
            log: Whether equal distances are equal ratios.
            margin: Share of the values' range that is left free on either side.
        """
        found = [math.log(value) if log else value for value in values]
        low, high = min(found), max(found)
        if high - low <= 1e-9 * max(abs(low), abs(high)):
            free = 0.5 if log else abs(low) / 10 or 1.0
        else:
            free = margin * (high - low)
        low, high = low - free, high + free
        return cls(math.exp(low), math.exp(high), start, end, log) if log else cls(low, high, start, end)

    def at(self, value: float) -> float:
        """The coordinate of a value."""
        if self.log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self, most: int = 6) -> list[tuple[float, str]]:
        """Round values within the scale, and how they are written: all with as many digits, unless they are ratios."""
        values = self._round(most)
        written = [f"{value:.6g}" for value in values]
        if self.log:
            return list(zip(values, written, strict=True))
        digits = max((len(text.partition(".")[2]) for text in written if "e" not in text), default=0)
        return [(value, f"{value:.{digits}f}") for value in values]

    def _round(self, most: int) -> list[float]:
        """1, 2 or 5 times powers of ten, or evenly spaced values."""
        if self.log:
            exponents = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            for steps in (_STEPS, (1.0,)):
                found = [step * 10.0**exponent for exponent in exponents for step in steps]
                found = [value for value in found if self.low <= value <= self.high]
                if 3 <= len(found) <= most:
                    return found
        return self._even(most)

    def _even(self, most: int) -> list[float]:
        rough = (self.high - self.low) / most
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(step * power for step in (*_STEPS, 10.0) if step * power >= rough)
        return [count * step for count in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)]
