"""Small rows of every task that a tiny model learns in seconds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from conftest import BAD, GOOD, for_size, sentences, without_saturation

TRAIN = {"epochs": 6, "batch_size": 16, "learning_rate": 3e-3, "max_sequence_length": 32}


TAGS = {**dict.fromkeys(GOOD, "B-praise"), **dict.fromkeys(BAD, "B-blame"), "story": "B-thing", "long": "I-thing"}


def tagged(count: int, seed: int) -> list[list[tuple[str, str]]]:
    """Words with tags that depend on the words alone."""
    return [[(word, TAGS.get(word, "O")) for word in text.split()] for text, _ in sentences(count, seed)]


def write_conll(path: Path, rows: list[list[tuple[str, str]]]) -> Path:
    path.write_text("\n".join("".join(f"{word}\t{tag}\n" for word, tag in row) for row in rows), encoding="utf-8")
    return path


def questions(count: int, seed: int) -> list[dict[str, Any]]:
    """A context with one good or bad word, which is the answer."""
    found = []
    for index, (context, _) in enumerate(sentences(count, seed)):
        answer = next(word for word in context.split() if word in GOOD + BAD)
        answers = [{"text": answer, "answer_start": context.index(answer)}]
        found.append({"id": f"{seed}-{index}", "question": "was it good", "context": context, "answers": answers})
    return found


def write_squad(path: Path, rows: list[dict[str, Any]]) -> Path:
    paragraphs = [
        {"context": row["context"], "qas": [{k: row[k] for k in ("id", "question", "answers")}]} for row in rows
    ]
    path.write_text(
        json.dumps({"version": "1.1", "data": [{"title": "t", "paragraphs": paragraphs}]}), encoding="utf-8"
    )
    return path


def write_rated(path: Path, count: int, seed: int) -> Path:
    """Pairs of texts, and how far their moods are the same, with some noise."""
    random, one, two = np.random.default_rng(seed), sentences(count, seed), sentences(count, seed + 100)
    lines = ["first\tsecond\tscore"]
    for (text, mood), (other, second) in zip(one, two, strict=True):
        lines.append(
            f"{text}\t{other}\t{(mood == 'positive') * 2.5 + (second == 'positive') + random.normal(0, 0.1):.3f}"
        )
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


DATA = {
    "token-classification": {"train": "train.conll", "validation": "dev.conll"},
    "question-answering": {"train": "train.json", "validation": "dev.json"},
    "text-regression": {
        "train": "train.tsv", "validation": "dev.tsv", "text": "first", "text_pair": "second", "label": "score",
    },
}  # fmt: skip
METRIC = {"token-classification": "f1", "question-answering": "f1", "text-regression": "spearman"}


def write_recipe(folder: Path, task: str, encoder: Path, stages: list[dict[str, Any]], **overrides: Any) -> Path:
    """A recipe of a task with its rows beside it."""
    for name, count, seed in (("train", 300, 1), ("dev", 100, 2)):
        if task == "token-classification":
            write_conll(folder / f"{name}.conll", tagged(count, seed))
        elif task == "question-answering":
            write_squad(folder / f"{name}.json", questions(count, seed))
        else:
            write_rated(folder / f"{name}.tsv", count, seed)
    recipe = {
        "schema_version": 1,
        "name": "tiny",
        "task": task,
        "model": str(encoder),
        "data": DATA[task],
        "measure": {"sequence_length": 16, "runs": 60},
        "stages": for_size(without_saturation(stages)),
        **overrides,
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
    return path
