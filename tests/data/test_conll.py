"""Tagged files: sentences worked out by hand, what others write, and every broken line is reported with its number."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import kinds, refused

from compressor.data import conll
from compressor.data.conll import Sentence
from compressor.errors import RecipeError


def read(folder: Path, content: str | bytes) -> list[Sentence]:
    path = folder / "tags.conll"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(conll.read(path, "data.train"))


def problems(folder: Path, content: str | bytes) -> list[str]:
    with pytest.raises(RecipeError) as error:
        read(folder, content)
    assert kinds(error.value) == {"data.train": "unreadable"}
    return [f"{problem.what}; {problem.hint}" for problem in error.value.problems]


def test_sentences_with_the_line_of_their_first_token(tmp_path: Path):
    content = "Jo\tB-person\nruns\tO\n\n\t\nin\tO\nNew\tB-place\nYork\tI-place\n"
    assert read(tmp_path, content) == [
        Sentence(1, ("Jo", "runs"), ("B-person", "O")),
        Sentence(5, ("in", "New", "York"), ("O", "B-place", "I-place")),
    ]


@pytest.mark.parametrize(
    "content",
    [
        "a\tO\nb\tB-x\n\nc\tO\n\n",
        "a\tO\nb\tB-x\n\t\nc\tO",
        "a O\nb B-x\n   \nc   O \n",
        "\ufeffa\tO\r\nb\tB-x\r\n\r\nc\tO\r\n",
        "-DOCSTART- -X- -X- O\n\na NN B-NP O\nb NN I-NP B-x\n\nc NN O O\n",
        "-DOCSTART-\n\na O\nb\tB-x\n-DOCSTART-\tO\nc\tO\n",
        "# sent_id = 1\n# text = a\tb O\n# a remark\na\tO\nb\tB-x\n\n# text=c\nc\t\t\tO\n",
    ],
    ids=["tabs", "blank tabs", "spaces", "mark and CRLF", "CoNLL-2003", "documents", "CoNLL-U"],
)
def test_what_others_write(tmp_path: Path, content: str):
    found = [(sentence.tokens, sentence.tags) for sentence in read(tmp_path, content)]
    assert found == [(("a", "b"), ("O", "B-x")), (("c",), ("O",))]


@pytest.mark.parametrize(
    ("content", "tokens"),
    [
        ("#\tO\n#fail\tO\n", ("#", "#fail")),
        ("# \tO\n# \tB-x\n", ("#", "#")),
        ("# O\na O\n# O\n", ("#", "a", "#")),
        ("# NN O\n", ("#",)),
        ("a\tO\n# =\tO\n", ("a", "# =")),
        ("\u200b\tO\n\u00a0\tO\n\u2028 O\n", ("\u200b", "\u00a0", "\u2028")),
        ("New York\tB-x\n", ("New York",)),
        ("-DOCSTART\tO\n", ("-DOCSTART",)),
        ("a\u2028b\x0bc\x85d\tO\n", ("a\u2028b\x0bc\x85d",)),
    ],
)
def test_odd_tokens(tmp_path: Path, content: str, tokens: tuple[str, ...]):
    assert [sentence.tokens for sentence in read(tmp_path, content)] == [tokens]


def test_every_scheme_of_tags(tmp_path: Path):
    tags = ("O", "B-x", "I-x", "S-x", "E-x", "L-x", "U-x", "B-creative-work", "I-Ämter 1")
    (sentence,) = read(tmp_path, "".join(f"a\t{tag}\n" for tag in tags))
    assert sentence.tags == tags


@pytest.mark.parametrize(
    ("content", "place"),
    [
        ("a\tO\nb\n", r"tags\.conll, line 2: 'b' "),
        ("a\tO\n\tB-x\n", "line 2: .*token before .*'B-x'"),
        ("a\tB-NP\t\n", "line 1: .*'a' is empty"),
        ("a\tPER\n", "line 1: .*'a' .*'PER'"),
        ("a\tB-\n", "the tag 'B-'"),
        ("a\tB\n", "the tag 'B'"),
        ("a\tb-x\n", "the tag 'b-x'"),
        ("a\tX-x\n", "the tag 'X-x'"),
        ("a\to\n", "the tag 'o'"),
        ("O\ta\n", "line 1: .*'O' .*'a'"),
        ("a\tO\n# a remark\n", "line 2: .*'#' .*'remark'"),
        ("#\n", "line 1: '#' "),
        ("x" * 1000 + "\n", "'x{59}…'"),
        (b"a\tO\nna\xefve\tO\n", "line 2: is not UTF-8"),
    ],
)
def test_broken_lines(tmp_path: Path, content: str | bytes, place: str):
    (problem,) = problems(tmp_path, content)
    assert re.search(place, problem), problem


def test_the_first_ten_broken_lines_are_reported_at_once(tmp_path: Path):
    found = problems(tmp_path, "good\tO\n\n" + "one\n\ntwo\tPER\nthree\tO\n" * 3)
    assert [problem.split(":")[0] for problem in found] == [f"tags.conll, line {n}" for n in (3, 5, 7, 9, 11, 13)]
    assert len(problems(tmp_path, "word\n" * 50)) == 10


def test_what_is_before_a_broken_line_is_read_as_a_stream(tmp_path: Path):
    path = tmp_path / "tags.conll"
    path.write_text("a\tO\n\nb\nc\tO\n\nd\tO\n")
    sentences = conll.read(path, "data.train")
    assert next(sentences) == Sentence(1, ("a",), ("O",))
    with pytest.raises(RecipeError) as error:
        next(sentences)
    assert "line 3" in str(error.value)


def test_a_file_that_is_not_there(tmp_path: Path):
    with refused("data.train", "unreadable"):
        list(conll.read(tmp_path / "gone.conll", "data.train"))


WORDS = st.text(st.characters(exclude_characters="\n\r\t\0", exclude_categories=["Cs"]), min_size=1).filter(
    lambda word: word.strip(" ") == word and word != "-DOCSTART-" and word[0] not in "#\ufeff"
)
TAGS = st.sampled_from(["O", "B-x", "I-x", "S-y", "L-y"])


@settings(deadline=None)
@given(st.lists(st.lists(st.tuples(WORDS, TAGS), min_size=1), max_size=5))
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, written: list[list[tuple[str, str]]]):
    content = "\n".join("".join(f"{word}\t{tag}\n" for word, tag in sentence) for sentence in written)
    found = read(tmp_path_factory.getbasetemp(), content)
    assert [list(zip(sentence.tokens, sentence.tags, strict=True)) for sentence in found] == written
