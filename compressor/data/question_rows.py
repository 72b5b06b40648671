"""Rows of a question about a context, with the answers in it: SQuAD's JSON, and tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressor.data import squad, tables
from compressor.data.columns import values
from compressor.data.lines import quoted
from compressor.data.renames import Renames
from compressor.data.sources import SQUAD
from compressor.data.spec import DataSpec, HubDataset
from compressor.data.table_files import Row
from compressor.errors import Problem, RecipeError, shown
from compressor.files import suffix

if TYPE_CHECKING:
    from datasets import Dataset

ANSWERS_HINT = (
    "allowed: {text: [texts], answer_start: [whole numbers]}, as SQuAD has it on the hub; both lists are empty where "
    "there is no answer"
)
"""What a cell with answers may hold."""


def read(
    source: Path | HubDataset, columns: Mapping[str, str], spec: DataSpec, work: Path, place: str, rename: Renames
) -> Dataset:
    """The questions of a SQuAD file or of a table.

    Args:
        source: Where they are; a .json file is SQuAD's, v1.1 or v2.
        columns: From `question`, `context` and `answers` to the columns of a table; each of its answers is
            `{text: […], answer_start: […]}`, as on the hub.
        spec: The recipe's `data`.
        work: Folder for intermediate files.
        place: The recipe's key, for errors.
        rename: Nothing: questions have no labels.

    Returns:
        `question`, `context`, `answers` (texts; none for a question that has no answer) and `starts` (characters).

    Raises:
        RecipeError: They cannot be read, or an answer does not start at its `answer_start`.
    """
    from datasets import Features, List, Value

    texts = {name: Value("string") for name in columns if name != "answers"}

    def convert(row: Mapping[str, Any]) -> dict[str, Any] | Problem:
        found: dict[str, Any] = {}
        for key in texts:
            text = tables.required_text(row, key, columns[key], place)
            if isinstance(text, Problem):
                return text
            found[key] = text
        answers = answers_of(row["answers"])
        if answers is None:
            what = f"column {quoted(columns['answers'])} holds {shown(row['answers'])}"
            return Problem(place, what, ANSWERS_HINT, kind="type")
        right, starts = answers
        wrong = squad.check(found["question"], found["context"], right, starts, place)
        return wrong or {**found, "answers": right, "starts": starts}

    if isinstance(source, Path) and suffix(source) == SQUAD:
        tables.refuse_columns(source, spec)
        rows: Iterable[Row] = (
            (entry.id, {"question": entry.question, "context": entry.context, "answers": _columns(entry)})
            for entry in squad.read(source, place)
        )
    else:
        rows = tables.read(source, columns, spec.where, work, place)
    features = Features({**texts, "answers": List(Value("string")), "starts": List(Value("int64"))})
    return tables.converted(rows, convert, features, tables.name_of(source), work / f"{place}.arrow")


def _columns(entry: squad.Question) -> dict[str, list[Any]]:
    return {"text": list(entry.answers), "answer_start": list(entry.starts)}


def answers_of(value: Any) -> tuple[list[str], list[int]] | None:
    """Texts and starts of a row's answers; None if it has them in another form."""
    if not isinstance(value, dict):
        return None
    texts, starts = value.get("text"), value.get("answer_start")
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        return None
    if not isinstance(starts, list) or not all(type(start) is int for start in starts):
        return None
    return texts, starts


def identities(rows: Dataset) -> Iterable[tuple[str, ...]]:
    """The context of each row; rows with equal contexts stay on one side of a split."""
    return ((context,) for context in values(rows, "context"))


def groups(rows: Dataset) -> Iterable[str]:
    """The context of each row: questions on one text are easy or hard together."""
    return values(rows, "context")


def labels(train: Dataset, validation: Dataset, known: Dataset, new_head: bool) -> tuple[list[str], list[str]]:
    """Two empty lists: the head chooses among the tokens of a row.

    Raises:
        RecipeError: A new head is to learn from questions of which none has an answer.
    """
    if new_head and not any(values(train, "answers")):
        raise RecipeError(
            [Problem("data.answers", "no training question has an answer", "is this the right column?", kind="value")]
        )
    return [], []
