"""Which validation rows have a text that a corpus has."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import make_tokenizer

from compressor.data import tagged_rows
from compressor.data.corpus import packing, seen
from compressor.data.spec import CorpusSpec

TEXTS = ["The film was good.\nThe plot was bad. The film was long!", "a plain text", "held out"]


def counts(notes: list[str]) -> list[str]:
    return [note.split(" validation rows")[0] for note in notes]


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        ([("a PLAIN  text",), ("another",)], ["1 of 2"]),  # a text, apart from case and white space
        ([("The film was good.",)], ["1 of 1"]),  # a paragraph
        ([("the plot was bad.",), ("The film was long!",)], ["2 of 2"]),  # sentences
        ([("another", "a plain text"), ("a plain", "text")], ["1 of 2"]),  # one of two texts
        ([("held out",), ("The film",), ("",)], []),  # not trained on, or only a part of a sentence
        ([], []),
    ],
)
def test_validation_rows_that_a_corpus_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: list[tuple[str, ...]], found: list[str]
):
    monkeypatch.setattr(packing, "held_out", lambda text, fraction: text == "held out")
    spec = CorpusSpec(source="x")
    packing.pack(TEXTS, spec, make_tokenizer(), 8, 0.5, tmp_path, lambda _: None)
    notes = seen.overlap(rows, tmp_path / seen.SEEN_FILE, "data.corpus")
    assert counts(notes) == found and all("data.corpus" in note for note in notes)


def test_words_of_a_tagged_sentence_are_those_of_a_raw_one(tmp_path: Path):
    import datasets

    words = ["The", "film", "was", "good", "."]
    rows = datasets.Dataset.from_list([{"tokens": words, "tags": ["O"] * 5}])
    assert list(seen.recorded(TEXTS, tmp_path / "texts.npy", "\n")) == TEXTS
    assert counts(seen.overlap(tagged_rows.identities(rows), tmp_path / "texts.npy", "x")) == ["1 of 1"]


def test_a_corpus_without_texts(tmp_path: Path):
    assert list(seen.recorded([], tmp_path / "texts.npy", "")) == []
    assert seen.overlap([("a",)], tmp_path / "texts.npy", "x") == []
