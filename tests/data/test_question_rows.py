from __future__ import annotations

import json
from pathlib import Path

from problems import refused

from compressor.data import question_rows
from compressor.data import splits as data_rows
from compressor.data.renames import Renames
from compressor.data.spec import DataSpec

COLUMNS = {"question": "question", "context": "context", "answers": "answers"}


def prepare(folder: Path, train: Path, validation: Path | None = None, **spec: object) -> dict:
    (folder / "out").mkdir()
    (folder / "work").mkdir()
    return data_rows.prepare(
        question_rows, DataSpec(**spec), train, validation, COLUMNS, 0, folder / "out", folder / "work"
    )


def squad(path: Path, *questions: tuple[str, str, str | None]) -> Path:
    paragraphs = [
        {
            "context": context,
            "qas": [
                {
                    "id": f"{path.stem}-{index}",
                    "question": question,
                    "answers": [] if answer is None else [{"text": answer, "answer_start": context.index(answer)}],
                    "is_impossible": answer is None,
                }
            ],
        }
        for index, (question, context, answer) in enumerate(questions)
    ]
    path.write_text(json.dumps({"version": "v2.0", "data": [{"title": "t", "paragraphs": paragraphs}]}))
    return path


def test_files_and_tables_are_read_alike(tmp_path: Path):
    file = squad(tmp_path / "train.json", ("was it", "a good film", "good"), ("who", "the end", None))
    table = tmp_path / "dev.jsonl"
    rows = [
        {"question": "was it", "context": "a good film", "answers": {"text": ["good"], "answer_start": [2]}},
        {"question": "who", "context": "the end", "answers": {"text": [], "answer_start": []}},
    ]
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    facts = prepare(tmp_path, file, table)
    assert (facts["labels"], facts["train"], facts["validation"]) == ([], 2, 2)
    assert any("2 of 2 validation rows" in note for note in facts["notes"]), "both files have the same contexts"
    found = [data_rows.load(tmp_path / "out" / name)[:] for name in ("train", "validation")]
    assert found[0] == found[1]
    assert found[0]["answers"] == [["good"], []] and found[0]["starts"] == [[2], []]


def test_an_answer_that_is_not_in_its_context(tmp_path: Path):
    table = tmp_path / "train.jsonl"
    row = {"question": "was it", "context": "a good film", "answers": {"text": ["bad"], "answer_start": [2]}}
    table.write_text(json.dumps(row) + "\n")
    with refused("data.train", "value"):
        prepare(tmp_path, table)


def test_answers_in_another_form(tmp_path: Path):
    table = tmp_path / "train.jsonl"
    table.write_text(json.dumps({"question": "was it", "context": "a good film", "answers": ["good"]}) + "\n")
    with refused("data.train", "type"):
        prepare(tmp_path, table)


def test_a_contexts_questions_are_on_one_side_of_a_split(tmp_path: Path):
    questions = [(f"was it {index}", f"a good film number {index % 30}", "good") for index in range(120)]
    prepare(tmp_path, squad(tmp_path / "train.json", *questions), validation_fraction=0.3)
    sides = [set(data_rows.load(tmp_path / "out" / name)["context"]) for name in ("train", "validation")]
    assert all(sides) and not sides[0] & sides[1]


def test_nothing_to_learn(tmp_path: Path):
    with refused("data.answers", "value"):
        prepare(tmp_path, squad(tmp_path / "train.json", *[(str(i), f"the end {i}", None) for i in range(40)]))


def test_a_table_names_the_group_of_its_rows(tmp_path: Path):
    rows = [
        {
            "question": "who",
            "context": f"text {index}",
            "answers": {"text": ["text"], "answer_start": [0]},
            "page": page,
        }
        for index, page in enumerate("aabb")
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "out").mkdir()
    given = (DataSpec(group="page"), path, path, {**COLUMNS, "group": "page"}, 0, tmp_path / "out", tmp_path)
    data_rows.prepare(question_rows, *given)
    assert list(data_rows.groups(question_rows, data_rows.load(tmp_path / "out" / "validation"))) == list("aabb")
    with refused("data.group", "conflict"):
        question_rows.read(
            squad(tmp_path / "a.json"), COLUMNS, DataSpec(group="page"), tmp_path, "data.train", Renames({})
        )
