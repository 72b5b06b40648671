"""Public data sets that stand in where no rows are given: of the task that the checkpoint's head is of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from compressor.drafting import labels
from compressor.drafting.guess import ASSUMED, Guess, Heads, refused
from compressor.tasks import (
    MASKED_LM,
    question_answering,
    sentence_similarity,
    text_classification,
    text_regression,
    token_classification,
)


@dataclass(frozen=True)
class Found:
    """Rows that a recipe is drafted for.

    Attributes:
        guess: What they are.
        files: `train` and maybe `validation`, as the recipe names them.
        count: How many rows are known; there may be more.
        judged: How many of these are in `validation`; 0 without one.
        fact: A sentence on them.
    """

    guess: Guess
    files: Mapping[str, Any]
    count: int
    judged: int
    fact: str


@dataclass(frozen=True)
class _DataSet:
    hub: str
    rows: int
    judged: int = 0
    name: str | None = None
    validation: str | None = "validation"
    data: Mapping[str, Any] = field(default_factory=dict)
    labels: tuple[str, ...] = ()

    def split(self, name: str) -> dict[str, str]:
        """A split, as a recipe names it."""
        return {"hub": self.hub, **({"name": self.name} if self.name else {}), "split": name}


_TYPES = ("PER", "ORG", "LOC")
_DATA_SETS = {
    text_classification.NAME: _DataSet(
        "nyu-mll/glue",
        67_349,
        872,
        "sst2",
        data={"text": "sentence", "label": "label"},
        labels=("negative", "positive"),
    ),
    text_regression.NAME: _DataSet(
        "nyu-mll/glue", 5_749, 1_500, "stsb", data={"text": "sentence1", "text_pair": "sentence2", "label": "label"}
    ),
    token_classification.NAME: _DataSet(
        "unimelb-nlp/wikiann",
        20_000,
        10_000,
        "en",
        data={"tokens": "tokens", "tags": "ner_tags"},
        labels=("O", *(f"{prefix}-{kind}" for kind in _TYPES for prefix in "BI")),
    ),
    sentence_similarity.NAME: _DataSet(
        "nyu-mll/glue", 5_749, 1_500, "stsb", data={"text": "sentence1", "text_pair": "sentence2", "score": "label"}
    ),
    question_answering.NAME: _DataSet("rajpurkar/squad", 87_599, 10_570),
    MASKED_LM: _DataSet("Salesforce/wikitext", 36_718, 0, "wikitext-2-raw-v1", validation=None),
}


def found(heads: Heads) -> Found:
    """The data set of the task that a checkpoint has a head for; without any, text classification.

    Args:
        heads: What the checkpoint can do.

    Raises:
        RecipeError: The checkpoint's head has other labels than the data set.
    """
    task = heads.tasks[0] if heads.tasks else text_classification.NAME
    data_set = _DATA_SETS.get(task)
    if data_set is None or (heads.tasks and data_set.labels and not labels.fit(data_set.labels, heads.labels).fits):
        what = f"the checkpoint does {task} with the labels {', '.join(heads.labels[:6])}"
        raise refused("--data", f"is missing, and {what}", "give rows with these labels", "missing")
    why = "the task of the checkpoint's head" if heads.tasks else "without rows or a head, any task may be meant"
    guess = Guess(task, dict(data_set.data), (), Counter(data_set.labels), {"task": f"{ASSUMED}{why}"})
    guess = guess.noting("train", f"{ASSUMED}a public data set stands in for the rows; put your own here")
    files = {"train": data_set.split("train")}
    if data_set.validation:
        files["validation"] = data_set.split(data_set.validation)
    return Found(guess, files, data_set.rows, data_set.judged, f"Rows: none were given; {data_set.hub} stands in.")
