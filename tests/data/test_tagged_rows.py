from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from problems import kinds, refused

from compressor.data import splits as data_rows
from compressor.data import tagged_rows
from compressor.data.renames import Renames
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


def conll(*sentences: str) -> str:
    """Sentences of tags, each with a word of its own."""
    words = (f"w{row}x{place} {tag}" for row, tags in enumerate(sentences) for place, tag in enumerate(tags.split()))
    return "\n\n".join("\n".join(next(words) for _ in tags.split()) for tags in sentences) + "\n"


SCHEMES = {
    "IOB1": ("I-x I-x O I-y", "I-x B-x I-x O"),
    "IOB2": ("B-x I-x O B-y", "B-x B-x I-x"),
    "IOB1 and IOB2": ("B-x O I-x", "I-y O B-y"),
    "IOBES": ("B-x E-x O S-y", "B-x I-x E-x S-x S-x"),
    "BILOU": ("B-x L-x O U-y", "B-x I-x L-x U-x"),
    "BIOS": ("B-x I-x O S-y", "S-x B-x I-x"),
    "BIEO": ("B-x O B-x I-x E-x", "E-y"),
    "IOE1": ("I-x I-x O", "I-x E-x I-x O"),
}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_scheme_alone_is_accepted(tmp_path: Path, scheme: str):
    train = write(tmp_path / "train.conll", conll(*SCHEMES[scheme]))
    assert prepare(tmp_path, train, train)["train"] == 2


@pytest.mark.parametrize(
    ("train", "validation", "where", "first", "second"),
    [
        (("B-x O", "S-x O"), (), "data.train", (1, "B-x"), (4, "S-x")),
        (("O S-x", "B-x I-x O"), ("I-x",), "data.validation", (2, "S-x"), (1, "I-x")),
        (("B-x E-x", "B-x I-x"), (), "data.train", (2, "E-x"), (5, "I-x")),
        (("B-x E-x O", "O B-x L-x"), (), "data.train", (2, "E-x"), (7, "L-x")),
        (("U-x O", "S-x"), (), "data.train", (1, "U-x"), (4, "S-x")),
        (("B-x L-x", "O B-x I-x O"), (), "data.train", (2, "L-x"), (6, "I-x")),
        (("B-x I-x E-x S-x O",), ("B-x O",), "data.validation", (4, "S-x"), (1, "B-x")),
        (("S-x B-x E-x S-y", "B-y E-y"), ("B-x E-y",), "data.validation", (1, "S-x"), (1, "B-x")),
    ],
)
def test_two_schemes_are_refused_with_both_lines(tmp_path: Path, train, validation, where, first, second):
    path = write(tmp_path / "train.conll", conll(*train))
    other = write(tmp_path / "dev.conll", conll(*(validation or train)))
    with pytest.raises(RecipeError) as error:
        prepare(tmp_path, path, other)
    (problem,) = error.value.problems
    assert (problem.where, problem.kind) == (where, "value")
    found = [(int(line), tag) for line, tag in re.findall(r"line (\d+) has '(.*?)'", problem.what)]
    assert found == [first, second], problem.what


def test_two_schemes_of_a_table_are_refused_with_row_and_token(tmp_path: Path):
    rows = [{"tokens": ["a", "b"], "tags": ["O", "B-x"]}, {"tokens": ["c"], "tags": ["S-x"]}]
    table = write(tmp_path / "rows.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(RecipeError, match=r"row 1, token 2 has 'B-x', and rows.jsonl, row 2, token 1 has 'S-x'"):
        prepare(tmp_path, table, table)


def documents(count: int, *, of: str = "B-x O") -> str:
    parts = (conll(of, "O O").replace("w", f"d{index}w") for index in range(count))
    return "".join(f"-DOCSTART- -X- O\n\n{part}\n" for part in parts)


def test_sentences_of_a_document_are_one_group_and_stay_on_one_side(tmp_path: Path):
    facts = prepare(tmp_path, write(tmp_path / "train.conll", documents(30)), validation_fraction=0.3)
    held = data_rows.load(tmp_path / "out" / "validation")
    groups = list(data_rows.groups(tagged_rows, held))
    assert len(held) == 2 * len(set(groups)) == facts["validation"] and 4 <= len(held) <= 30
    assert not set(groups) & set(data_rows.load(tmp_path / "out" / "train")["group"])
    assert any(f"{len(held) // 2} groups" in note for note in facts["notes"])


@pytest.mark.parametrize("content", [conll("B-x O", "O O"), documents(1)], ids=["none", "one"])
def test_without_several_documents_every_sentence_is_its_own(tmp_path: Path, content: str):
    path = write(tmp_path / "train.conll", content)
    prepare(tmp_path, path, path)
    rows = data_rows.load(tmp_path / "out" / "validation")
    assert "group" not in rows.column_names and len(set(data_rows.groups(tagged_rows, rows))) == 2
    with refused("data.group", "conflict"):
        tagged_rows.read(path, COLUMNS, DataSpec(group="doc"), tmp_path, "data.train", Renames({}))


def test_two_documents_are_split(tmp_path: Path):
    facts = prepare(tmp_path, write(tmp_path / "train.conll", documents(2)), validation_fraction=0.01)
    assert (facts["train"], facts["validation"]) == (2, 2)
