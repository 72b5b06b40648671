"""Cells of tables: as text, and compared with the values of `where`."""

from __future__ import annotations

import math
import re
from typing import Any

from compressor.errors import shown
from compressor.spec import Scalar

_NUMBER = re.compile(r"[-+]?(0|[1-9][0-9]{0,40})(\.[0-9]{1,40})?([eE][-+]?[0-9]{1,3})?")
_WORDS = {"true": True, "false": False}


class NotText(ValueError):
    """A cell holds something that is not a text, nor a number or a boolean that can stand for one.

    Args:
        what: What it holds.
        kind: One of `compressor.errors.KINDS`.
    """

    def __init__(self, what: str, kind: str = "type") -> None:
        self.what, self.kind = what, kind
        super().__init__(what)


def as_text(value: Scalar) -> str:
    """A value as text: booleans and whole numbers as YAML writes them."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def text_of(value: Any) -> str | None:
    """A cell as text, numbers and booleans as YAML writes them; None for a cell that holds nothing.

    Raises:
        NotText: It is a list, a mapping, bytes, a date or NaN, or half of a surrogate pair.
    """
    if value is None:
        return None
    if not isinstance(value, bool | int | float | str):
        raise NotText(f"holds {shown(value)}, a {type(value).__name__}")
    if isinstance(value, float) and not math.isfinite(value):
        raise NotText(f"holds {value}, which is neither a text nor a number")
    text = as_text(value)
    try:
        text.encode()
    except UnicodeEncodeError as error:  # JSON can write half of a surrogate pair
        raise NotText(f"is not Unicode: {error.reason}", "unreadable") from None
    return text


def matches(value: Any, limit: Scalar) -> bool:
    """Whether a cell has a value that a recipe names.

    Files without types hold numbers and booleans as text: the number 1 matches 1, 1.0, `1` and `1.0`, true matches
    true, `true` and `True`. Two texts match if they are equal. An empty cell matches nothing but an empty text.
    """
    if not isinstance(value, bool | int | float | str):
        return False
    if isinstance(value, str) and isinstance(limit, str):
        return value == limit
    if isinstance(value, bool) or isinstance(limit, bool):
        return _boolean(value) is not None and _boolean(value) is _boolean(limit)
    return _number(value) is not None and _number(value) == _number(limit)


def _boolean(value: Scalar) -> bool | None:
    if isinstance(value, bool):
        return value
    return _WORDS.get(value.lower()) if isinstance(value, str) else None


def _number(value: Scalar) -> int | float | None:
    if not isinstance(value, str):
        return value
    if not _NUMBER.fullmatch(value):
        return None
    return float(value) if set(value) & set(".eE") else int(value)
