"""Masking: how many, which, and what stands in their place."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from conftest import make_tokenizer, sentences
from problems import refused

from compressor.data.corpus.masking import Masked, Vocabulary, mask

# 0 [PAD], 1 [CLS], 2 [SEP], 3 [MASK], 4 to 13 whole words, 14 to 19 pieces that continue one.
SPECIAL = np.arange(20) < 4
NONE = np.zeros(20, dtype=bool)
VOCABULARY = Vocabulary(20, 3, SPECIAL, np.arange(20) >= 14, NONE)
PAD, CLS, SEP, MASK = range(4)


def packed(rows: int, length: int, seed: int = 0, size: int = 20) -> Any:
    tokens = np.random.default_rng(seed).integers(4, size, (rows, length), dtype=np.uint16)
    tokens[:, 0], tokens[:, -1] = CLS, SEP
    return tokens


def chosen(masked: Masked, tokens: Any) -> Any:
    """Which tokens were chosen. `(rows, length)`."""
    found = np.zeros(tokens.shape, dtype=bool)
    for row, positions in enumerate(masked.positions):
        found[row, positions[positions >= 0]] = True
    return found


def words(row: list[int]) -> list[list[int]]:
    """Positions of each word, worked out plainly."""
    found: list[list[int]] = []
    for position, token in enumerate(row):
        if token < 4:
            continue
        if token >= 14 and found and found[-1][-1] == position - 1:
            found[-1].append(position)
        else:
            found.append([position])
    return found


def near(count: int, total: int, share: float) -> bool:
    """Whether a binomial count is within four standard deviations of what is expected."""
    return abs(count - total * share) < 4 * (total * share * (1 - share)) ** 0.5


def test_golden_case_in_which_everything_is_chosen():
    tokens = np.array([[1, 4, 15, 2, 5, 2], [1, 6, 2, 0, 0, 0], [1, 2, 0, 0, 0, 0]], dtype=np.uint16)
    for whole_words in (False, True):
        masked = mask(tokens, VOCABULARY, probability=1.0, whole_words=whole_words, seed=[0])
        assert masked.positions.tolist() == [[1, 2, 4], [1, -1, -1], [-1, -1, -1]]
        assert masked.labels(tokens).tolist() == [[4, 15, 5], [6, -100, -100], [-100, -100, -100]]
        assert masked.labels(tokens).dtype == np.int64
        assert masked.positions.dtype == np.int16 and masked.inputs.dtype == np.uint16
        assert (masked.inputs[masked.positions < 0] == 0).all() and (masked.inputs[masked.positions >= 0] >= 3).all()


def test_apply_puts_the_inputs_in_and_leaves_the_tokens_alone():
    tokens = np.array([[1, 4, 15, 2], [1, 6, 7, 2]], dtype=np.uint16)
    masked = Masked(np.array([[1, 2], [2, -1]], dtype=np.int16), np.array([[3, 9], [7, 0]], dtype=np.uint16))
    assert masked.apply(tokens).tolist() == [[1, 3, 9, 2], [1, 6, 7, 2]]
    assert masked.labels(tokens).tolist() == [[4, 15], [7, -100]]
    assert tokens.tolist() == [[1, 4, 15, 2], [1, 6, 7, 2]] and masked.apply(tokens).dtype == np.uint16


def test_what_is_chosen_becomes_mask_another_token_or_stays():
    size = 1004
    vocabulary = Vocabulary(size, MASK, np.arange(size) < 4, *np.zeros((2, size), dtype=bool))
    tokens = packed(4000, 64, size=size)
    masked = mask(tokens, vocabulary, probability=0.15, whole_words=False, seed=[1])
    labels, inputs = masked.labels(tokens), masked.inputs
    total = inputs.size
    assert total == 4000 * 9, "0.15 of 62 is 9.3"
    assert near((inputs == MASK).sum(), total, 0.8)
    # One random token in a thousand happens to be the original.
    assert near((inputs == labels).sum(), total, 0.1 + 0.1 / 1000)
    others = inputs[(inputs != MASK) & (inputs != labels)]
    assert near(len(others), total, 0.1 - 0.1 / 1000)
    assert others.min() >= 4, "no special token is put in"
    assert near((others < 504).sum(), len(others), 0.5), "any other token, evenly"
    changed = masked.apply(tokens)
    assert ((changed != tokens) <= chosen(masked, tokens)).all(), "nothing changes but what is chosen"
    by_position = chosen(masked, tokens)[:, 1:-1].sum(axis=0)
    assert all(near(count, 4000, 9 / 62) for count in by_position), "every position is as likely"


@pytest.mark.parametrize("whole_words", [False, True])
def test_special_tokens_are_never_chosen(whole_words: bool):
    tokens = packed(500, 32)
    tokens[::3, 10] = SEP
    tokens[::2, 20:] = PAD
    masked = mask(tokens, VOCABULARY, probability=0.5, whole_words=whole_words, seed=[2])
    assert not SPECIAL[tokens[chosen(masked, tokens)]].any()
    padding = masked.positions < 0
    assert ((np.diff(masked.positions, axis=1) > 0) | padding[:, 1:]).all(), "ascending, then -1"
    assert (padding[:, 1:] >= padding[:, :-1]).all() and not padding[:, 0].any()


@pytest.mark.parametrize(("maskable", "count"), [(0, 0), (1, 1), (3, 1), (10, 2), (20, 3), (24, 4), (30, 4)])
def test_a_row_has_exactly_its_share_and_at_least_one(maskable: int, count: int):
    tokens = np.zeros((50, 32), dtype=np.int32)
    tokens[:, 0], tokens[:, 1 : maskable + 1], tokens[:, maskable + 1] = CLS, 5, SEP
    masked = mask(tokens, VOCABULARY, probability=0.15, whole_words=False, seed=[3])
    assert masked.positions.shape == (50, count) and (masked.positions >= 0).all()
    assert masked.inputs.dtype == np.int32
    assert (masked.apply(tokens) == tokens).all() or count


def test_rows_of_different_lengths_have_their_own_counts():
    tokens = packed(40, 42)
    tokens[20:, 21:] = PAD
    masked = mask(tokens, VOCABULARY, probability=0.2, whole_words=False, seed=[3])
    assert (masked.positions >= 0).sum(axis=1).tolist() == [8] * 20 + [4] * 20


def test_whole_words_are_hidden_whole_or_not_at_all():
    tokens = packed(2000, 40)
    tokens[:, 13] = SEP
    hidden = chosen(mask(tokens, VOCABULARY, probability=0.15, whole_words=True, seed=[4]), tokens)
    for row, flags in zip(tokens.tolist(), hidden, strict=True):
        states = [{bool(flags[position]) for position in word} for word in words(row)]
        assert all(len(state) == 1 for state in states)
    # 37 tokens, so 6; a word that exceeds them is passed over, and a shorter one takes its place.
    assert hidden.sum(axis=1).max() == 6 and (hidden.sum(axis=1) == 6).mean() > 0.9


def test_a_row_of_one_long_word_has_it_hidden_though_it_exceeds_the_share():
    tokens = np.array([[1, 4, 14, 15, 16, 2], [1, 4, 14, 15, 5, 2]], dtype=np.uint16)
    masked = mask(tokens, VOCABULARY, probability=0.25, whole_words=True, seed=[5])
    assert masked.positions[0].tolist() == [1, 2, 3, 4]
    assert masked.positions[1].tolist() == [4, -1, -1, -1], "the one word that fits"


def test_where_no_word_fits_a_row_has_one_of_its_shortest_whole():
    tokens = np.array([[1, 4, 14, 15, 16, 5, 14, 15, 6, 14, 15, 2]] * 200, dtype=np.uint16)
    masked = mask(tokens, VOCABULARY, probability=0.2, whole_words=True, seed=[5], most=3)
    assert {tuple(row) for row in masked.positions.tolist()} == {(5, 6, 7), (8, 9, 10)}


def test_where_every_word_is_longer_than_a_row_may_hide_it_is_masked_by_tokens():
    tokens = np.array([[1, *range(4, 5), *[14, 15, 16, 17] * 5, 2]] * 2000, dtype=np.uint16)
    hidden = chosen(mask(tokens, VOCABULARY, probability=0.15, whole_words=True, seed=[5], most=3), tokens)
    assert (hidden.sum(axis=1) == 3).all()
    assert all(near(count, 2000, 3 / 21) for count in hidden[:, 1:-1].sum(axis=0)), "every position is as likely"


def test_a_word_whose_beginning_is_in_the_row_before_is_a_word():
    tokens = np.array([[1, 14, 15, 2, 16, 2]] * 200, dtype=np.uint16)
    masked = mask(tokens, VOCABULARY, probability=0.67, whole_words=True, seed=[6])
    assert {tuple(row) for row in masked.positions.tolist()} == {(1, 2), (4, -1)}
    # Of the two words the first fills the share of two; the second leaves one that the first no longer fits.
    assert near((masked.positions[:, 0] == 1).sum(), 200, 0.5)


def test_whole_words_are_as_likely_as_one_another():
    tokens = np.array([[1, 4, 14, 5, 15, 6, 16, 7, 17, 8, 18, 2]] * 4000, dtype=np.uint16)
    hidden = chosen(mask(tokens, VOCABULARY, probability=0.2, whole_words=True, seed=[7]), tokens)
    assert (hidden.sum(axis=1) == 2).all()
    assert all(near(count, 4000, 0.2) for count in hidden[:, 1:-1:2].sum(axis=0))


@pytest.mark.parametrize("whole_words", [False, True])
def test_the_seed_decides(whole_words: bool):
    tokens = packed(100, 32)

    def run(*seed: int) -> Masked:
        return mask(tokens, VOCABULARY, probability=0.15, whole_words=whole_words, seed=seed)

    same, again, other = run(1, 2), run(1, 2), run(1, 3)
    assert (same.positions == again.positions).all() and (same.inputs == again.inputs).all()
    assert (same.apply(tokens) != other.apply(tokens)).any()


def test_no_rows_are_no_trouble():
    for whole_words in (False, True):
        masked = mask(packed(0, 8), VOCABULARY, probability=0.15, whole_words=whole_words, seed=[0])
        assert masked.positions.shape == (0, 0) and masked.apply(packed(0, 8)).shape == (0, 8)


def test_the_vocabulary_of_a_tokenizer():
    tokenizer = make_tokenizer()
    vocabulary = Vocabulary.of(tokenizer)
    ids = tokenizer.get_vocab()
    assert vocabulary.size == len(tokenizer) == len(vocabulary.special) and vocabulary.mask == ids["[MASK]"]
    assert {token for token, index in ids.items() if vocabulary.special[index]} == set(tokenizer.all_special_tokens)
    assert {token for token, index in ids.items() if vocabulary.continues[index]} == {
        token for token in ids if token.startswith("##")
    }
    tokens = np.array([tokenizer("the film zq was good")["input_ids"]])
    assert tokenizer.convert_ids_to_tokens(tokens[0].tolist())[3:5] == ["z", "##q"]
    masked = [mask(tokens, vocabulary, probability=0.4, whole_words=True, seed=[i]) for i in range(50)]
    seen = {tuple(entry.positions[0].tolist()) for entry in masked}
    assert all((3 in positions) == (4 in positions) for positions in seen) and any(3 in p for p in seen)


TEXT = [text for text, _ in sentences(400, seed=3)] + [
    "Überaus schön, wasn't it?",
    "the end of 1999 – 電影 superb!",
] * 10


def trained(kind: str) -> Any:
    """A small tokenizer of another kind, with few merges, so that most words have several pieces."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    special = {"special_tokens": ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[SAID]"]}
    spaces, unknown = pre_tokenizers.WhitespaceSplit(), {"unk_token": "[UNK]"}
    mark = pre_tokenizers.Metaspace()
    parts: dict[str, tuple[Any, Any, Any]] = {
        "wordpiece": (models.WordPiece(**unknown), spaces, trainers.WordPieceTrainer(vocab_size=110, **special)),
        "other prefix": (
            models.WordPiece(continuing_subword_prefix="@@", **unknown),
            spaces,
            trainers.WordPieceTrainer(vocab_size=110, continuing_subword_prefix="@@", **special),
        ),
        "sentencepiece": (models.Unigram(), mark, trainers.UnigramTrainer(vocab_size=90, unk_token="[UNK]", **special)),
        "albert": (
            models.Unigram(),
            pre_tokenizers.Sequence([spaces, mark]),
            trainers.UnigramTrainer(vocab_size=90, unk_token="[UNK]", **special),
        ),
        "byte level": (
            models.BPE(),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
            trainers.BpeTrainer(
                vocab_size=330, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False, **special
            ),
        ),
        "ends of words": (
            models.BPE(end_of_word_suffix="</w>", **unknown),
            spaces,
            trainers.BpeTrainer(vocab_size=120, end_of_word_suffix="</w>", **special),
        ),
        "words": (models.WordLevel(**unknown), spaces, trainers.WordLevelTrainer(**special)),
        "marked spaces": (models.BPE(**unknown), None, trainers.BpeTrainer(vocab_size=120, **special)),
        "unmarked": (models.BPE(**unknown), spaces, trainers.BpeTrainer(vocab_size=120, **special)),
    }
    model, before, trainer = parts[kind]
    tokenizer = Tokenizer(model)
    if before is not None:
        tokenizer.pre_tokenizer = before
    if kind == "marked spaces":  # as Llama's: no word is split off before the merges
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        tokenizer.decoder = decoders.Replace("▁", " ")
    tokenizer.train_from_iterator(TEXT, trainer)
    names = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, **{f"{name}_token": token for name, token in names.items()}
    )


