"""The labels of the data in the head's output."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches

from compressor.errors import Problem, RecipeError, did_you_mean, shown, suggest

_UNNAMED = re.compile(r"LABEL_(0|[1-9][0-9]*)")
_MOST_SHOWN = 10


def match(labels: Sequence[str], head: Sequence[str] | None, place: str) -> dict[str, int]:
    """Index of each label of the data in the head's output.

    Labels are matched by name, at last regardless of case. Whole numbers are indices only where the head's outputs have
    no names but `LABEL_0`, `LABEL_1`: in other heads their order is a guess, which `data.labels` replaces.

    Args:
        labels: The data's labels, in order.
        head: Names of a trained head's outputs, in order; None for a head that is made for these labels.
        place: The recipe's key of the labels, for errors.

    Raises:
        RecipeError: A trained head has no output for a label.
    """
    if head is None:
        return {label: index for index, label in enumerate(labels)}
    names = list(head)
    if set(labels) <= set(names):
        return {label: names.index(label) for label in labels}
    if all(map(_UNNAMED.fullmatch, names)) and {f"LABEL_{label}" for label in labels} <= set(names):
        return {label: names.index(f"LABEL_{label}") for label in labels}
    folded = [_folded(name) for name in names]
    asked = [_folded(label) for label in labels]
    if len(set(folded)) == len(names) and len(set(asked)) == len(labels) and set(asked) <= set(folded):
        return {label: folded.index(plain) for label, plain in zip(labels, asked, strict=True)}
    unknown = [label for label in labels if label not in names]
    what = f"the checkpoint's head has the labels {_listed(names)}; the data also has {_listed(unknown)}"
    near = next(iter(get_close_matches(unknown[0], names, 1)), names[0])
    hint = f"say which is which, as in `data.labels: {{{shown(unknown[0])}: {shown(near)}}}` if that is so"
    raise RecipeError([Problem(place, what, f"{hint}, or make a new head with `- stage: finetune`", kind="unknown")])


def check_renamed(renamed: Mapping[str, str], head: Sequence[str]) -> None:
    """Raises RecipeError where `data.labels` names a label that a trained head lacks.

    Args:
        renamed: For labels of the rows, those that they stand for.
        head: Names of the head's outputs.
    """
    unnamed = all(map(_UNNAMED.fullmatch, head))
    there = {_folded(name) for name in head} | {name.removeprefix("LABEL_") for name in head if unnamed}
    found = [
        Problem(
            "data.labels",
            f"{shown(label)} is to be {shown(name)}, and the checkpoint's head has no such label",
            suggest(name, list(head)) if len(head) <= _MOST_SHOWN else did_you_mean(name, head),
            kind="unknown",
        )
        for label, name in renamed.items()
        if _folded(name) not in there
    ]
    if found:
        raise RecipeError(found)


def _folded(name: str) -> str:
    return name.strip().casefold()


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(shown, names[:_MOST_SHOWN])) + (", …" if len(names) > _MOST_SHOWN else "")
