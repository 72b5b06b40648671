"""Questions about a text whose answers are parts of it, as SQuAD has them: v1.1, and v2.0 with unanswerable ones.

Source: Rajpurkar et al. 2016, "SQuAD: 100,000+ Questions for Machine Comprehension of Text"; Rajpurkar et al. 2018,
"Know What You Don't Know: Unanswerable Questions for SQuAD".
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from compressor.data.lines import MOST_PROBLEMS, lines, quoted, unreadable
from compressor.errors import Problem, RecipeError

KIND = "SQuAD JSON"

_SHAPE_HINT = "SQuAD JSON has data[].paragraphs[], each with a context and qas[] of id, question and answers"
_NAMES = {dict: "an object", list: "a list", str: "text", int: "a whole number", bool: "true or false"}


@dataclass(frozen=True)
class Question:
    """A question about a text.

    Attributes:
        id: Its name in the file, which no other question has.
        question: The question.
        context: The text.
        answers: Right answers, each a part of the text; none if the text does not answer the question.
        starts: The character at which each answer starts, from 0.
    """

    id: str
    question: str
    context: str
    answers: tuple[str, ...]
    starts: tuple[int, ...]


class _Malformed(Exception):
    """The JSON is not SQuAD's."""


def read(path: Path, place: str) -> Iterator[Question]:
    """The questions of a file, in its order.

    Args:
        path: A JSON file as SQuAD v1.1 or v2.0 has it.
        place: The key of the recipe that names it.

    Raises:
        RecipeError: The file is not SQuAD's JSON, two questions have one id, or an answer does not start at its
            `answer_start`; reports the first ten of such questions at once.
    """
    document = "".join(line for _, line in lines(path, place, KIND))
    content = _parsed(document, path, place)
    problems: list[Problem] = []
    seen: Counter[str] = Counter()
    try:
        for where, context, entry in _entries(content):
            question, impossible = _question(where, context, entry)
            mistake = _mistake(question.question, context, question.answers, question.starts)
            if seen[question.id]:
                mistake = "another question has this id", "an id names one question"
            elif impossible and question.answers:
                mistake = "is_impossible is true, and there are answers", "an unanswerable question has no answers"
            if mistake:
                what, hint = mistake
                where = _position(document, entry["id"], seen[question.id])
                what = f"{path.name}{where}: question {quoted(question.id)}: {what}"
                problems.append(Problem(place, what, hint, kind="value"))
                if len(problems) == MOST_PROBLEMS:
                    break
            elif not problems:
                yield question
            seen[question.id] += 1
    except _Malformed as error:
        problems.append(Problem(place, f"{path.name}: {error}", _SHAPE_HINT, kind="unreadable"))
    if problems:
        raise RecipeError(problems)


def check(question: str, context: str, answers: Sequence[str], starts: Sequence[int], place: str) -> Problem | None:
    """Checks a question that is a row of a table.

    Args:
        question: The question.
        context: The text.
        answers: Right answers.
        starts: The character of the text at which each starts, from 0.
        place: The key of the recipe that names the table.

    Returns:
        The mistake, or None.
    """
    mistake = _mistake(question, context, answers, starts)
    return Problem(place, mistake[0], mistake[1], kind="value") if mistake else None


def _mistake(question: str, context: str, answers: Sequence[str], starts: Sequence[int]) -> tuple[str, str] | None:
    """The mistake in a question and the way to fix it; None for a good question."""
    for name, text in (("question", question), ("context", context)):
        if not text.strip():
            return f"the {name} is empty", "drop the question, or fix the file"
        try:
            text.encode()
        except UnicodeEncodeError as error:  # JSON can write half of a surrogate pair
            return f"the {name} is not Unicode: {error.reason}", "fix the file"
    if len(answers) != len(starts):
        what = f"there are {len(answers)} answers and {len(starts)} answer_start"
        return what, "every answer has the character of the context at which it starts"
    for answer, start in zip(answers, starts, strict=True):
        if not answer.strip():
            return "an answer is empty", "an unanswerable question has no answers"
        if start < 0 or not context.startswith(answer, start):
            return _misplaced(answer, start, context)
    return None


def _misplaced(answer: str, start: int, context: str) -> tuple[str, str]:
    there = context[start : start + len(answer)] if start >= 0 else ""
    what = f"the answer {quoted(answer)} is not at character {start} of the context"
    what += f", {quoted(there)} is" if there else f", which has the characters 0 to {len(context) - 1}"
    first = context.find(answer)
    if first < 0:
        return what, "it is nowhere in the context; an answer is a part of it, letter for letter"
    return what, f"it is at character {first}; answer_start counts characters, not bytes, from 0"


def _parsed(document: str, path: Path, place: str) -> Any:
    try:
        return json.loads(document, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise unreadable(path, where, f"is not JSON: {error.msg}", place, KIND) from None
    except _Malformed as error:
        raise unreadable(path, "an object", str(error), place, KIND) from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, thousands of brackets
        raise unreadable(path, "line 1", f"is not JSON: {error}", place, KIND) from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        name = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise _Malformed(f"has the key {quoted(name)} twice")
    return found


def _entries(content: Any) -> Iterator[tuple[str, str, Any]]:
    """Where in the document each entry of `qas` is, the context it is about, and the entry."""
    for i, article in enumerate(_field(content, "data", list, "the file")):
        for j, paragraph in enumerate(_field(article, "paragraphs", list, f"data[{i}]")):
            where = f"data[{i}].paragraphs[{j}]"
            context = _field(paragraph, "context", str, where)
            for k, entry in enumerate(_field(paragraph, "qas", list, where)):
                yield f"{where}.qas[{k}]", context, entry


def _question(where: str, context: str, entry: Any) -> tuple[Question, bool]:
    """The question of an entry of `qas`, and whether `is_impossible` is true."""
    text = _field(entry, "question", str, where)
    named = entry.get("id")
    name = str(_field(entry, "id", int if isinstance(named, int) else str, where))
    answers, starts = [], []
    for index, answer in enumerate(_field(entry, "answers", list, where)):
        place = f"{where}.answers[{index}]"
        answers.append(_field(answer, "text", str, place))
        starts.append(_field(answer, "answer_start", int, place))
    impossible = "is_impossible" in entry and _field(entry, "is_impossible", bool, where)
    return Question(name, text, context, tuple(answers), tuple(starts)), impossible


def _field(value: Any, key: str, kind: type, where: str) -> Any:
    """A value of an object, of the kind that it should have."""
    if not isinstance(value, dict):
        raise _Malformed(f"{where} is not an object")
    if key not in value:
        raise _Malformed(f"{where} has no {key!r}")
    if not isinstance(value[key], kind) or (kind is int and isinstance(value[key], bool)):
        raise _Malformed(f"{key!r} of {where} is not {_NAMES[kind]}")
    return value[key]


def _position(document: str, name: str | int, before: int) -> str:
    """Where a question's id stands in the file: `, line N, column N`; empty if the id is not found.

    The parsed JSON has no positions, and searching is slow, so only ids in messages are looked up.

    Args:
        document: The file.
        name: The id.
        before: Number of equal ids that stand before this one.
    """
    written = "|".join(re.escape(json.dumps(name, ensure_ascii=ascii)) for ascii in (True, False))
    found = next(islice(re.finditer(rf'"id"\s*:\s*(?:{written})(?!\d)', document), before, None), None)
    if found is None:
        return ""
    above = document[: found.start()]
    line, column = above.count("\n") + 1, len(above) - above.rfind("\n")
    return f", line {line}, column {column}"
