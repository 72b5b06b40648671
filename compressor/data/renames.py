"""The labels that `data.labels` gives other names, and which of them the rows have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from compressor.errors import did_you_mean, shown


class Renames:
    """Names of labels.

    Args:
        names: For labels of the rows, those that they stand for: the recipe's `data.labels`.

    Attributes:
        met: Those of the labels that the rows have, so far.
    """

    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = names
        self.met: dict[str, str] = {}

    def __call__(self, label: str) -> str:
        """What a label of the rows stands for: itself, if the recipe does not name it."""
        if label not in self._names:
            return label
        return self.met.setdefault(label, self._names[label])

    def notes(self, labels: Iterable[str]) -> list[str]:
        """Notes on labels that no row has.

        Args:
            labels: The labels of the rows, renamed.
        """
        left = [label for label in labels if label not in self.met.values()]
        absent = [f"{shown(label)} ({did_you_mean(label, left)})" if did_you_mean(label, left) else shown(label)
                  for label in self._names if label not in self.met]  # fmt: skip
        return [f"data.labels: no row has the label {', '.join(absent)}"] if absent else []
