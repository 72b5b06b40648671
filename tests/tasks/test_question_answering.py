"""Questions, windows and spans: what is learned, what is said, and how it is scored."""

from __future__ import annotations

from typing import Any

import numpy as np
from conftest import make_tokenizer
from datasets import Dataset, Features, List, Value
from problems import refused

from compressor.data.spec import DataSpec
from compressor.tasks import question_answering as task

FEATURES = Features(
    {
        "question": Value("string"),
        "context": Value("string"),
        "answers": List(Value("string")),
        "starts": List(Value("int64")),
    }
)


def rows(*entries: tuple[str, str, str | None]) -> Dataset:
    """Questions with their context and at most one answer, a part of it."""
    return Dataset.from_list(
        [
            {
                "question": question,
                "context": context,
                "answers": [] if answer is None else [answer],
                "starts": [] if answer is None else [context.index(answer)],
            }
            for question, context, answer in entries
        ],
        features=FEATURES,
    )


def encode(source: Dataset, length: int = 32, **data: int) -> Dataset:
    return task.encode(source, make_tokenizer(), length, {}, DataSpec(**data))


def answering(encoded: Dataset, spans: list[tuple[int, int]]) -> np.ndarray:
    """What `answers` keeps of logits that are high at one span of each window."""
    width = max(encoded["length"])
    batch: dict[str, Any] = {"labels": np.full((len(spans), width), -100)}
    start, end = (np.zeros((len(spans), width), np.float32) for _ in range(2))
    for index, (first, last) in enumerate(spans):
        inside = encoded["inside"][index]
        batch["labels"][index, : len(inside)] = inside
        start[index, first] = end[index, last] = 5.0
    return task.answers({"start_logits": start, "end_logits": end}, batch)


def test_an_answers_tokens_are_found_by_its_characters():
    source = rows(("was it good", "the plotx was bad , a film", "plotx was"))
    encoded = encode(source)
    tokens = make_tokenizer().convert_ids_to_tokens(encoded["input_ids"][0])
    first, last = encoded["labels"][0]
    assert tokens[first : last + 1] == ["plot", "##x", "was"]
    assert next(token for token, inside in zip(tokens, encoded["inside"][0], strict=True) if inside == 0) == "the"


def test_windows_overlap_and_only_those_with_the_whole_answer_have_it():
    context = "the film was long and the plot was bad with a good end of this story"
    source = rows(("was it good", context, "good end"))
    encoded = encode(source, length=14, stride=4)
    assert len(encoded) > 1 and encoded["question"][:] == [0] * len(encoded)
    tokenizer = make_tokenizer()
    held = 0
    for labels, ids in zip(encoded["labels"], encoded["input_ids"], strict=True):
        if labels != [0, 0]:
            held += 1
            assert tokenizer.decode(ids[labels[0] : labels[1] + 1]) == "good end"
    assert held >= 1
    whole = {tokenizer.decode([i]) for ids in encoded["input_ids"] for i in ids}
    assert set(context.split()) <= whole, "every word is in a window"


def test_the_best_window_gives_the_answer():
    context = "the film was long and the plot was bad with a good end of this story"
    source = rows(("was it good", context, "good end"), ("was it bad", "a dull film", "dull"))
    encoded = encode(source, length=14, stride=4)
    spans = [tuple(labels) for labels in encoded["labels"]]
    answers = answering(encoded, spans)
    references = task.references(source, encoded, {}, source)
    assert task.predictions(answers, references) == ["good end", "dull"]
    scores = task.score(answers, references, [])
    assert scores["exact_match"].value == scores["f1"].value == 1
    assert scores["f1"].n == 2, "questions, not windows"


def test_that_there_is_no_answer_may_be_said_where_some_training_question_has_none():
    source = rows(("was it good", "a dull film", "dull"), ("was it bad", "the plot", None))
    encoded = encode(source)
    assert encoded["labels"][1] == [0, 0]
    inside = encoded["inside"][0].index(0)
    answers = answering(encoded, [(inside + 1, inside + 1), (0, 0)])
    references = task.references(source, encoded, {}, source)
    assert task.predictions(answers, references) == ["dull", ""]
    assert task.score(answers, references, [])["f1"].value == 1
    with_answers = rows(("was it good", "a dull film", "dull"))
    alone = encode(with_answers)
    silent = answering(alone, [(0, 0)])
    assert task.predictions(silent, task.references(with_answers, alone, {}, with_answers)) != [""], (
        "every question has one here"
    )
    learned = task.references(with_answers, alone, {}, source)
    assert task.predictions(silent, learned) == [""], "the training rows decide, not those that are scored"


def test_texts_come_back_as_they_were():
    source = rows(("was it", "Ünïcode – “quotes” 日本", "日本"), ("was it", "", None))
    references = task.references(source, encode(source), {}, source)
    assert list(task._texts(references, "contexts")) == ["Ünïcode – “quotes” 日本", ""]
    assert list(task._texts(references, "answers")) == ["日本"]


def test_formats_are_compared_where_there_is_no_padding():
    start = np.arange(3, dtype=np.float32)[None]
    outputs = {"start_logits": start, "end_logits": start + 10}
    compared = task.compared(outputs, {"attention_mask": np.array([[1, 1, 0]])})
    assert compared.shape == (1, 2, 3)
    assert compared[0, :, :2].tolist() == [[0, 1], [10, 11]] and np.isneginf(compared[0, :, 2]).all()


def test_windows_without_room():
    with refused("data", "value"):
        encode(rows(("was it", "good", "good")), length=6)
    long = rows(("was it good " * 20, "a dull film", "dull"))
    assert max(encode(long, length=16)["length"]) <= 16, "a long question leaves room for the context"
