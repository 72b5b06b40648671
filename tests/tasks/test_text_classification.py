from __future__ import annotations

import pytest
from conftest import make_tokenizer
from datasets import Dataset
from problems import refused

from compressor.data.spec import DataSpec
from compressor.tasks import text_classification as task


@pytest.mark.parametrize(
    ("labels", "head", "expected"),
    [
        (["neg", "pos"], ["pos", "neg"], [1, 0]),
        (["b", "a"], None, [0, 1]),
        (["0", "1"], ["LABEL_0", "LABEL_1"], [0, 1]),
        (["1", "2"], ["LABEL_2", "LABEL_0", "LABEL_1"], [2, 0]),
        (["1", "2"], ["2", "1"], [1, 0]),
        (["negative", "positive"], ["POSITIVE", "NEGATIVE"], [1, 0]),
        (["positive"], ["NEGATIVE", "POSITIVE"], [1]),
    ],
)
def test_a_heads_labels_are_matched_by_name(labels: list[str], head: list[str] | None, expected: list[int]):
    assert task.label_ids(labels, head) == dict(zip(labels, expected, strict=True))


@pytest.mark.parametrize(
    ("labels", "head"),
    [
        (["a", "c"], ["a", "b"]),
        (["0", "1"], ["NEGATIVE", "POSITIVE"]),
        (["0", "1", "2"], ["contradiction", "entailment", "neutral"]),
        (["1", "2", "3", "4"], ["1 star", "2 stars", "3 stars", "4 stars", "5 stars"]),
        (["0", "1", "2"], ["LABEL_0", "LABEL_1"]),
        (["-1", "0"], ["LABEL_0", "LABEL_1"]),
        (["²"], ["LABEL_0", "LABEL_1", "LABEL_2"]),
        (["①"], ["LABEL_0", "LABEL_1"]),
        (["１"], ["LABEL_0", "LABEL_1"]),
        (["--1"], ["LABEL_0", "LABEL_1"]),
        (["1.0"], ["LABEL_0", "LABEL_1"]),
        (["01"], ["LABEL_0", "LABEL_1"]),
        (["9" * 5000], ["LABEL_0", "LABEL_1"]),
        (["Us", "us"], ["US", "them"]),
    ],
)
def test_a_head_that_does_not_fit(labels: list[str], head: list[str]):
    with refused("data.label", "unknown"):
        task.label_ids(labels, head)


def test_rows_are_cut_and_pairs_lose_from_the_longer():
    tokenizer = make_tokenizer()
    rows = Dataset.from_dict({"text": ["good " * 20, "bad"], "label": ["p", "n"]})
    encoded = task.encode(rows, tokenizer, 8, {"n": 0, "p": 1}, DataSpec())
    assert encoded["length"][:] == [8, 3]
    assert encoded["labels"][:] == [1, 0]
    assert tokenizer.decode(encoded["input_ids"][0]) == "[CLS] " + "good " * 6 + "[SEP]"
    pairs = Dataset.from_dict({"text": ["good " * 20], "text_pair": ["bad bad"], "label": ["p"]})
    encoded = task.encode(pairs, tokenizer, 10, {"n": 0, "p": 1}, DataSpec())
    assert tokenizer.decode(encoded["input_ids"][0]) == "[CLS] " + "good " * 5 + "[SEP] bad bad [SEP]"
    assert encoded["token_type_ids"][0] == [0] * 7 + [1] * 3
