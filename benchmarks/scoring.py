"""Seconds and peak memory of scoring large sets of rows: the scores, their bounds, and the bounds of a drop.

To print a table, each case measured in a fresh process:

    python benchmarks/scoring.py
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from compressor.gates.rows import Rows
from compressor.tasks import question_answering, text_classification, text_regression, token_classification

_TAGS = ["O", "B-a", "I-a", "B-b", "I-b"]
_WORDS = 15
_TEXT, _OF_ONE_TEXT, _SPANS = 120, 5, 20
"""Words of a text that is asked about, questions on it, and spans that a model offers for each."""
_WRONG = 0.1
"""Share of answers that are drawn anew."""

Scores = Callable[[int], Mapping[str, Rows]]
"""From a seed to the scores of a model's answers."""


def _labels(labels: int, rows: int) -> Scores:
    right = np.random.default_rng(0).integers(0, labels, rows)

    def score(seed: int) -> Mapping[str, Rows]:
        random = np.random.default_rng(seed)
        logits = random.random((rows, labels), dtype=np.float32)
        sure = random.random(rows) > _WRONG
        logits[np.flatnonzero(sure), right[sure]] += 1
        return text_classification.score(logits, {"labels": right}, [str(label) for label in range(labels)])

    return score


def _numbers(rows: int) -> Scores:
    right = np.random.default_rng(0).random(rows)

    def score(seed: int) -> Mapping[str, Rows]:
        noise = np.random.default_rng(seed).normal(0, 0.2, (rows, 1))
        return text_regression.score((right[:, None] + noise).astype(np.float32), {"values": right}, [])

    return score


def _entities(rows: int) -> Scores:
    right = np.random.default_rng(0).integers(0, len(_TAGS), (rows, _WORDS))

    def score(seed: int) -> Mapping[str, Rows]:
        random = np.random.default_rng(seed)
        drawn = random.integers(0, len(_TAGS), right.shape)
        given = np.where(random.random(right.shape) < _WRONG, drawn, right)
        return token_classification.score(given.astype(np.float32), {"tags": right}, _TAGS)

    return score


def _answers(questions: int) -> Scores:
    """Five questions on each text; the best spans of each are drawn, of which one is right."""
    import datasets

    random = np.random.default_rng(0)
    words = [
        [f"word{number}" for number in row] for row in random.integers(0, 5000, (questions // _OF_ONE_TEXT, _TEXT))
    ]
    texts = np.repeat(np.arange(len(words)), _OF_ONE_TEXT)
    first = random.integers(0, _TEXT - 3, questions)
    last = first + random.integers(0, 3, questions)
    ends = [np.cumsum([len(word) + 1 for word in row]) - 1 for row in words]
    offsets = [np.column_stack([end - [len(word) for word in row], end]) for row, end in zip(words, ends, strict=True)]
    right = zip(texts, first, last, strict=True)
    rows = datasets.Dataset.from_dict(
        {
            "context": [" ".join(words[text]) for text in texts],
            "answers": [[" ".join(words[text][start : end + 1])] for text, start, end in right],
        }
    )
    encoded = datasets.Dataset.from_dict(
        {
            "length": [_TEXT] * questions,
            "offsets": [offsets[text] for text in texts],
            "question": np.arange(questions),
        }
    )
    known = question_answering.references(rows, encoded, {}, rows)
    groups = texts.astype(np.int64)

    def score(seed: int) -> Mapping[str, Rows]:
        random = np.random.default_rng(seed)
        starts = random.integers(0, _TEXT - 3, (questions, _SPANS))
        ends = starts + random.integers(0, 3, starts.shape)
        sure = random.random(questions) > _WRONG
        starts[sure, 0], ends[sure, 0] = first[sure], last[sure]
        scores = np.sort(random.random(starts.shape))[:, ::-1]
        spans = np.stack([starts, ends, scores], axis=2).reshape(questions, -1)
        given = np.column_stack([spans, np.full(questions, -1)]).astype(np.float32)
        found = question_answering.score(given, known, [])
        return {name: replace(rows, groups=groups) for name, rows in found.items()}

    return score


CASES: dict[str, Callable[[], Scores]] = {
    "77 labels, 100,000 rows": lambda: _labels(77, 100_000),
    "1,000 labels, 100,000 rows": lambda: _labels(1000, 100_000),
    "2 labels, 1,000,000 rows": lambda: _labels(2, 1_000_000),
    "numbers, 100,000 rows": lambda: _numbers(100_000),
    "numbers, 1,000,000 rows": lambda: _numbers(1_000_000),
    "entities, 100,000 sentences": lambda: _entities(100_000),
    "answers, 100,000 questions": lambda: _answers(100_000),
}


def _measure(case: str) -> None:
    """Prints a row of the table: making the answers counts, as their memory does."""
    score = CASES[case]()
    reference = score(1)
    start = time.perf_counter()
    mine = score(2)
    scored = time.perf_counter()
    for name, rows in mine.items():
        rows.estimate(0.95)
        rows.drop(reference[name], 0.95)
    bounded = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"| {case} | {scored - start:.1f} | {bounded - scored:.1f} | {peak:.2f} |", flush=True)


def main() -> None:
    """Prints the table, or with a case's name its row."""
    if sys.argv[1:]:
        _measure(sys.argv[1])
        return
    print(
        "| case | answers and scores, s | bounds of each score and of its drop, s | peak RSS, GB |\n|---|---|---|---|"
    )
    for case in CASES:
        subprocess.run([sys.executable, __file__, case], check=True)


if __name__ == "__main__":
    main()
