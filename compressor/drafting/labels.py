"""The labels of the rows in a trained head: whether it has them, and under which names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from compressor.errors import RecipeError
from compressor.tasks import label_names

_UNNAMED = re.compile(r"LABEL_[0-9]+")
_LEAST = 3
"""Letters that the short form of a name has at least, such as `pos` of `positive`."""


@dataclass(frozen=True)
class Fit:
    """How a head fits the labels.

    Attributes:
        fits: Whether it has an output for each of them.
        renamed: What labels are called there, where that differs and is not found by itself: the key `data.labels`.
        assumed: Why, where that may be otherwise; or why the head does not fit.
    """

    fits: bool
    renamed: dict[str, str] = field(default_factory=dict)
    assumed: str = ""


def fit(labels: Sequence[str], head: Sequence[str]) -> Fit:
    """How the outputs of a trained head fit the labels of the rows.

    Args:
        labels: The labels, or tags.
        head: Names of the outputs, in order.
    """
    try:
        label_names.match(labels, head, "data.label")
        return Fit(True)
    except RecipeError:
        pass
    named = ", ".join(head[:6]) + (", …" if len(head) > 6 else "")
    if all(map(_UNNAMED.fullmatch, head)):
        return Fit(False, assumed=f"the checkpoint's head calls its labels {named}, which says nothing of their order")
    if numbered := _numbered(labels, head):
        order = ", ".join(f"{label} is {name}" for label, name in list(numbered.items())[:4])
        return Fit(True, numbered, f"numbers count the head's labels from 0 ({order}); see the model's card")
    short = {label: name for label in labels if (name := _alike(label, head)) is not None}
    if len(short) == len(labels) and len(set(short.values())) == len(labels):
        renamed = {label: name for label, name in short.items() if label != name}
        return Fit(True, renamed, "labels of like names are the same")
    return Fit(False, assumed=f"the checkpoint's head has other labels ({named})")


def _numbered(labels: Sequence[str], head: Sequence[str]) -> dict[str, str]:
    """The names of labels that are numbers, 0 the first of the head's; empty if they are not."""
    numbers = {label: label.partition(".")[0] for label in labels}
    if not all(number.isdecimal() and float(label) == int(number) for label, number in numbers.items()):
        return {}
    if any(int(number) >= len(head) for number in numbers.values()):
        return {}
    return {label: head[int(numbers[label])] for label in sorted(labels, key=float)}


def _alike(label: str, head: Sequence[str]) -> str | None:
    """The one name of the head that differs from a label in case, in marks, or by a longer ending."""
    prefix, plain = _plain(label)
    forms = [(name, *_plain(name)) for name in head]
    same = [name for name, start, other in forms if start == prefix and other == plain]
    if not same and len(plain) >= _LEAST:
        same = [
            name
            for name, start, other in forms
            if start == prefix and len(other) >= _LEAST and (other.startswith(plain) or plain.startswith(other))
        ]
    return same[0] if len(same) == 1 else None


def _plain(name: str) -> tuple[str, str]:
    """The prefix of a tag, and the rest in small letters without marks."""
    tagged = re.fullmatch(r"([BIESLU])-(.+)", name)
    prefix, rest = tagged.groups() if tagged else ("", name)
    return prefix, re.sub(r"[\W_]", "", rest.casefold())
