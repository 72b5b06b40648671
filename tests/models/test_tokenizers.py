"""Trimmed tokenizers: what stays, under which ids, and that nothing becomes impossible to split."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import GOOD, NEUTRAL, SPECIAL, make_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import BertProcessing, TemplateProcessing

from compressor.errors import StageError
from compressor.models import tokenizers

LETTERS = [chr(code) for code in range(ord("a"), ord("z") + 1)]


def parts_of(tokenizer: Any) -> dict[str, Any]:
    return json.loads(getattr(tokenizer, "backend_tokenizer", tokenizer).to_str())


def read(parts: dict[str, Any]) -> Tokenizer:
    return Tokenizer.from_str(json.dumps(parts))


def counted(tokenizer: Tokenizer, texts: list[str]) -> np.ndarray:
    ids = [index for text in texts for index in tokenizer.encode(text, add_special_tokens=False).ids]
    return np.bincount(ids, minlength=tokenizer.get_vocab_size())


def word_pieces(*pieces: str, special: list[str] = SPECIAL) -> Tokenizer:
    """A tokenizer whose special tokens come last, as a test for what thinks that they come first."""
    vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys([*pieces, *special]))}
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = BertNormalizer(), BertPreTokenizer()
    tokenizer.add_special_tokens(special)
    tokenizer.post_processor = BertProcessing(("[SEP]", vocabulary["[SEP]"]), ("[CLS]", vocabulary["[CLS]"]))
    return tokenizer


def test_what_occurs_stays_under_new_ids_in_the_old_order():
    whole = read(parts_of(make_tokenizer()))
    counts = counted(whole, ["good good film", "the film", "fine"])
    trimmed = tokenizers.trim(parts_of(whole), counts, min_count=1)
    small = read(trimmed.tokenizer)
    assert trimmed.sources.tolist() == sorted(trimmed.sources)
    assert [small.id_to_token(n) for n in range(small.get_vocab_size())] == [
        whole.id_to_token(int(source)) for source in trimmed.sources
    ]
    words = set(small.get_vocab()) - set(SPECIAL) - set(LETTERS) - {f"##{letter}" for letter in LETTERS}
    assert words == {"good", "film", "the", "fine", "a"} - set(LETTERS)
    assert small.encode("the good film").tokens == ["[CLS]", "the", "good", "film", "[SEP]"]
    assert small.encode("plot").tokens == ["[CLS]", "p", "##l", "##o", "##t", "[SEP]"]


def test_the_most_frequent_stay_up_to_a_number():
    whole = read(parts_of(make_tokenizer()))
    counts = counted(whole, ["good good good film film plot actor"])
    least = len(SPECIAL) + 2 * len(LETTERS)
    for keep, words in ((least, []), (least + 1, ["good"]), (least + 3, ["good", "film", "plot"])):
        small = read(tokenizers.trim(parts_of(whole), counts, keep=keep).tokenizer)
        assert small.get_vocab_size() == keep
        assert set(words) == {word for word in (*GOOD, *NEUTRAL) if len(word) > 1 and word in small.get_vocab()}


def test_of_what_never_occurs_free_places_go_first():
    whole = word_pieces("[unused0]", "[unused1]", "ab", "ba", "a", "b", "##a", "##b", "[", "##[")
    least = tokenizers._Tokens.of(parts_of(whole)).least
    small = read(tokenizers.trim(parts_of(whole), np.zeros(99), keep=least + 1).tokenizer)
    assert "ab" in small.get_vocab() and "[unused0]" not in small.get_vocab()


@pytest.mark.parametrize("limits", [{"keep": 10_000}, {"min_count": 0}])
def test_nothing_to_drop_changes_nothing(limits):
    whole = word_pieces("ab☃", "a", "b", "##b")
    parts = parts_of(whole)
    trimmed = tokenizers.trim(parts, np.ones(9), **limits)
    assert trimmed.sources.tolist() == list(range(9))
    assert trimmed.tokenizer == {**parts, "padding": None}


@pytest.mark.parametrize("limits", [{"min_count": 1}, {"min_count": 2}, {"min_count": 3}, {"min_count": 0}])
@pytest.mark.parametrize("seed", range(3))
def test_what_new_text_would_lose_is_what_each_text_loses_that_was_not_counted(limits: dict, seed: int):
    whole = read(parts_of(make_tokenizer()))
    random = np.random.default_rng(seed)
    words = [*GOOD, *NEUTRAL, "ab"]
    chances = 1 / np.arange(1, len(words) + 1)
    texts = [" ".join(random.choice(words, 6, p=chances / chances.sum())) for _ in range(30)]
    ids = [np.array(whole.encode(text, add_special_tokens=False).ids) for text in texts]
    size = whole.get_vocab_size()
    counts = sum(np.bincount(each, minlength=size) for each in ids)

    def gone(counts: np.ndarray) -> np.ndarray:
        mask = np.ones(size, dtype=bool)
        mask[tokenizers.trim(parts_of(whole), counts, **limits).sources] = False
        return mask

    trimmed = tokenizers.trim(parts_of(whole), counts, **limits)
    changed, unfamiliar = tokenizers.changes(lambda: iter([ids[:20], ids[20:]]), gone(counts), counts - trimmed.needed)
    lost = [gone(counts)[each] for each in ids]
    assert changed.texts == np.mean([each.any() for each in lost])
    assert changed.tokens == pytest.approx(np.concatenate(lost).mean())
    lost = [gone(counts - np.bincount(each, minlength=size))[each] for each in ids]
    assert unfamiliar.texts == np.mean([each.any() for each in lost])
    assert unfamiliar.tokens == pytest.approx(np.concatenate(lost).mean())
    assert (unfamiliar.tokens > 0) == (limits["min_count"] > 0)


@pytest.mark.parametrize("template", [True, False])
def test_special_tokens_keep_their_place_under_new_ids(template):
    whole = word_pieces("aa", "bb", "a", "b", "##a", "##b", "abab")
    if template:
        ids = [(name, whole.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
        whole.post_processor = TemplateProcessing(
            single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ids
        )
    whole.add_tokens(["<new>"])  # beyond the pieces
    whole.enable_padding(pad_id=whole.token_to_id("[PAD]"))
    counts = np.zeros(whole.get_vocab_size(), dtype=np.int64)
    counts[whole.token_to_id("bb")] = 5
    trimmed = tokenizers.trim(parts_of(whole), counts, min_count=1)
    small = read(trimmed.tokenizer)
    assert small.get_vocab_size() == whole.get_vocab_size() - 2
    assert small.encode("bb <new>", "aa").tokens == ["[CLS]", "bb", "<new>", "[SEP]", "a", "##a", "[SEP]"]
    encoded = small.encode("bb <new>")
    assert [whole.id_to_token(int(trimmed.sources[index])) for index in encoded.ids] == encoded.tokens


def test_a_character_without_one_of_its_forms_is_given_it():
    whole = word_pieces("ab☃", "xa", "##b☃", "##ab", "a", "b", "x", "##a", "##b", "##x")
    assert whole.encode("xab☃", add_special_tokens=False).tokens == ["xa", "##b☃"]
    counts = np.zeros(whole.get_vocab_size(), dtype=np.int64)
    counts[[whole.token_to_id("##b☃"), whole.token_to_id("##ab")]] = 9
    trimmed = tokenizers.trim(parts_of(whole), counts, min_count=1)
    small = read(trimmed.tokenizer)
    # The longest piece after x is now ##ab, and without a ##☃ the word would be unknown.
    assert small.encode("xab☃", add_special_tokens=False).tokens == ["x", "##ab", "##☃"]
    lent = {token: whole.id_to_token(int(trimmed.sources[small.token_to_id(token)])) for token in ("☃", "##☃")}
    assert lent == {"☃": "[UNK]", "##☃": "[UNK]"}, "nothing better is known of it"


PIECES = ["the", "there", "##re", "##er", "in", "##in", "##ing", "sing", "inter", "##est", "ing", "nt", "##nt", "est"]


@cache
def both() -> tuple[Tokenizer, Tokenizer, set[str]]:
    whole = word_pieces(*PIECES, *LETTERS[::2], *(f"##{letter}" for letter in LETTERS[::3]), "日", "##é", "!")
    random = np.random.default_rng(0)
    counts = random.integers(0, 2, whole.get_vocab_size())
    trimmed = tokenizers.trim(parts_of(whole), counts, min_count=1)
    dropped = set(range(whole.get_vocab_size())) - set(trimmed.sources.tolist())
    return whole, read(trimmed.tokenizer), {whole.id_to_token(index) for index in dropped}


@settings(max_examples=300, deadline=None)
@given(st.lists(st.text(alphabet="thersingé日! 😀", max_size=12), max_size=5).map(" ".join))
def test_whatever_could_be_split_still_can_and_only_what_lost_a_piece_is_split_otherwise(text):
    whole, small, dropped = both()
    assert dropped
    before, after = (each.encode(text) for each in (whole, small))
    if "[UNK]" not in before.tokens:
        assert "[UNK]" not in after.tokens
        assert (before.tokens == after.tokens) == (not dropped.intersection(before.tokens))
    assert after.tokens.count("[UNK]") <= before.tokens.count("[UNK]")


def test_too_few_tokens_are_refused(tmp_path: Path):
    parts = parts_of(make_tokenizer())
    least = len(SPECIAL) + 2 * len(LETTERS)
    with pytest.raises(StageError, match=rf"keep is 20, but special tokens and single .* stay; at least {least}"):
        tokenizers.trim(parts, np.ones(len(parts["model"]["vocab"])), keep=20)
    assert tokenizers.bounds(tmp_path) is None
    make_tokenizer().save_pretrained(tmp_path)
    assert tokenizers.bounds(tmp_path) == (least, len(make_tokenizer()))
    file = tmp_path / "tokenizer.json"
    older = json.loads(file.read_text())
    del older["model"]["type"]
    file.write_text(json.dumps(older))
    assert tokenizers.bounds(tmp_path) == (least, len(make_tokenizer())), "older files do not name the kind"
    for broken in ({"vocab": {}, "merges": [[1]]}, {"vocab": [["a"]]}, {"vocab": None}, {}):
        file.write_text(json.dumps({"model": broken}))
        with pytest.raises(StageError, match=r"is not a tokenizer that can be trimmed|is WordLevel"):
            tokenizers.bounds(tmp_path)
