"""Small rows with any number of labels, which words alone decide."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from conftest import BAD, GOOD, NEUTRAL

LABELS = ("blame", "craft", "praise")
_WORDS = {"blame": BAD, "craft": ["camera", "music"], "praise": GOOD}
_SHARES = (0.35, 0.25, 0.4)


def marked(count: int, seed: int) -> list[tuple[str, list[str]]]:
    """Texts of neutral words, with a word for each of their labels."""
    random = np.random.default_rng(seed)
    rows = []
    neutral = [word for word in NEUTRAL if word not in _WORDS["craft"]]
    for _ in range(count):
        words = list(random.choice(neutral, int(random.integers(3, 9))))
        names = [name for name, share in zip(LABELS, _SHARES, strict=True) if random.random() < share]
        for name in names:
            words.insert(int(random.integers(len(words) + 1)), str(random.choice(_WORDS[name])))
        rows.append((" ".join(words), names))
    return rows


def write_lists(path: Path, rows: list[tuple[str, list[str]]]) -> Path:
    lines = [json.dumps({"text": text, "labels": names}) for text, names in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def write_separated(path: Path, rows: list[tuple[str, list[str]]], separator: str = "|") -> Path:
    lines = ["text\tlabels", *(f"{text}\t{separator.join(names)}" for text, names in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
