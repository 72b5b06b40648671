"""SQuAD's JSON: what is read of both versions, and every mistake is reported with its line."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from problems import kinds

from compressor.data import squad
from compressor.data.squad import Question
from compressor.errors import RecipeError

CONTEXT = "Zoë met Jo in Rome, and Jo left."


def entry(name: Any, *answers: tuple[Any, Any], **others: Any) -> dict[str, Any]:
    listed = [{"text": text, "answer_start": start} for text, start in answers]
    return {"id": name, "question": f"Who is {name}?", "answers": listed} | others


def document(*entries: dict[str, Any], context: str = CONTEXT) -> dict[str, Any]:
    return {"version": "x", "data": [{"title": "t", "paragraphs": [{"context": context, "qas": list(entries)}]}]}


def read(folder: Path, content: Any, indent: int | None = None) -> list[Question]:
    path = folder / "dev.json"
    text = content if isinstance(content, bytes | str) else json.dumps(content, indent=indent)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return list(squad.read(path, "data.train"))


def problems(folder: Path, content: Any, indent: int | None = None) -> list[str]:
    with pytest.raises(RecipeError) as error:
        read(folder, content, indent)
    assert set(kinds(error.value).items()) <= {("data.train", "value"), ("data.train", "unreadable")}
    return [f"{problem.what}; {problem.hint}" for problem in error.value.problems]


def test_both_versions(tmp_path: Path):
    first = document(entry("a", ("Jo", 8), ("Jo", 24), ("Zoë", 0)), entry(7, ("Rome", 14)))
    first["data"] += document(entry("b", is_impossible=True, plausible_answers=[]), context="No.")["data"]
    first["data"] += document(entry("c", ("No", 0), is_impossible=False), context="No.")["data"]
    expected = [
        Question("a", "Who is a?", CONTEXT, ("Jo", "Jo", "Zoë"), (8, 24, 0)),
        Question("7", "Who is 7?", CONTEXT, ("Rome",), (14,)),
        Question("b", "Who is b?", "No.", (), ()),
        Question("c", "Who is c?", "No.", ("No",), (0,)),
    ]
    assert read(tmp_path, first) == read(tmp_path, first, indent=1) == expected
    assert read(tmp_path, "\ufeff" + json.dumps(first, ensure_ascii=False)) == expected


def position(folder: Path, text: str, before: int = 0) -> str:
    """Where a text is in the file, after so many others."""
    start = [match.start() for match in re.finditer(re.escape(text), (folder / "dev.json").read_text("utf-8"))][before]
    lines = (folder / "dev.json").read_text("utf-8")[:start].split("\n")
    return f"dev.json, line {len(lines)}, column {len(lines[-1]) + 1}: "


@pytest.mark.parametrize("indent", [None, 2], ids=["one line", "lines"])
def test_an_answer_that_is_not_where_it_is_said_to_be(tmp_path: Path, indent: int | None):
    wrong = document(
        entry("a", ("Zoë", 0)), entry("b", ("Jo", 8), ("Rome", 15)), entry("ö", ("Paris", 3)), entry(1, ("Jo", 99))
    )
    moved, missing, beyond = problems(tmp_path, wrong, indent)
    assert moved == (
        position(tmp_path, '"id": "b"') + "question 'b': the answer 'Rome' is not at character 15 of the context, "
        "'ome,' is; it is at character 14; answer_start counts characters, not bytes, from 0"
    )
    assert missing == (
        position(tmp_path, '"id": "\\u00f6"')
        + "question 'ö': the answer 'Paris' is not at character 3 of the context, "
        "' met ' is; it is nowhere in the context; an answer is a part of it, letter for letter"
    )
    assert beyond == (
        position(tmp_path, '"id": 1') + "question '1': the answer 'Jo' is not at character 99 of the context, which "
        "has the characters 0 to 31; it is at character 8; answer_start counts characters, not bytes, from 0"
    )


def test_an_id_is_given_once(tmp_path: Path):
    twice = document(entry("a", ("Jo", 8)), entry("ab", ("Jo", 8)), entry("a", ("Jo", 24)))
    (problem,) = problems(tmp_path, twice, indent=2)
    assert problem.startswith(position(tmp_path, '"id": "a"', 1) + "question 'a': another question has this id")
    (problem,) = problems(tmp_path, document(entry(1), entry(12), entry(1)))
    assert problem.startswith(position(tmp_path, '"id": 1', 2) + "question '1': another question has this id")
    (problem,) = problems(tmp_path, document(entry(1), entry("1")))
    assert problem.startswith("dev.json: question '1': another question has this id"), "no second `1` is to be found"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            entry("a", ("Jo", -1)),
            "the answer 'Jo' is not at character -1 of the context, which has the characters 0 to 31",
        ),
        (entry("a", (" ", 3)), "an answer is empty"),
        (entry("a", ("Jo", 8), is_impossible=True), "is_impossible is true, and there are answers"),
        (entry("a", ("Jo", 8), question=" "), "the question is empty"),
        (entry("a", ("Jo", 8), question="\ud83d"), "the question is not Unicode"),
    ],
)
def test_mistakes_of_a_question(tmp_path: Path, wrong: dict[str, Any], message: str):
    (problem,) = problems(tmp_path, document(wrong))
    assert problem.startswith("dev.json, line 1, column ") and f": question 'a': {message}" in problem


def test_the_first_ten_mistakes_are_reported_at_once(tmp_path: Path):
    found = problems(tmp_path, document(*(entry(f"q{i}", ("Jo", i)) for i in range(8, 14))))
    assert [re.findall("question '(.*?)'", problem) for problem in found] == [[f"q{i}"] for i in range(9, 14)]
    assert len(problems(tmp_path, document(*(entry(f"q{i}", ("Paris", i)) for i in range(30))))) == 10


def without(value: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: kept for key, kept in value.items() if key not in keys}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "the file is not an object"),
        ({"a": "Jo"}, "the file has no 'data'"),
        ({"data": {}}, "'data' of the file is not a list"),
        ({"data": [entry("a")]}, r"data\[0\] has no 'paragraphs'"),
        ({"data": [{"paragraphs": [{"qas": []}]}]}, r"data\[0\]\.paragraphs\[0\] has no 'context'"),
        (document(entry("a"), without(entry("a"), "id")), r"data\[0\]\.paragraphs\[0\]\.qas\[1\] has no 'id'"),
        (document(without(entry("a"), "answers")), r"qas\[0\] has no 'answers'"),
        (document(entry("a", (3, 3))), r"'text' of .*\.qas\[0\]\.answers\[0\] is not text"),
        (document(entry("a", ("Jo", "8"))), r"'answer_start' of .* is not a whole number"),
        (document(entry("a", ("Jo", True))), r"'answer_start' of .* is not a whole number"),
        (document(entry(None)), "'id' of .* is not text"),
        (document(entry(True)), "'id' of .* is not a whole number"),
        (document(entry("a", is_impossible="no")), "'is_impossible' of .* is not true or false"),
        (document(entry("a"), 3), r"qas\[1\] is not an object"),
        (
            '{"data": [\n  {"a" 3}]}',
            r"dev\.json, line 2, column 8:",
        ),
        ('{"id": 1}\n{"id": 2}\n', "line 2, column 1: is not JSON: Extra data"),
        ("", "line 1, column 1: is not JSON"),
        pytest.param("[" * 100_000, "line 1: is not JSON", id="brackets"),
        pytest.param("1" * 10_000, "line 1: is not JSON", id="digits"),
        (b'{"data":\n"\xff"}', "line 2: is not UTF-8"),
    ],
)
def test_what_is_not_squad(tmp_path: Path, content: Any, message: str):
    (problem,) = problems(tmp_path, content)
    assert re.search(message, problem), problem


def test_rows_of_tables_are_checked_alike():
    assert squad.check("Who?", CONTEXT, ["Jo", "Zoë"], [24, 0], "data.train") is None
    assert squad.check("Who?", CONTEXT, [], [], "data.train") is None
    problem = squad.check("Who?", CONTEXT, ["Jo"], [9], "data.train")
    assert problem is not None and problem.where == "data.train"
    assert problem.what == "the answer 'Jo' is not at character 9 of the context, 'o ' is"
    problem = squad.check("Who?", CONTEXT, ["Jo"], [], "data.train")
    assert problem is not None and problem.what == "there are 1 answers and 0 answer_start"
    problem = squad.check("Who?", "", [], [], "data.train")
    assert problem is not None and problem.what == "the context is empty"
