"""The labels of the data in the head's output."""

from __future__ import annotations

import re
from collections.abc import Sequence

from compressor.errors import Problem, RecipeError, shown

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
    folded = [name.strip().casefold() for name in names]
    asked = [label.strip().casefold() for label in labels]
    if len(set(folded)) == len(names) and len(set(asked)) == len(labels) and set(asked) <= set(folded):
        return {label: folded.index(plain) for label, plain in zip(labels, asked, strict=True)}
    unknown = [label for label in labels if label not in names]
    what = f"the checkpoint's head has the labels {_listed(names)}; the data also has {_listed(unknown)}"
    hint = (
        f"say which is which, as in `data.labels: {{{shown(unknown[0])}: {shown(names[0])}}}` if that is so, or make "
    )
    raise RecipeError([Problem(place, what, f"{hint}or make a new head with `- stage: finetune`", kind="unknown")])


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(shown, names[:_MOST_SHOWN])) + (", …" if len(names) > _MOST_SHOWN else "")
