"""Columns of files as strangers have them: what is found, what is assumed, and what is refused with the reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from problems import refused

from compressor.drafting import rows, task
from compressor.drafting.guess import ASSUMED, Guess, Heads
from compressor.errors import RecipeError

TEXTS = [
    "a dull story from start to end",
    "the music and the camera are superb",
    "it is fine",
    "what an awful plot",
] * 5
NUMBERED = [f"{text}, part {index}" for index, text in enumerate(TEXTS)]
ENCODER = Heads()
CLASSIFIER = Heads(("text-classification",), ("negative", "positive"))
REGRESSION = Heads(("text-regression",), ("score",))
TAGGER = Heads(("token-classification",), ("O", "B-PER", "I-PER"))


def guessed(folder: Path, name: str, content: str | bytes, heads: Heads = ENCODER) -> Guess:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return task.guess(rows.read(str(path)), heads)


def table(**columns: list[Any]) -> str:
    """A csv."""
    lines = [",".join(columns)]
    for row in zip(*columns.values(), strict=True):
        lines.append(",".join(f'"{value}"' for value in row))
    return "\n".join(lines) + "\n"


def objects(**columns: list[Any]) -> str:
    """A jsonl."""
    return "".join(
        json.dumps(dict(zip(columns, row, strict=True))) + "\n" for row in zip(*columns.values(), strict=True)
    )


MOODS = ["bad", "good"] * 10
AMOUNTS = [0.25 + index for index in range(20)]
HALF = ["yes"] * 10 + ["no"] * 10
FOUND = {
    "a name says what a column is": (table(idx=list(range(20)), review=NUMBERED, label=MOODS), "text-classification",
                                     {"text": "review", "label": "label"}),
    "the content does": (table(a1=list(range(20)), b1=NUMBERED, c1=MOODS), "text-classification",
                         {"text": "b1", "label": "c1"}),
    "names of labels, not their numbers": (table(text=NUMBERED, label=[0, 1] * 10, label_text=MOODS),
                                           "text-classification", {"text": "text", "label": "label_text"}),
    "two columns that are a pair by name": (table(label=HALF, premise=NUMBERED, hypothesis=TEXTS),
                                            "text-classification",
                                            {"text": "premise", "text_pair": "hypothesis", "label": "label"}),
    "a score of two texts": (table(score=[0.6 + index for index in range(20)], sentence1=NUMBERED, sentence2=TEXTS),
                             "text-regression", {"text": "sentence1", "text_pair": "sentence2", "label": "score"}),
    "a second text that is short": (table(title=["a film"] * 19 + ["it"], body=NUMBERED, label=HALF),
                                    "text-classification", {"text": "body", "label": "label"}),
    "an index without a name": (table(**{"": list(range(20)), "text": NUMBERED, "label": MOODS}),
                                "text-classification", {"text": "text", "label": "label"}),
    "Chinese": (table(text=[f"这部电影非常好看我很喜欢第{i}次" for i in range(20)], label=["正面", "负面"] * 10),
                "text-classification", {"text": "text", "label": "label"}),
    "candidates of queries": (table(qid=[i // 4 for i in range(20)], query=[f"what is {i // 4}" for i in range(20)],
                                    passage=NUMBERED, label=[0, 0, 1, 0] * 5), "text-regression",
                              {"text": "query", "text_pair": "passage", "label": "label", "query": "qid"}),
    "many users": (table(user_id=[f"u{i // 4}" for i in range(20)], text=NUMBERED, label=MOODS), "text-classification",
                   {"text": "text", "label": "label", "group": "user_id"}),
    "dates are no texts": (table(date=[f"2020-01-{i + 1}" for i in range(20)], headline=NUMBERED, topic=MOODS),
                           "text-classification", {"text": "headline", "label": "topic"}),
    "the end of a name": (table(airline=["Delta", "United"] * 10, airline_sentiment=[*MOODS[:19], "so"], text=NUMBERED),
                          "text-classification", {"text": "text", "label": "airline_sentiment"}),
    "a name whose values are no labels": (table(category=["film"] * 20, review=NUMBERED, stars=[1, 2, 3, 5] * 5),
                                          "text-classification", {"text": "review", "label": "stars"}),
    "one column of amounts": (table(description=NUMBERED, price=AMOUNTS), "text-regression",
                              {"text": "description", "label": "price"}),
    "a column of splits": (table(text=NUMBERED, label=MOODS, split=["train", "train", "train", "test"] * 5),
                           "text-classification", {"text": "text", "label": "label", "where": {"split": "train"}}),
}  # fmt: skip


@pytest.mark.parametrize("name", FOUND)
def test_columns_are_found(name: str, tmp_path: Path):
    content, kind, data = FOUND[name]
    found = guessed(tmp_path, "rows.csv", content)
    assert (found.task, found.data) == (kind, data)


def test_several_texts_the_longest_is_taken_and_it_is_said(tmp_path: Path):
    short, long = [text[:14] + str(i) for i, text in enumerate(NUMBERED)], [text * 5 for text in NUMBERED]
    found = guessed(tmp_path, "rows.csv", table(one=short, two=long, three=short, label=MOODS))
    assert found.data["text"] == "two"
    assert found.notes["text"].startswith(ASSUMED) and "'one'" in found.notes["text"]


def test_columns_that_might_have_been_meant_are_named(tmp_path: Path):
    toxic = guessed(tmp_path, "rows.csv", table(comment=NUMBERED, toxic=[0, 1] * 10, threat=[1, 0] * 10))
    assert toxic.data["label"] == "toxic" and "'threat'" in toxic.notes["label"]
    stars = guessed(tmp_path, "rows.csv", table(category=["film"] * 20, review=NUMBERED, stars=[1, 2, 3, 5] * 5))
    assert "'category'" in stars.notes["label"]
    spans = [[{"start": 0, "end": 4, "type": "film"}]] * 20
    raw = guessed(
        tmp_path, "rows.jsonl", objects(id=list(range(20)), text=NUMBERED, entities=spans, a=AMOUNTS, b=AMOUNTS)
    )
    assert raw.task == "masked-lm"
    assert "'entities' (list), 'a' (number), 'b' (number)" in raw.notes["text"] and "'id'" not in raw.notes["text"]


@pytest.mark.parametrize(("labels", "noted"), [([-1, 0, 1, 2] * 5, True), ([-1, 1] * 10, False)])
def test_a_class_that_may_mark_unknown_labels_is_mentioned(labels: list[int], noted: bool, tmp_path: Path):
    found = guessed(tmp_path, "rows.csv", table(text=NUMBERED, label=labels))
    assert ("-1" in found.notes["task"]) == noted


def test_the_line_that_is_asked_for_names_every_column(tmp_path: Path):
    content = "".join(f"gj04\t{index % 2}\t\t{text}\n" for index, text in enumerate(NUMBERED))
    with pytest.raises(RecipeError, match=r"column1\\tlabel\\tcolumn3\\ttext`"):
        guessed(tmp_path, "rows.tsv", content)


NUMBERS = {
    "few whole numbers": ([1, 2, 3, 4, 5] * 4, ENCODER, "text-classification"),
    "few whole numbers, and a head for numbers": ([1, 2, 3, 4, 5] * 4, REGRESSION, "text-regression"),
    "many whole numbers": ([*range(19), 3], ENCODER, "text-regression"),
    "numbers with fractions": ([0.5, 1.25, 2.75, 4.0] * 5, ENCODER, "text-regression"),
    "two classes that were saved as floats": ([0.0, 1.0] * 10, ENCODER, "text-classification"),
    "fractions, and a head for classes": ([0.5, 1.25, 2.75, 4.0] * 5, CLASSIFIER, "text-regression"),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_are_classes_or_amounts(name: str, tmp_path: Path):
    labels, heads, kind = NUMBERS[name]
    found = guessed(tmp_path, "rows.csv", table(text=NUMBERED, label=labels), heads)
    assert found.task == kind
    assert bool(found.counts) == (kind == "text-classification")
    assert heads.tasks == (kind,) or found.notes["task"].startswith(ASSUMED)


def test_booleans_are_classes(tmp_path: Path):
    found = guessed(tmp_path, "rows.jsonl", objects(comment=NUMBERED, spam=[True, False] * 10))
    assert (found.task, found.data["label"], set(found.counts)) == ("text-classification", "spam", {"true", "false"})


WORDS = [["I", "saw", "Ada", "Lovelace"], ["O", "dear"]] * 10
NAMES = [["O", "O", "B-PER", "I-PER"], ["O", "O"]] * 10


def test_words_and_tags_are_told_apart(tmp_path: Path):
    chunks = [["B-NP", "B-VP", "B-NP", "I-NP"], ["O", "B-NP"]] * 10
    content = objects(id=list(range(20)), words=WORDS, chunk_tags=chunks, ner_tags=NAMES)
    found = guessed(tmp_path, "rows.jsonl", content)
    assert (found.task, found.data) == ("token-classification", {"tokens": "words", "tags": "ner_tags"})
    assert found.counts == {"O": 40, "B-PER": 10, "I-PER": 10}
    assert "chunk_tags" in found.notes["tags"]


def test_numbers_for_tags_are_those_of_a_head(tmp_path: Path):
    content = objects(tokens=WORDS, ner_tags=[[0, 0, 1, 2], [0, 0]] * 10)
    found = guessed(tmp_path, "rows.jsonl", content, TAGGER)
    assert found.data["labels"] == {"0": "O", "1": "B-PER", "2": "I-PER"}
    with refused("--data", "missing"):
        guessed(tmp_path, "rows.jsonl", content)


def test_questions_of_a_table(tmp_path: Path):
    answers = [{"text": ["superb"], "answer_start": [29]}] + [{"text": [], "answer_start": []}] * 19
    content = objects(title=TEXTS, asked=["is it?"] * 20, paragraph=[TEXTS[1]] * 20, gold=answers)
    found = guessed(tmp_path, "rows.jsonl", content)
    assert found.data == {"question": "asked", "context": "paragraph", "answers": "gold"}


def test_a_txt_is_tagged_words_or_raw_text(tmp_path: Path):
    assert guessed(tmp_path, "a.txt", "I O\nsaw O\nAda B-PER\n\n" * 5).task == "token-classification"
    assert guessed(tmp_path, "b.tsv", "I\tO\nsaw\tO\nAda\tB-PER\n\n" * 5).task == "token-classification"
    assert guessed(tmp_path, "c.txt", "\n".join(TEXTS)).task == "masked-lm"


def test_a_table_of_texts_alone_is_raw_text(tmp_path: Path):
    found = guessed(tmp_path, "rows.csv", table(number=list(range(20)), body=NUMBERED))
    assert (found.task, found.data) == ("masked-lm", {"text": "body"})


REFUSED = {
    "nothing": ("rows.csv", "", "unreadable"),
    "names alone": ("rows.csv", "text,label\n", "missing"),
    "no names": ("rows.csv", "\n".join(f"{text},{mood}" for text, mood in zip(TEXTS, MOODS, strict=True)), "missing"),
    "no names in a tsv": ("rows.tsv", "good\ta fine film indeed\n" * 3 + "bad\tan awful film indeed\n" * 9, "missing"),
    "numbers alone": ("rows.csv", table(a=list(range(20)), b=[1, 2] * 10), "missing"),
    "ids for labels": ("rows.csv", table(text=NUMBERED, label=[f"r{index}" for index in range(20)]), "value"),
    "numbered ids for labels": ("rows.csv", table(text=NUMBERED, label=list(range(20))), "value"),
    "more labels than rows can teach": ("rows.csv", table(text=TEXTS * 30, label=[f"r{i % 200}" for i in range(600)]),
                                        "value"),
    "a word among numbers": ("rows.csv", table(text=NUMBERED, label=[*AMOUNTS[:19], "nan"]), "value"),
    "a 0 or a 1 for each label": ("rows.jsonl", objects(text=NUMBERED, labels=[[0, 1, 0], [1, 0, 0]] * 10), "type"),
    "one name for all columns": ("rows.csv", "text,text\nan apt film,bad\n", "missing"),
    "NaN among numbers": ("rows.jsonl", objects(text=NUMBERED, score=[*AMOUNTS[:19], float("nan")]), "type"),
    "lists among labels": ("rows.jsonl", objects(text=NUMBERED, label=[["good", "fine"], "good"] * 10), "type"),
    "no answers in a row": ("rows.jsonl", objects(question=["is it?"] * 2, context=NUMBERED[:2],
                            answers=[None, {"text": ["dull"], "answer_start": [2]}]), "type"),
    "answers of another form": ("rows.jsonl", objects(question=["is it?"], context=["it is"],
                                answers=[{"text": 5, "answer_start": 2}]), "type"),
    "answers that are elsewhere": ("rows.jsonl", objects(question=["is it?"] * 2, context=["a dull film", "it is dull"],
                                   answers=[{"text": ["dull"], "answer_start": [2]}] * 2), "value"),
    "one label": ("rows.csv", table(text=NUMBERED, label=["good"] * 20), "value"),
    "a label is missing": ("rows.csv", table(text=NUMBERED, label=["good", "bad", "", "bad"] * 5), "missing"),
    "a text is missing": ("rows.csv", table(text=[*NUMBERED[:19], " "], label=MOODS), "missing"),
    "a row with another number of fields": ("rows.csv", table(text=NUMBERED, label=MOODS) + "a,b,c\n", "unreadable"),
    "Windows-1252": ("rows.csv", table(text=NUMBERED, label=["schön", "öde"] * 10).encode("cp1252"), "unreadable"),
    "UTF-16": ("rows.csv", table(text=NUMBERED, label=MOODS).encode("utf-16"), "unreadable"),
    "semicolons": ("rows.csv", "text;label\na fine film;1\nan awful film;0\n", "unreadable"),
    "a table called txt": ("rows.txt", "".join(f"{text}\t{mood}\n" for text, mood in zip(TEXTS, MOODS, strict=True)),
                           "unsupported"),
    "JSON lines called json": ("rows.json", objects(text=NUMBERED, label=MOODS), "unsupported"),
    "a JSON list": ("rows.json", json.dumps([{"text": text} for text in TEXTS]), "unsupported"),
    "a JSON line that is none": ("rows.jsonl", objects(text=NUMBERED, label=MOODS) + "{oops\n", "unreadable"),
    "tags without prefixes": ("rows.jsonl", objects(tokens=WORDS, tags=[["O", "O", "PER", "PER"], ["O", "O"]] * 10),
                              "value"),
    "words without tags": ("rows.jsonl", objects(tokens=WORDS, number=list(range(20))), "missing"),
    "answers without where they start": (
        "rows.csv", table(question=["what is it?"] * 20, context=NUMBERED, answer=[text.split()[1] for text in TEXTS]),
        "unsupported",
    ),
    "a spreadsheet": ("rows.xlsx", b"PK\x03\x04", "unsupported"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_rows_that_no_recipe_can_be_for_are_refused(name: str, tmp_path: Path):
    file, content, kind = REFUSED[name]
    with refused("--data", kind):
        guessed(tmp_path, file, content)


def test_a_folder_needs_a_file_to_train_on(tmp_path: Path):
    (tmp_path / "test.csv").write_text(table(text=NUMBERED, label=MOODS))
    with refused("--data", "missing"):
        rows.read(str(tmp_path))
    for name in ("train-00000-of-00001.csv", "validation.csv"):
        (tmp_path / name).write_text(table(text=NUMBERED, label=MOODS))
    found = rows.read(str(tmp_path))
    assert (found.train.name, found.validation and found.validation.name) == (
        "train-00000-of-00001.csv",
        "validation.csv",
    )
    assert len(found.judged) == 20


SEVERAL = [["joy"], ["joy", "fear"], [], ["fear", "anger"], ["anger", "joy"]] * 4
JOINED = ["|".join(labels) for labels in SEVERAL]
SETS = Heads(("multi-label-classification",), ("good", "bad"))


def test_lists_of_labels_are_several_labels_a_row(tmp_path: Path):
    found = guessed(tmp_path, "rows.jsonl", objects(text=NUMBERED, labels=SEVERAL, id=list(range(20))))
    assert (found.task, found.data) == ("multi-label-classification", {"text": "text", "label": "labels"})
    assert found.counts == {"joy": 12, "fear": 8, "anger": 8}
    with refused("--data", "missing"):
        guessed(tmp_path, "rows.jsonl", objects(text=NUMBERED, labels=[None, *SEVERAL[1:]]))


def test_labels_with_a_mark_between_them(tmp_path: Path):
    found = guessed(tmp_path, "rows.csv", table(text=NUMBERED, genres=JOINED))
    assert found.data == {"text": "text", "label": "genres", "label_separator": "|"}
    assert found.counts == {"joy": 12, "fear": 8, "anger": 8}


def test_lists_of_numbers_are_no_labels_beside_one(tmp_path: Path):
    vectors = [[0.5, 0.25]] * 20
    found = guessed(tmp_path, "rows.jsonl", objects(text=NUMBERED, embedding=vectors, label=MOODS))
    assert (found.task, found.data["label"]) == ("text-classification", "label")
    assert guessed(tmp_path, "rows.jsonl", objects(text=NUMBERED, embedding=vectors)).task == "masked-lm"


def test_one_label_a_row_for_a_head_of_several(tmp_path: Path):
    found = guessed(tmp_path, "rows.csv", table(text=NUMBERED, label=MOODS), SETS)
    assert (found.task, found.data["multi_label"]) == ("multi-label-classification", True)
