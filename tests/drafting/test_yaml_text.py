"""What is written is read back as it was, whatever it holds, and comments say nothing twice."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from compressor.drafting.yaml_text import Key, inline, write
from compressor.recipe.yaml_file import parse_value

TEXTS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=30)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


@given(VALUES)
def test_values_are_read_back(value: Any):
    assert parse_value(f"key: {inline(value)}") == {"key": value}


@given(TEXTS, TEXTS)
def test_comments_change_nothing(text: str, comment: str):
    entries = [
        Key("a", text, comment),
        Key("b", [Key("c", 1, comment), Key("d", [[Key("e", 2, comment), Key("f", [text], comment)]])]),
    ]
    found = write([comment], entries)
    assert parse_value(found) == {"a": text, "b": {"c": 1, "d": [{"e": 2, "f": [text]}]}}


def test_words_of_yaml_stay_words():
    for word in ("yes", "no", "null", "~", "1.0", "010", "1_000", "true", "", "- a", "a: b", "a #b", "*a", "&a"):
        assert parse_value(f"key: {inline(word)}") == {"key": word}
    assert [inline(value) for value in (1e-4, 2.5, 0.9, 10_000_000, 512)] == [
        "1.0e-4",
        "2.5",
        "0.9",
        "10_000_000",
        "512",
    ]


def test_a_comment_is_written_once():
    assert write([], [Key("a", 1, "why"), Key("b", 2, "why")]) == "# why\na: 1\nb: 2\n"
