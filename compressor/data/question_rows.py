"""Rows of a question about a context, with the answers in it: SQuAD's JSON, and tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressor.data import squad, tables
from compressor.data.lines import MOST_PROBLEMS
from compressor.data.sources import SQUAD
from compressor.data.spec import DataSpec, HubDataset
from compressor.errors import Problem, RecipeError
from compressor.files import suffix

if TYPE_CHECKING:
    from datasets import Dataset


def read(source: Path | HubDataset, columns: Mapping[str, str], spec: DataSpec, work: Path, place: str) -> Dataset:
    """The questions of a SQuAD file or of a table.

    Args:
        source: Where they are; a .json file is SQuAD's, v1.1 or v2.
        columns: From `question`, `context` and `answers` to the columns of a table; each of its answers is
            `{text: […], answer_start: […]}`, as on the hub.
        spec: The recipe's `data`.
        work: Folder for intermediate files.
        place: The recipe's key, for errors.

    Returns:
        `question`, `context`, `answers` (texts; none for a question that has no answer) and `starts` (characters).

    Raises:
        RecipeError: They cannot be read, or an answer does not start at its `answer_start`.
    """
    from datasets import Dataset, Features, List, Value

    if isinstance(source, Path) and suffix(source) == SQUAD:
        if spec.where:
            what = f"{source.name} has no columns to compare"
            raise RecipeError(
                [Problem("data.where", what, "where is for tables: jsonl, parquet, hub", kind="conflict")]
            )
        rows = [(entry.question, entry.context, entry.answers, entry.starts) for entry in squad.read(source, place)]
    else:
        name = source.hub if isinstance(source, HubDataset) else source.name
        rows = _of_table(tables.read(source, columns, spec.where, work, place), name, place)
    columns_of = dict(zip(("question", "context", "answers", "starts"), zip(*rows, strict=True), strict=True))
    kinds = {"question": Value("string"), "context": Value("string")}
    lists = {"answers": List(Value("string")), "starts": List(Value("int64"))}
    return Dataset.from_dict({key: list(values) for key, values in columns_of.items()}, Features({**kinds, **lists}))


def _of_table(rows: Dataset, name: str, place: str) -> list[tuple[str, str, tuple[str, ...], tuple[int, ...]]]:
    found, problems = [], []
    for index, row in enumerate(rows):
        where = f"{name}, row {index + 1}"
        answers: Any = row["answers"]
        if not isinstance(answers, dict) or not {"text", "answer_start"} <= set(answers):
            what = f"{where}: answers is {str(answers)[:60]!r}"
            problems.append(
                Problem(place, what, "allowed: {text: […], answer_start: […]}, as SQuAD has it on the hub", kind="type")
            )
        else:
            texts, starts = tuple(map(str, answers["text"])), tuple(map(int, answers["answer_start"]))
            question, context = str(row["question"]), str(row["context"])
            wrong = squad.check(question, context, texts, starts, place, where)
            problems += [wrong] if wrong else []
            found.append((question, context, texts, starts))
        if len(problems) == MOST_PROBLEMS:
            break
    if problems:
        raise RecipeError(problems)
    return found


def identities(rows: Dataset) -> Iterable[tuple[str, ...]]:
    """The context of each row; rows with equal contexts stay on one side of a split."""
    return ((context,) for context in rows["context"])


def labels(train: Dataset, validation: Dataset) -> list[str]:
    """An empty list: the head chooses among the tokens of a row.

    Raises:
        RecipeError: No training question has an answer.
    """
    if not any(train["answers"]):
        raise RecipeError(
            [Problem("data.answers", "no training question has an answer", "is this the right column?", kind="value")]
        )
    return []
