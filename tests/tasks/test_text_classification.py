from __future__ import annotations

from conftest import make_tokenizer
from datasets import Dataset
from problems import refused

from compressor.data.spec import DataSpec
from compressor.tasks import text_classification as task


def test_a_trained_heads_labels_are_matched_by_name_then_by_index():
    assert task.label_ids(["neg", "pos"], ["pos", "neg"]) == {"neg": 1, "pos": 0}
    assert task.label_ids(["0", "1"], ["NEGATIVE", "POSITIVE"]) == {"0": 0, "1": 1}
    assert task.label_ids(["b", "a"], None) == {"b": 0, "a": 1}


def test_a_head_that_does_not_fit():
    with refused("data.label", "unknown"):
        task.label_ids(["a", "c"], ["a", "b"])
    with refused("data.label", "unknown"):
        task.label_ids(["0", "1", "2"], ["a", "b"])


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
