"""BPE and Unigram with fewer pieces: what they keep splits as before, and nothing becomes unknown."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_tokenizers import KINDS, SPECIAL, TEXT, parts_of, trained
from tokenizers import Tokenizer
from tokenizers.models import BPE, Unigram, WordLevel

from compressor.errors import StageError
from compressor.models import tokenizers


def read(parts: dict[str, Any]) -> Tokenizer:
    return Tokenizer.from_str(json.dumps(parts))


def counts_of(tokenizer: Tokenizer, texts: list[str]) -> np.ndarray:
    ids = [index for text in texts for index in tokenizer.encode(text, add_special_tokens=False).ids]
    return np.bincount(ids, minlength=tokenizer.get_vocab_size())


@cache
def pair_of(kind: str, by: str) -> tuple[Tokenizer, Tokenizer, np.ndarray]:
    """A tokenizer, a smaller one, and the old id of each new one."""
    whole = trained(kind)
    counts = counts_of(whole, TEXT[:9] + TEXT[-1:])
    limits = {"min_count": 2} if by == "count" else {"keep": (bounds(whole)[0] + whole.get_vocab_size()) // 2}
    trimmed = tokenizers.trim(parts_of(whole), counts, **limits)
    if by == "number":
        assert len(trimmed.sources) == limits["keep"]
    return whole, read(trimmed.tokenizer), trimmed.sources


def bounds(tokenizer: Tokenizer) -> tuple[int, int]:
    smallest = tokenizers.trim(parts_of(tokenizer), np.zeros(tokenizer.get_vocab_size()), min_count=1)
    return len(smallest.sources), tokenizer.get_vocab_size()


def unknown_characters(encoding: Any) -> set[int]:
    """Those that unknown tokens stand for."""
    found = zip(encoding.offsets, encoding.tokens, encoding.sequence_ids, strict=True)
    return {n for (start, end), token, part in found if token == "<unk>" and part == 0 for n in range(start, end)}


TEXTS = st.one_of(
    st.lists(st.sampled_from(" ".join(TEXT).split()), max_size=8).map(" ".join),
    st.lists(st.text(alphabet="thersingé電ü日! 😀nah\n", max_size=12), max_size=5).map(" ".join),
)


@pytest.mark.parametrize("by", ["count", "number"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_split_into_pieces_that_stay_is_split_as_before_and_nothing_becomes_unknown(kind: str, by: str):
    whole, small, sources = pair_of(kind, by)
    unknown, stays, seen = whole.token_to_id("<unk>"), set(sources.tolist()), {True: 0, False: 0}
    assert len(stays) < whole.get_vocab_size()

    def holds(text: str) -> None:
        encodings = [tokenizer.encode(text, "a") for tokenizer in (whole, small)]
        before, after = (encoding.ids for encoding in encodings)
        found = [int(sources[index]) for index in after]
        if unknown not in before or kind != "gaps":
            seen[stays.issuperset(before)] += 1
            assert (found == before) == stays.issuperset(before)
        assert unknown_characters(encodings[1]) <= unknown_characters(encodings[0])
        if kind == "roberta":
            assert small.decode(after) == whole.decode(before)

    for text in TEXT:
        holds(text)
    assert min(seen.values()) > 0, "some texts lose pieces, and some do not"
    settings(max_examples=120, deadline=None, database=None)(given(TEXTS)(holds))()


@pytest.mark.parametrize("kind", KINDS)
def test_special_tokens_keep_their_roles_under_new_ids(kind: str):
    whole, small, sources = pair_of(kind, "count")
    assert [small.id_to_token(index) for index in range(5)] == SPECIAL
    tokens = small.encode("good", "film").tokens
    inside = [token for token in tokens if token not in SPECIAL]
    assert [token for token in tokens if token in SPECIAL] == ["<s>", "</s>", "</s>", "</s>"], inside
    names = [small.id_to_token(index) for index in range(small.get_vocab_size())]
    old = [whole.id_to_token(int(source)) for source in sources]
    assert [(a, b) for a, b in zip(names, old, strict=True) if a != b and b != "<unk>"] == []
    assert sum(b == "<unk>" for b in old) == (2 if kind == "gaps" else 1), "h is in pieces only"


def byte_pairs(merges: list[tuple[str, str]], *more: str) -> Tokenizer:
    pieces = [*sorted(set("".join(left + right for left, right in merges))), *more]
    pieces += [left + right for left, right in merges]
    return Tokenizer(BPE({piece: index for index, piece in enumerate(dict.fromkeys(pieces))}, merges))


def occurring(tokenizer: Tokenizer, **times: int) -> np.ndarray:
    counts = np.zeros(tokenizer.get_vocab_size(), dtype=np.int64)
    for piece, count in times.items():
        counts[tokenizer.token_to_id(piece)] = count
    return counts


def test_a_merged_piece_keeps_what_it_is_merged_from():
    whole = byte_pairs([("a", "b"), ("ab", "c"), ("c", "d"), ("abc", "d"), ("d", "a")])
    trimmed = tokenizers.trim(parts_of(whole), occurring(whole, abcd=5, cd=1), min_count=2)
    model = trimmed.tokenizer["model"]
    assert [*model["vocab"]] == ["a", "b", "c", "d", "ab", "abc", "abcd"]
    assert model["merges"] == [["a", "b"], ["ab", "c"], ["abc", "d"]]
    small = read(trimmed.tokenizer)
    assert small.encode("abcdcdda").tokens == ["abcd", "c", "d", "d", "a"]
    # "ab" and "abc" stay for the sake of "abcd", however often they occur; a text with all of "abcd" might lose it.
    assert [int(trimmed.needed[whole.token_to_id(p)]) for p in ("a", "ab", "abc", "cd", "abcd")] == [0, 0, 0, 2, 2]


def test_of_several_ways_to_merge_a_piece_the_one_that_is_taken_stays():
    whole = byte_pairs([("b", "c"), ("a", "b"), ("ab", "c"), ("a", "bc"), ("b", "b")])
    assert whole.encode("abc").tokens == ["abc"]
    model = tokenizers.trim(parts_of(whole), occurring(whole, abc=1), min_count=1).tokenizer["model"]
    assert [*model["vocab"]] == ["a", "b", "c", "bc", "abc"]
    assert model["merges"] == [["b", "c"], ["a", "bc"]]


def test_of_a_number_of_tokens_a_part_counts_as_often_as_what_is_made_of_it():
    whole = byte_pairs([("a", "b"), ("ab", "c"), ("c", "d"), ("b", "d")])
    counts = occurring(whole, abc=5, cd=4, bd=1)
    chosen = [["ab"], ["ab", "abc"], ["ab", "abc", "cd"], ["ab", "abc", "cd", "bd"]]
    for extra, pieces in enumerate(chosen, start=1):
        model = tokenizers.trim(parts_of(whole), counts, keep=4 + extra).tokenizer["model"]
        assert sorted(model["vocab"]) == sorted([*"abcd", *pieces])


def test_merges_of_older_files_are_strings():
    parts = parts_of(byte_pairs([("a", "b"), ("ab", "c"), ("b", "c")]))
    del parts["model"]["type"]
    parts["model"]["merges"] = [" ".join(pair) for pair in parts["model"]["merges"]]
    trimmed = tokenizers.trim(parts, np.array([0, 0, 0, 0, 3, 0]), min_count=1)
    assert trimmed.tokenizer["model"]["merges"] == ["a b", "ab c"]
    assert read(trimmed.tokenizer).encode("abcbc").tokens == ["abc", "b", "c"]


def test_scores_stay_and_a_character_without_a_piece_is_taken_where_it_was_unknown():
    scored = [
        ("<s>x", 0.0),
        ("<unk>", 0.0),
        ("a", -4.0),
        ("ab", -2.0),
        ("☃a", -3.0),
        ("aa", -3.0),
        ("aaa", -9.0),
        ("b", -5.0),
    ]
    whole = Tokenizer(Unigram(scored, unk_id=1))
    assert whole.encode("a☃aa☃").tokens == ["a", "☃a", "a", "☃"] and whole.encode("☃").ids == [1]
    trimmed = tokenizers.trim(parts_of(whole), occurring(whole, ab=2), min_count=2)
    model = trimmed.tokenizer["model"]
    # <s>x scores 0, so it may be a mark; the lowest piece is what the unknown one scores relative to.
    left = [["<s>x", 0.0], ["<unk>", 0.0], ["a", -4.0], ["ab", -2.0], ["aaa", -9.0], ["b", -5.0], ["☃", -19.0]]
    assert model["vocab"] == left and model["unk_id"] == 1
    assert trimmed.sources.tolist() == [0, 1, 2, 3, 6, 7, 1], "a new piece takes the unknown one's embedding"
    small = read(trimmed.tokenizer)
    assert small.encode("a☃ab").tokens == ["a", "☃", "ab"] and small.encode("é☃").ids == [1, 6]


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_to_drop_leaves_the_file_as_it_is(kind: str):
    parts = parts_of(trained(kind))
    size = bounds(read(parts))[1]
    for limits in ({"min_count": 0}, {"keep": size}):
        trimmed = tokenizers.trim(parts, np.ones(size, dtype=np.int64), **limits)
        assert trimmed.tokenizer == parts and trimmed.sources.tolist() == list(range(size))


def test_a_dictionary_of_words_is_refused():
    words = Tokenizer(WordLevel({"[UNK]": 0, "film": 1}, unk_token="[UNK]"))
    with pytest.raises(StageError, match="is WordLevel, and vocabulary trims BPE, Unigram, WordPiece"):
        tokenizers.trim(parts_of(words), np.ones(2), keep=1)
