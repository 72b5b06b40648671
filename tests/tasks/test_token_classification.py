"""Words, tags and tokens: who belongs to whom, and what is scored."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import make_tokenizer
from datasets import Dataset
from problems import refused

from compressor.data.spec import DataSpec
from compressor.tasks import token_classification as task

LABELS = ["O", "B-x", "I-x"]
IDS = {label: index for index, label in enumerate(LABELS)}


def encoded(rows: list[tuple[list[str], list[str]]], length: int = 32) -> Dataset:
    tokens, tags = zip(*rows, strict=True)
    return task.encode(
        Dataset.from_dict({"tokens": list(tokens), "tags": list(tags)}), make_tokenizer(), length, IDS, DataSpec()
    )


def test_the_first_token_of_a_word_has_its_tag():
    # "filmx" is no word of the tokenizer's: its tokens are film ##x.
    rows = encoded([(["the", "filmx", "good"], ["O", "B-x", "I-x"])])
    assert rows["labels"][0] == [-100, 0, 1, -100, 2, -100]
    assert rows["length"][0] == 6


def test_a_word_without_a_token_is_read_as_unknown():
    tokenizer = make_tokenizer()
    rows = encoded([(["the", "\u200b", "good"], ["O", "B-x", "O"])])
    assert tokenizer.convert_ids_to_tokens(rows["input_ids"][0]) == ["[CLS]", "the", "[UNK]", "good", "[SEP]"]
    assert rows["labels"][0] == [-100, 0, 1, 0, -100]


def test_words_that_are_cut_off_count_as_outside():
    words = ["good", "film", "the", "bad"]
    rows = encoded([(words, ["B-x", "I-x", "O", "B-x"])], length=4)
    assert rows["labels"][0] == [-100, 1, 2, -100]
    source = Dataset.from_dict({"tokens": [words], "tags": [["B-x", "I-x", "O", "B-x"]]})
    references = task.references(source, rows, IDS, source)
    logits = np.full((1, 4, 3), 0.0, np.float32)
    logits[0, 1, 1] = logits[0, 2, 2] = 1
    answers = task.answers({"logits": logits}, {"labels": np.array(rows["labels"][:])})
    assert answers.tolist() == [[1, 2]]
    scores = task.score(answers, references, LABELS)
    assert scores["accuracy"].value == 3 / 4
    assert scores["f1"].value == pytest.approx(2 * 1 * 0.5 / 1.5), "one of two entities is found, nothing else is said"


def test_answers_of_rows_of_different_length_are_scored_alike():
    references = {"tags": np.array([[1, 2, -1], [0, 1, 0]])}
    right = np.array([[1, 2, -1], [0, 1, 0]], np.float32)
    scores = task.score(right, references, LABELS)
    assert scores["f1"].value == scores["accuracy"].value == 1
    wrong = np.array([[1, 0, -1], [0, 1, 0]], np.float32)
    scores = task.score(wrong, references, LABELS)
    assert scores["f1"].value == 0.5, "half an entity is none"
    assert scores["accuracy"].value == 4 / 5


def test_formats_are_compared_on_every_token_that_is_no_padding():
    logits = np.arange(12, dtype=np.float32).reshape(1, 4, 3)
    compared = task.compared({"logits": logits}, {"attention_mask": np.array([[0, 1, 1, 0]])})
    assert np.isneginf(compared[0, [0, 3]]).all()
    assert (compared[0, 1:3] == logits[0, 1:3]).all()


def test_a_head_that_lacks_a_tag():
    assert task.label_ids(["O", "B-x"], ["B-x", "O"]) == {"O": 1, "B-x": 0}
    with refused("data.tags", "unknown"):
        task.label_ids(LABELS, ["O", "B-x"])
