"""The columns of a table: what their values are, and which of them are texts, labels, lists or ids."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from compressor.data.cells import NotText, text_of

Kind = Literal["text", "number", "list", "answers", "other", "empty"]

MOST_LABELS = 100
"""More labels than this are a mistake, unless each has many rows: `data.text_rows` refuses them."""

_WHOLE = re.compile(r"[-+]?[0-9]{1,18}(\.0*)?")
_SHORT, _LONG = 12, 120
"""Characters of a value, on average, below which it is rather a name than a text, and above which it is no name."""


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        name: Its name.
        values: Its values, one for each row; None where a row has none.
    """

    name: str
    values: Sequence[Any]

    @property
    def plain(self) -> str:
        """The name in small letters, without what separates words."""
        return re.sub(r"[^a-z0-9]", "", self.name.lower())

    @cached_property
    def texts(self) -> list[str]:
        """The values that there are, as texts; nothing of a column of lists or mappings."""
        if not isinstance(self._first, bool | int | float | str):
            return []
        try:
            found = [text_of(value) for value in self.values]
        except NotText:
            return []
        return [text for text in found if text is not None and text.strip()]

    @cached_property
    def kind(self) -> Kind:
        """What the values are."""
        if self._first is None:
            return "empty"
        there = [value for value in self.values if value is not None]
        if all(isinstance(value, list) for value in there):
            return "list"
        if all(isinstance(value, dict) and {"text", "answer_start"} <= value.keys() for value in there):
            return "answers"
        if not self.texts:
            return "other" if not all(isinstance(value, str) for value in there) else "empty"
        return "number" if all(map(is_number, self.texts)) else "text"

    @property
    def _first(self) -> Any:
        return next((value for value in self.values if value is not None), None)

    @property
    def blank_row(self) -> int | None:
        """The first row without a value, from 1; None if all have one."""
        for number, value in enumerate(self.values, 1):
            if value is None or (isinstance(value, str) and not value.strip()):
                return number
        return None

    @cached_property
    def counts(self) -> Counter[str]:
        """How often each value occurs."""
        return Counter(self.texts)

    @cached_property
    def characters(self) -> float:
        """Characters of a value, on average."""
        return sum(map(len, self.texts)) / max(1, len(self.texts))

    @property
    def whole(self) -> bool:
        """Whether the numbers are whole."""
        return self.kind == "number" and all(map(_WHOLE.fullmatch, self.counts))

    @property
    def points(self) -> bool:
        """Whether numbers are written with a decimal point."""
        return any("." in text for text in self.counts)

    @property
    def may_label(self) -> bool:
        """Whether the values can be labels: more than one, and not one for each row."""
        return 2 <= len(self.counts) <= max(MOST_LABELS, len(self.texts) // 4) and not self.is_id

    @property
    def repeats(self) -> bool:
        """Whether there are few different values, as of labels."""
        return self.may_label and 2 * len(self.counts) <= len(self.texts)

    @property
    def repeats_in_groups(self) -> bool:
        """Whether the values, which may be many, stand in two rows each or more, on average."""
        return self.blank_row is None and 2 <= len(self.counts) and 2 * len(self.counts) <= len(self.texts)

    @property
    def is_id(self) -> bool:
        """Whether each row has a value of its own."""
        return len(self.texts) > 2 and len(self.counts) == len(self.texts)

    @property
    def reads_as_text(self) -> bool:
        """Whether the values are texts, and not the names of something."""
        return self.kind == "text" and (not self.repeats or (self._spaced and self.characters >= _SHORT))

    @property
    def is_prose(self) -> bool:
        """Whether the values are too long, or too different for what they are, to be names."""
        prose = self._spaced and not self.repeats and len(self.counts) > 1
        return self.kind == "text" and (prose or self.characters > _LONG)

    @property
    def _spaced(self) -> bool:
        return sum(" " in text.strip() for text in self.texts) > len(self.texts) / 2

    def items(self) -> list[Any]:
        """What the lists hold, at most 1000 of it."""
        found: list[Any] = []
        for value in self.values:
            found += value if isinstance(value, list) else []
            if len(found) >= 1000:
                break
        return found[:1000]


def of(names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> list[Column]:
    """The columns of some rows that have a value anywhere."""
    found = [Column(name, [row.get(name) for row in rows]) for name in names]
    return [column for column in found if column.kind != "empty"]


def is_number(text: str) -> bool:
    """Whether a text is a finite number."""
    try:
        return math.isfinite(float(text)) and "_" not in text
    except ValueError:
        return False