@pytest.mark.parametrize(
    "kind",
    ["wordpiece", "other prefix", "sentencepiece", "albert", "byte level", "ends of words", "words", "marked spaces"],
)
def test_no_mask_splits_a_word_whatever_the_tokenizer(kind: str):
    tokenizer = trained(kind)
    vocabulary = Vocabulary.of(tokenizer, whole_words=True)
    assert vocabulary.special[tokenizer.convert_tokens_to_ids("[SAID]")], "special, though it has no role"
    several, hidden, maskable = 0, 0, 0
    for index, text in enumerate(TEXT[::7]):
        text = " ".join([text, *TEXT[index : index + 3]])
        encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        # The word of each token, by the number of spaces up to its last character; a space is of the word behind it.
        word = [text[:end].count(" ") for _, end in encoded["offset_mapping"]]
        tokens = np.array([[tokenizer.cls_token_id, *encoded["input_ids"], tokenizer.sep_token_id]], dtype=np.uint16)
        states: dict[int, set[bool]] = {}
        several += len(word) > len(set(word))
        flags = chosen(mask(tokens, vocabulary, probability=0.15, whole_words=True, seed=[index]), tokens)[0]
        assert not flags[0] and not flags[-1] and flags.any()
        for place, flag in zip(word, flags[1:-1], strict=True):
            states.setdefault(place, set()).add(bool(flag))
        assert all(len(state) == 1 for state in states.values()), (tokenizer.convert_ids_to_tokens(tokens[0]), flags)
        hidden, maskable = hidden + int(flags.sum()), maskable + len(word)
    assert kind == "words" or several > 20, "words have several pieces"
    assert 0.12 < hidden / maskable < 0.17


def test_whole_words_of_a_tokenizer_that_does_not_mark_them_are_refused():
    tokenizer = trained("unmarked")
    assert not Vocabulary.of(tokenizer).continues.any()
    with refused("masking", "unsupported"):
        Vocabulary.of(tokenizer, whole_words=True)


def test_a_tokenizer_without_a_mask_is_refused():
    tokenizer = make_tokenizer()
    tokenizer.mask_token = None
    with refused("model", "unsupported"):
        Vocabulary.of(tokenizer)
