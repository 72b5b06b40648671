"""Raw text: every format gives the same texts, mistakes are reported with their line, memory stays flat."""

from __future__ import annotations

import csv
import hashlib
import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from conftest import HUB, make_tokenizer
from problems import kinds, refused
from pyarrow import parquet

from compressor.data.corpus import packing, stream
from compressor.data.spec import CorpusSpec, HubDataset
from compressor.errors import RecipeError

TEXTS = ["the film was good", 'a "bad" plot, and long', "null", "1.50", "Überaus schön – 電影", "end"]
LANGUAGES = ["en", "en", "en", "en", "de", "en"]


def spec(**values: Any) -> CorpusSpec:
    return CorpusSpec(source="x", **values)


def write(folder: Path, suffix: str, rows: list[dict[str, Any]]) -> Path | HubDataset:
    path = folder / f"corpus{suffix}"
    if suffix == ".txt":
        path.write_text("\n".join(row["text"] for row in rows) + "\n", encoding="utf-8")
    elif suffix == ".csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    elif suffix == ".tsv":
        lines = ["\t".join(rows[0]), *("\t".join(map(str, row.values())) for row in rows)]
        path.write_bytes("\r\n".join(lines).encode("utf-8-sig"))
    elif suffix == ".parquet":
        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    else:
        path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return on_hub(path, "jsonl") if suffix == "hub.jsonl" else path


def on_hub(path: Path, suffix: str) -> HubDataset:
    """A data set on the stand-in for the hub that has the rows of a file."""
    rows = path.read_bytes()
    name = f"org/{hashlib.sha256(rows).hexdigest()[:12]}"
    HUB.push("datasets", name, {f"train.{suffix}": rows})
    return HubDataset(hub=name, split="train")


def read(source: Path | HubDataset, **values: Any) -> list[str]:
    return list(stream.texts(source, spec(**values)))


@pytest.mark.parametrize("suffix", [".txt", ".csv", ".tsv", ".jsonl", ".parquet", "hub.jsonl"])
def test_every_format_gives_the_same_texts(tmp_path: Path, suffix: str):
    padded = [text + "  " for text in [*TEXTS[:3], "", "   ", *TEXTS[3:]]]
    source = write(tmp_path, suffix, [{"id": i, "text": text} for i, text in enumerate(padded)])
    assert read(source) == TEXTS, "in order, without blank ones and outer spaces; words that look like nothing stay"


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet", "hub.jsonl"])
def test_where_compares_as_text(tmp_path: Path, suffix: str):
    rows = [
        {"body": text, "lang": lang, "id": i, "ok": "true" if suffix in (".csv", ".tsv") else True}
        for i, (text, lang) in enumerate(zip(TEXTS, LANGUAGES, strict=True))
    ]
    source = write(tmp_path, suffix, rows)
    assert read(source, text="body", where={"lang": "de"}) == [TEXTS[4]]
    assert read(source, text="body", where={"id": 2, "ok": True}) == [TEXTS[2]]
    with refused("data.corpus.where", "value"):
        read(source, text="body", where={"lang": "fr"})
    with refused("data.corpus", "missing"):
        read(source, text="tex", where={"lang": "de"})
    with refused("data.corpus", "missing"):
        read(source, text="body", where={"language": "de"})


def test_numbers_are_texts_and_missing_cells_are_not(tmp_path: Path):
    rows = [{"text": 7}, {"text": None}, {"text": True}, {"text": 2.0}]
    assert read(write(tmp_path, ".jsonl", rows)) == ["7", "true", "2"]
    (tmp_path / "short.csv").write_text("id,text\n1,\n\n2,good\n")
    assert read(tmp_path / "short.csv") == ["good"]


def test_class_labels_of_a_hub_data_set_go_by_their_names(tmp_path: Path):
    from datasets import ClassLabel, Dataset, Features, Value

    features = Features({"text": Value("string"), "label": ClassLabel(names=["bad", "good"])})
    rows = Dataset.from_dict({"text": ["a", "b", "c"], "label": [0, 1, -1]}, features=features)
    rows.to_parquet(tmp_path / "train.parquet")
    assert read(on_hub(tmp_path / "train.parquet", "parquet"), where={"label": "good"}) == ["b"]


def test_quoted_fields_span_lines_and_may_be_long(tmp_path: Path):
    long = "word " * 40_000
    text = 'two\r\nlines, a ""quote""'
    (tmp_path / "a.csv").write_bytes(f'id,text\n1,"{text}"\n2,{long}\n'.encode())
    assert read(tmp_path / "a.csv") == ['two\r\nlines, a "quote"', long.strip()]


