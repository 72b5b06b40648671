"""Words and spans of byte-level BPE and SentencePiece tokenizers, whose tokens hold spaces and parts of characters."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
from datasets import Dataset, Features, List, Value
from problems import refused
from tiny_tokenizers import wrapped
from tokenizers import pre_tokenizers

from compressor.data.spec import DataSpec
from compressor.tasks import question_answering, token_classification

KINDS = ["roberta", "fallback", "xlm-r", "albert"]
WORDS = ["the", "filmx", "don't", "電影", "(good)", "naïve", "😀", "a"]
tokenizer_of = cache(wrapped)


def tagged(words: list[str], tokenizer: Any) -> Dataset:
    rows = Dataset.from_dict({"tokens": [words], "tags": [["O"] * (len(words) - 1) + ["B"]]})
    return token_classification.encode(rows, tokenizer, 48, {"O": 0, "B": 1}, DataSpec())


@pytest.mark.parametrize("kind", KINDS)
def test_words_have_the_tokens_that_they_have_in_a_text(kind: str):
    tokenizer = tokenizer_of(kind)
    rows = tagged(WORDS, tokenizer)
    text = tokenizer(" ".join(WORDS), return_offsets_mapping=True)
    assert rows["input_ids"][0] == text["input_ids"]
    labels = rows["labels"][0]
    assert [label for label in labels if label != -100] == [0] * 7 + [1]
    starts = np.cumsum([0, *(len(word) + 1 for word in WORDS)])[:-1]
    for start, place in zip(starts, np.flatnonzero(np.array(labels) != -100), strict=True):
        assert text["offset_mapping"][place][0] in (start - 1, start), "some tokens begin with the space"


def test_a_tokenizer_that_puts_the_space_there_itself_is_left_to_it():
    tokenizer = wrapped("roberta")
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    assert tagged(WORDS, tokenizer)["input_ids"][0] == tokenizer(" ".join(WORDS))["input_ids"]


def test_a_word_without_a_token_is_read_as_unknown_if_there_is_such_a_token():
    tokenizer = wrapped("xlm-r")
    rows = tagged(["good", "\u3000", "film"], tokenizer)
    tokens = tokenizer.convert_ids_to_tokens(rows["input_ids"][0])
    assert "<unk>" in tokens and [label for label in rows["labels"][0] if label != -100] == [0, 0, 1]
    tokenizer.unk_token = None
    with refused("model", "unsupported"):
        tagged(["good", "\u3000", "film"], tokenizer)


def asked(context: str, answer: str, tokenizer: Any, question: str = "was it good", length: int = 48) -> Any:
    features = {"question": Value("string"), "context": Value("string"), "answers": List(Value("string"))}
    row = {"question": question, "context": context, "answers": [answer], "starts": [context.index(answer)]}
    source = Dataset.from_list([row], features=Features({**features, "starts": List(Value("int64"))}))
    return source, question_answering.encode(source, tokenizer, length, {}, DataSpec(stride=2))


@pytest.mark.parametrize("answer", ["good", "don't", "影", "電影 superb", "😀", "the", "film."])
@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_is_said_as_it_stands_in_the_text(kind: str, answer: str):
    context = "the plot don't 電影 superb was good 😀 a film."
    source, encoded = asked(context, answer, tokenizer_of(kind))
    first, last = encoded["labels"][0]
    assert 0 < first <= last
    batch = {"labels": np.array(encoded["inside"][:])}
    start, end = (np.zeros((1, encoded["length"][0]), np.float32) for _ in range(2))
    start[0, first] = end[0, last] = 5
    found = question_answering.answers({"start_logits": start, "end_logits": end}, batch)
    references = question_answering.references(source, encoded, {}, source)
    (said,) = question_answering.predictions(found, references)
    # A token is what a model can point at: an answer grows to the ends of its first and its last one.
    assert answer in said and len(said) <= len(answer) + 4 and said == said.strip()
    if answer in context.split():
        assert said == answer


@pytest.mark.parametrize("kind", ["roberta", "xlm-r"])
def test_windows_have_room_for_both_separators(kind: str):
    tokenizer = tokenizer_of(kind)
    long = "was it good good good good good good"
    _, encoded = asked("the film was long and the plot was bad", "bad", tokenizer, long, length=16)
    assert len(encoded) > 1
    for ids in encoded["input_ids"]:
        tokens = tokenizer.convert_ids_to_tokens(ids)
        assert len(tokens) <= 16 and tokens[0] == "<s>" and tokens[-1] == "</s>"
        middle = tokens.index("</s>")
        assert middle == 5 and tokens[middle + 1] == "</s>", "a question takes half of a window, four marks aside"
