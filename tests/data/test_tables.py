"""Tables: data is what the file says, in every format; what it does not say is refused by name and row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from problems import kinds
from pyarrow import parquet

from compressor.data import cells, question_rows, tagged_rows, text_rows
from compressor.data.renames import Renames
from compressor.data.spec import DataSpec
from compressor.errors import RecipeError

TEXT = {"text": "text", "label": "label"}
TAGS = {"tokens": "tokens", "tags": "tags"}
ANSWERS = {"question": "question", "context": "context", "answers": "answers"}


def read(form: Any, path: Path, columns: dict[str, str], **spec: Any) -> list[dict[str, Any]]:
    work = path.parent / "work"
    work.mkdir(exist_ok=True)
    return form.read(path, columns, DataSpec(**spec), work, "data.train", Renames({})).to_list()


def of_text(tmp_path: Path, name: str, content: str | bytes, **spec: Any) -> list[tuple[str, str]]:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return [(row["text"], row["label"]) for row in read(text_rows, path, TEXT, **spec)]


@pytest.mark.parametrize(
    ("name", "content", "kind", "place"),
    [
        ("a.csv", "label,text\n0,bad\n1,good film, great plot\n", "unreadable", r"a\.csv, line 3: has 3 fields"),
        ("a.csv", 'label,text\n0,"two\nlines"\n1,good, great\n', "unreadable", "line 4: has 3 fields"),
        ("a.csv", "label,text\n0,bad\n1\n", "unreadable", "line 3: has 1 fields"),
        ("a.tsv", "label\ttext\n0\tbad\tworse\n", "unreadable", r"a\.tsv, line 2: has 3 fields"),
        ("a.csv", 'label,text\n0,"open\n1,good\n', "unreadable", "begins in line 2"),
        ("a.csv", "label,text,text\n0,a,b\n", "value", r"a\.csv, line 1 has 2 columns that are called 'text'"),
        ("a.csv", b"label,text\n0,na\xefve\n", "unreadable", "line 2: is not UTF-8"),
        ("a.csv", b"label,text\n0,a\0b\n", "unreadable", "line 2: has a NUL byte"),
        ("a.tsv", "label\ttext\n0\tbad\n".encode("utf-16"), "unreadable", "line 1"),
        ("a.csv", "label,text\n0,bad\n1,  \n", "missing", "line 3"),
        ("a.jsonl", '{"text": "a", "label": 0, "label": 1}\n', "unreadable", "line 1: has the key 'label' twice"),
        ("a.jsonl", '\n{"text": ["a", "b"], "label": 0}\n', "type", "line 2: column 'text' holds"),
        ("a.jsonl", '{"text": "a", "label": {"name": 0}}\n', "type", "column 'label' holds"),
        ("a.jsonl", '{"text": NaN, "label": 0}\n', "type", "column 'text' holds nan"),
        ("a.jsonl", '{"text": "a", "label": Infinity}\n', "type", "column 'label' holds inf"),
        ("a.jsonl", '{"text": "a", "label": 0}\n{"text": null, "label": 0}\n', "missing", "line 2"),
        ("a.jsonl", '{"text": "a", "label": 0}\n{"label": 0}\n', "missing", "line 2"),
        ("a.jsonl", '{"text": "\\ud83d", "label": 0}\n', "unreadable", "line 1"),
        ("a.jsonl", '{"text": "a", "label": ' + "9" * 5000 + "}\n", "unreadable", "line 1"),
        ("a.jsonl", "[" * 100_000 + "\n", "unreadable", "line 1"),
    ],
)
def test_what_a_row_of_texts_cannot_be(tmp_path: Path, name: str, content: str | bytes, kind: str, place: str):
    with pytest.raises(RecipeError, match=place) as error:
        of_text(tmp_path, name, content)
    assert kinds(error.value) == {"data.train": kind}


@pytest.mark.parametrize(
    "values", [[b"a", b"b"], [["a"], ["b"]], [{"a": 1}, {"a": 2}], [float("nan"), 1.0], [None, "a"], ["a", None]]
)
def test_cells_of_parquet_files_that_are_no_text(tmp_path: Path, values: list[Any]):
    path = tmp_path / "a.parquet"
    for names in ("text", "label"), ("label", "text"):
        parquet.write_table(pyarrow.table({names[0]: values, names[1]: ["x", "y"]}), path)
        with pytest.raises(RecipeError, match=rf"a\.parquet, row [12].*column '{names[0]}'"):
            read(text_rows, path, TEXT)


def test_what_looks_odd_and_is_valid(tmp_path: Path):
    assert of_text(tmp_path, "a.csv", '\ufefflabel,text,x\r\n0,"a, ""b""\r\nc",\r\n1,d,"e,f"\r\n\r\n') == [
        ('a, "b"\r\nc', "0"),
        ("d", "1"),
    ]
    assert of_text(tmp_path, "mac.csv", 'label,text\r0,"a\rb"\r1,c\r') == [("a\rb", "0"), ("c", "1")]
    assert of_text(tmp_path, "a.tsv", 'label\ttext\n1\t"half a quote\n') == [('"half a quote', "1")]
    lines = ['{"text": "2020-01-01", "label": 1}', '{"text": 7, "label": "1"}', '{"label": true, "text": "a", "b": []}']
    assert of_text(tmp_path, "a.jsonl", "\n".join(lines)) == [("2020-01-01", "1"), ("7", "1"), ("a", "true")]
    assert of_text(tmp_path, "b.jsonl", '\n{"text": "a", "label": 1.0, "n": {"k": 1, "k": 2}}\n') == [("a", "1")]
    odd = ["-1", "①", "²", "--1", "1.0", " 1", "１", "0" * 5000]
    content = "label,text\n" + "".join(f"{label},a\n" for label in odd)
    assert [label for _, label in of_text(tmp_path, "odd.csv", content)] == odd


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize(
    ("values", "limit", "kept"),
    [
        (["no", "de", "false"], "no", 1),
        ([True, False, True], True, 2),
        ([1, 2, 1], 1, 2),
        ([1.0, 2.5, 1.0], 1, 2),
        (["1", "01", "1"], 1, 2),
        (["1", "01", "1"], "01", 1),
        (["a", "b", "A"], "a", 1),
    ],
)
def test_where_keeps_what_it_names(tmp_path: Path, suffix: str, values: list[Any], limit: Any, kept: int):
    path = tmp_path / f"a{suffix}"
    if suffix == ".csv":  # as pandas writes them: True, 1.0
        path.write_text("text,label,x\n" + "".join(f"t,0,{value}\n" for value in values))
    elif suffix == ".jsonl":
        path.write_text("".join(json.dumps({"text": "t", "label": 0, "x": value}) + "\n" for value in values))
    else:
        parquet.write_table(pyarrow.table({"text": ["t"] * 3, "label": [0] * 3, "x": values}), path)
    assert len(read(text_rows, path, TEXT, where={"x": limit})) == kept


def test_a_text_in_where_matches_what_is_no_text_by_its_value():
    assert cells.matches(True, "true") and cells.matches(1.0, "1") and cells.matches(1, "1.0")
    assert not cells.matches("True", "true") and not cells.matches("1.0", "1"), "texts are compared as they are"
    assert not cells.matches(1, True) and not cells.matches(None, "None") and not cells.matches([1], 1)
    assert not cells.matches("①", 1) and not cells.matches("１", 1) and not cells.matches(" 1", 1)


def test_class_labels_go_by_name_and_those_without_are_refused(tmp_path: Path):
    from datasets import ClassLabel, Dataset, Features, List, Value

    path = tmp_path / "a.parquet"
    features = Features({"text": Value("string"), "label": ClassLabel(names=["bad", "good"])})
    Dataset.from_dict({"text": ["a", "b"], "label": [1, 0]}, features).to_parquet(path)
    assert [row["label"] for row in read(text_rows, path, TEXT)] == ["good", "bad"]
    Dataset.from_dict({"text": ["a", "b"], "label": [1, -1]}, features).to_parquet(path)
    with pytest.raises(RecipeError, match="row 2") as error:
        read(text_rows, path, TEXT)
    assert kinds(error.value) == {"data.train": "missing"}
    tagged = Features({"tokens": List(Value("string")), "tags": List(ClassLabel(names=["O", "B-x"]))})
    Dataset.from_dict({"tokens": [["a", "b"]], "tags": [[1, 0]]}, tagged).to_parquet(path)
    assert read(tagged_rows, path, TAGS)[0]["tags"] == ["B-x", "O"]
    Dataset.from_dict({"tokens": [["a", "b"]], "tags": [[1, -1]]}, tagged).to_parquet(path)
    with pytest.raises(RecipeError, match="row 1: item 2 of column 'tags'"):
        read(tagged_rows, path, TAGS)


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        ({"tokens": ["a", None], "tags": ["O", "O"]}, "missing"),
        ({"tokens": ["a", ["b"]], "tags": ["O", "O"]}, "type"),
        ({"tokens": None, "tags": ["O"]}, "type"),
        ({"tokens": ["a"], "tags": [1]}, "value"),
        ({"tokens": ["a"], "tags": [-1]}, "value"),
        ({"tokens": ["a"], "tags": ["M-x"]}, "value"),
        ({"tokens": ["a"], "tags": [None]}, "missing"),
    ],
)
def test_words_and_tags_that_are_none(tmp_path: Path, row: dict[str, Any], kind: str):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"tokens": ["a"], "tags": ["O"]}) + "\n" + json.dumps(row) + "\n")
    with pytest.raises(RecipeError, match=r"a\.jsonl, line 2") as error:
        read(tagged_rows, path, TAGS)
    assert kinds(error.value) == {"data.train": kind}


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"question": None}, "missing"),
        ({"context": None}, "missing"),
        ({"answers": None}, "type"),
        ({"answers": "good"}, "type"),
        ({"answers": {"text": None, "answer_start": None}}, "type"),
        ({"answers": {"text": "good", "answer_start": 2}}, "type"),
        ({"answers": {"text": [None], "answer_start": [2]}}, "type"),
        ({"answers": {"text": ["good"], "answer_start": [2.5]}}, "type"),
        ({"answers": {"text": ["good"], "answer_start": [True]}}, "type"),
    ],
)
@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_questions_without_what_they_need(tmp_path: Path, change: dict[str, Any], kind: str, suffix: str):
    good = {"question": "was it", "context": "a good film", "answers": {"text": ["good"], "answer_start": [2]}}
    path = tmp_path / f"a{suffix}"
    if suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in (good, {**good, **change})))
    else:
        parquet.write_table(pyarrow.Table.from_pylist([{**good, **change}]), path)
    with pytest.raises(RecipeError, match=r"line 2|row 1") as error:
        read(question_rows, path, ANSWERS)
    assert kinds(error.value) == {"data.train": kind}


def test_a_carriage_return_does_not_hide_words(tmp_path: Path):
    path = tmp_path / "a.conll"
    path.write_bytes(b"a\tO\rb\tB-x\r\rc\tO\r")
    assert [row["tokens"] for row in read(tagged_rows, path, TAGS)] == [["a", "b"], ["c"]]
    path.write_bytes(b"a\tO\rb\tB-x\n\nc\tO\n")
    with pytest.raises(RecipeError, match=r"line 1"):
        read(tagged_rows, path, TAGS)
