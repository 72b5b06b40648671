"""Whether what a recipe says of its labels is what the files of its rows hold: lists of labels, or single ones."""

from __future__ import annotations

from collections.abc import Mapping

from compressor.errors import Add
from compressor.recipe.document import Recipe
from compressor.tasks import text_classification


def check_lists(recipe: Recipe, lists: Mapping[str, bool | None], add: Add) -> None:
    """Notes keys that files with lists of labels contradict.

    Args:
        recipe: The recipe, with the task that it names.
        lists: Whether the column of labels holds lists, by split; None where no file shows it.
        add: Called with location, what, hint, kind for a problem.
    """
    data = recipe.data
    found = [split for split, holds in lists.items() if holds]
    if recipe.task != text_classification.NAME or not found:
        return
    holds = f"column {data.label!r} of data.{found[0]} holds lists"
    if data.multi_label is False:
        add(("data", "multi_label"), f"is false, and {holds}", "drop it, or name another column", kind="conflict")
    if data.label_separator is not None and all(lists[split] for split in lists if getattr(data, split) is not None):
        add(("data", "label_separator"), f"separates labels in a text, and {holds}", "drop it", kind="conflict")
