"""Tasks: what the rows look like, how they become tensors, what losses compare, and how answers are scored.

To add one: a module with the attributes and functions of `tasks.base.Task`, and its name in `TASKS` below. Rows of a
new form need a reader in `compressor.data`, a head of a new kind one in `compressor.models`. Only `encode` may import
anything heavy, when it is called. A task that the rows choose, and not the recipe, is in `_BY_ROWS` too.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import cast

from compressor.data.queries import QUERY
from compressor.data.spec import DataSpec
from compressor.data.splits import GROUP
from compressor.gates.metrics import RANKINGS
from compressor.models.checkpoint import Checkpoint
from compressor.tasks import (
    masked_lm,
    multi_label,
    question_answering,
    sentence_similarity,
    text_classification,
    text_regression,
    token_classification,
)
from compressor.tasks.base import ByData, Scoring, Task

_MODULES: tuple[Scoring, ...] = (
    text_classification,
    multi_label,
    text_regression,
    token_classification,
    question_answering,
    masked_lm,
    sentence_similarity,
)

TASKS: dict[str, Scoring] = {module.NAME: module for module in _MODULES}
"""Tasks by name."""

_BY_ROWS = {text_classification.NAME: multi_label.NAME}
"""Tasks of recipes, and the tasks that they are where a row has a list of labels."""

IN_RECIPES = [name for name in TASKS if name not in _BY_ROWS.values()]
"""Names that a recipe's `task` can have."""

MASKED_LM = masked_lm.NAME
"""The task of stages that pretrain, whatever the recipe's own is; it learns from raw text, all others from rows."""


def of_rows(name: str, data: DataSpec, lists: bool) -> str:
    """The task that a recipe's task is with its rows: of lists of labels another one.

    Args:
        name: The recipe's.
        data: The recipe's.
        lists: Whether the column of labels holds lists, as far as its file shows.
    """
    several = data.multi_label if data.multi_label is not None else data.label_separator is not None or lists
    return _BY_ROWS.get(name, name) if several else name


def in_recipe(name: str) -> str:
    """What a recipe calls a task."""
    return next((given for given, of_lists in _BY_ROWS.items() if of_lists == name), name)


def has_head(checkpoint: Checkpoint, name: str) -> bool:
    """Whether a checkpoint carries a trained head for a task."""
    return checkpoint.has_head(TASKS[name].HEAD)


def learned_from_rows(name: str) -> Task:
    """A task that is learned from rows: any but masked-lm."""
    assert name != MASKED_LM, "a language model learns from a corpus"
    return cast(Task, TASKS[name])


def reads_pairs(name: str, data: DataSpec) -> bool:
    """Whether a model of a task reads two texts at once; the texts of a pair that get a vector each are read apart."""
    return data.text_pair is not None and not TASKS[name].HEAD.vectors


def columns(name: str, data: DataSpec) -> dict[str, str]:
    """From a task's column names, and `GROUP` and `QUERY` where the recipe names them, to the source's columns."""
    named = {GROUP: data.group, QUERY: data.query}
    return {
        **learned_from_rows(name).columns(data),
        **{key: value for key, value in named.items() if value is not None},
    }


def metrics(name: str, data: DataSpec) -> tuple[str, ...]:
    """A task's metrics that are measured of its rows: some need what a recipe may leave out, such as queries."""
    task = TASKS[name]
    return task.measured(data) if isinstance(task, ByData) else task.METRICS


def main_metric(name: str, measured: Collection[str]) -> str:
    """The metric that a task is judged by first: a ranking where one is measured, else the first that it has.

    Args:
        name: The task.
        measured: Metrics that are measured.
    """
    known = TASKS[name].METRICS
    return next((metric for metric in known if metric in RANKINGS and metric in measured), known[0])