def test_a_share_is_drawn_by_the_text_alone(tmp_path: Path):
    texts = [f"text {i}" for i in range(2000)]
    source = write(tmp_path, ".jsonl", [{"text": text} for text in texts])
    kept = read(source, fraction=0.3)
    assert 530 < len(kept) < 670, "600 expected, four standard deviations either side"
    assert read(write(tmp_path, ".txt", [{"text": text} for text in reversed(texts)]), fraction=0.3) == kept[::-1]
    assert set(kept) < set(read(source, fraction=0.5))
    held = sum(stream.held_out(text, 0.3) for text in kept)
    assert 0.2 < held / len(kept) < 0.4, "which texts are kept says nothing of which are held out"


@pytest.mark.parametrize(
    ("name", "content", "kind", "place"),
    [
        ("a.jsonl", b'{"text": "a"}\n\n{"text": \n', "unreadable", r"a\.jsonl, line 3"),
        ("a.jsonl", b'{"text": "a"}\n["b"]\n', "unreadable", "line 2"),
        ("a.jsonl", b'{"text": "a"}\n{"txt": "b"}\n', "missing", "line 2"),
        ("a.jsonl", b'{"text": ["a", "b"]}\n', "type", "line 1"),
        ("a.jsonl", b'{"text": "half a pair \\ud83d"}\n', "unreadable", "line 1"),
        ("a.txt", b"fine\nna\xefve\n", "unreadable", r"a\.txt, line 2"),
        ("a.txt", "\ufeffutf-16".encode("utf-16"), "unreadable", "line 1"),
        ("a.csv", b"text\ngood\n\xff\n", "unreadable", "line 3"),
        ("a.csv", b"text\ngood,bad\n", "unreadable", "line 2: has 2 fields"),
        ("a.csv", b"id,text\n1,a\n2\n", "unreadable", "line 3: has 1 fields"),
        ("a.jsonl", b'{"text": NaN}\n', "type", "line 1"),
        ("a.jsonl", b'{"text": "a", "text": "b"}\n', "unreadable", "line 1: has the key 'text' twice"),
        ("a.txt", b"a\0b\n", "unreadable", "line 1: has a NUL"),
        ("a.csv", b'text\n"never closed\nend\n', "unreadable", "line 3"),
        ("a.csv", b"", "missing", "line 1"),
        ("a.tsv", b"id\ttxt\n", "missing", "line 1"),
        ("a.parquet", b"PAR1 but not really", "unreadable", r"a\.parquet, after row 0"),
        ("a.gone.txt", None, "unreadable", r"a\.gone\.txt"),
    ],
)
def test_unreadable_text_is_reported_with_its_line(
    tmp_path: Path, name: str, content: bytes | None, kind: str, place: str
):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(RecipeError, match=place) as error:
        read(tmp_path / name)
    assert kinds(error.value) == {"data.corpus": kind}


def test_a_text_file_has_no_columns_to_filter_by(tmp_path: Path):
    with refused("data.corpus.where", "conflict"):
        read(write(tmp_path, ".txt", [{"text": "a"}]), where={"lang": "en"})


def test_paragraphs():
    assert stream.paragraphs(" one \n\n two\nthree", "\n") == ["one", "two", "three"]
    assert stream.paragraphs("one<br />two <br /> <br />", "<br />") == ["one", "two"]
    assert stream.paragraphs(" one\ntwo ", "") == ["one\ntwo"]
    assert stream.paragraphs("  ", "\n") == []


@pytest.mark.parametrize("suffix", [".txt", ".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("sentence_order", [False, True])
def test_memory_does_not_grow_with_the_corpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, sentence_order: bool
):
    monkeypatch.setattr(packing, "BATCH_PIECES", 50)
    tokenizer, kind = make_tokenizer(), spec(sentence_order=sentence_order)

    def peak(count: int) -> int:
        folder = tmp_path / str(count)
        folder.mkdir()
        source = write(folder, suffix, [{"text": f"the film {i} was good. And long"} for i in range(count)])
        assert isinstance(source, Path)
        tracemalloc.start()
        try:
            packing.pack(stream.texts(source, kind), kind, tokenizer, 16, 0.5, folder, lambda _: None)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(300)  # imports, caches
    small, large = peak(400), peak(8000)
    assert large < small + 100_000, "20 times the texts"


def test_texts_are_read_only_as_far_as_they_are_used(tmp_path: Path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "first"}\nbroken\n')
    lines: Iterator[str] = stream.texts(path, spec())
    assert next(lines) == "first"
    with pytest.raises(RecipeError):
        next(lines)
