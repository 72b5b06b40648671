from __future__ import annotations

import json
from pathlib import Path

import pytest
from problems import kinds, refused

from compressor.data import splits as data_rows
from compressor.data import tagged_rows
from compressor.data.spec import DataSpec, HubDataset
from compressor.errors import RecipeError

COLUMNS = {"tokens": "tokens", "tags": "tags"}
CONLL = "good\tB-x\nfilm\tO\n\nbad\tB-y\nplot\tI-y\n\ngood\tB-x\nend\tB-y\nplot\tI-y\n"


def prepare(tmp_path: Path, train: Path, validation: Path | HubDataset | None = None, **spec: object) -> dict:
    output, work = tmp_path / "out", tmp_path / "work"
    output.mkdir()
    work.mkdir()
    return data_rows.prepare(
        tagged_rows, DataSpec(**spec), train, validation, COLUMNS, 0, output, work
    )  # fmt: skip


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_tags_are_ordered_by_type(tmp_path: Path):
    train = write(tmp_path / "train.conll", CONLL)
    facts = prepare(tmp_path, train, write(tmp_path / "dev.conll", CONLL))
    assert facts["labels"] == ["O", "B-x", "B-y", "I-y"] and (facts["train"], facts["validation"]) == (3, 3)
    assert any("3 of 3 validation rows" in note for note in facts["notes"])
    loaded = data_rows.load(tmp_path / "out" / "train")
    assert loaded["tokens"][0] == ["good", "film"] and loaded["tags"][0] == ["B-x", "O"]


def test_a_tag_that_is_not_in_the_training_rows_is_reported_with_its_line(tmp_path: Path):
    train = write(tmp_path / "train.conll", CONLL)
    dev = write(tmp_path / "dev.conll", "good\tB-x\n\nthe\tO\nend\tB-z\n")
    with pytest.raises(RecipeError, match=r"dev\.conll, line 4: .*'B-z'") as error:
        prepare(tmp_path, train, dev)
    assert kinds(error.value) == {"data.validation": "unknown"}


def test_a_table_says_the_same_as_a_file(tmp_path: Path):
    sentences = [[line.split("\t") for line in part.splitlines()] for part in CONLL.strip().split("\n\n")]
    lines = [json.dumps({"tokens": [w for w, _ in s], "tags": [t for _, t in s], "n": 1}) for s in sentences]
    table = write(tmp_path / "train.jsonl", "\n".join(lines) + "\n")
    assert prepare(tmp_path, table, write(tmp_path / "dev.conll", CONLL))["labels"] == ["O", "B-x", "B-y", "I-y"]
    assert data_rows.load(tmp_path / "out" / "train")["tags"][1] == ["B-y", "I-y"]


def test_tables_that_do_not_fit(tmp_path: Path):
    for number, (text, where, kind) in enumerate(
        (
            ('{"tokens": ["a", "b"], "tags": ["O"]}\n', "data.train", "value"),
            ('{"tokens": "a b", "tags": "O O"}\n', "data.train", "type"),
            ('{"tokens": ["a"], "tags": ["person"]}\n', "data.train", "value"),
            ('{"tokens": ["a"], "tags": ["O"]}\n', "data.tags", "value"),
        )
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        table = write(folder / "rows.jsonl", text)
        with refused(where, kind):
            prepare(folder, table, table)


def test_equal_sentences_are_on_one_side_of_a_split(tmp_path: Path):
    sentences = [f"good\tB-x\nword{index % 40}\tO\n" for index in range(200)]
    train = write(tmp_path / "train.conll", "\n".join(sentences))
    facts = prepare(tmp_path, train, validation_fraction=0.3)
    assert 20 < facts["validation"] < 100
    sides = [
        {tuple(row) for row in data_rows.load(tmp_path / "out" / name)["tokens"]} for name in ("train", "validation")
    ]
    assert not sides[0] & sides[1]
