"""Rows that a run would refuse once some are held out are refused before a recipe is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from problems import refused

from compressor.drafting import held_out, rows, task
from compressor.drafting.guess import Heads
from compressor.errors import RecipeError

TEXTS = [f"the film is number {index} of all that we saw" for index in range(40)]
MOODS = ["bad", "good"] * 20
HEAD = ("bad", "good", "so so")


def table(text: list[str], label: list[Any], name: str = "label") -> str:
    lines = (f"{words},{value}" for words, value in zip(text, label, strict=True))
    return "\n".join([f"text,{name}", *lines]) + "\n"


def check(folder: Path, head: tuple[str, ...] | None = None, **files: str) -> None:
    for name, content in files.items():
        (folder / f"{name}.csv").write_text(content)
    read = rows.read(str(folder / "train.csv"))
    guess = task.guess(read, Heads(("text-classification",), head) if head else Heads())
    held_out.check(read, guess, 0.25, head)


def odd(index: int) -> list[str]:
    return [*MOODS[:index], "so so", *MOODS[index + 1 :]]


def test_a_label_that_is_held_out_with_its_only_row(tmp_path: Path):
    """By the hash of their texts, a quarter of the rows is held out."""
    found = set()
    for index in range(12):
        try:
            check(tmp_path, train=table(TEXTS, odd(index)))
            found.add("trained on")
        except RecipeError:
            with refused("--data", "unknown"):
                check(tmp_path, train=table(TEXTS, odd(index)))
            check(tmp_path, HEAD, train=table(TEXTS, odd(index)))
            found.add("held out")
    assert found == {"trained on", "held out"}


@pytest.mark.parametrize("texts", [["a film"] * 40, TEXTS[:2]])
def test_too_few_rows_to_hold_some_out(texts: list[str], tmp_path: Path):
    with refused("--data", "missing"):
        check(tmp_path, train=table(texts, MOODS[: len(texts)]))


AMOUNTS = [index + 0.5 for index in range(40)]
BESIDE = {
    "another column": (table(TEXTS, MOODS), table(TEXTS, MOODS, "mood"), "missing"),
    "nothing in a row": (table(TEXTS, MOODS), table(TEXTS, ["", *MOODS[1:]]), "missing"),
    "another label": (table(TEXTS, MOODS), table(TEXTS, odd(3)), "unknown"),
    "no number": (table(TEXTS, AMOUNTS), table(TEXTS, ["none", *AMOUNTS[1:]]), "value"),
}


@pytest.mark.parametrize("name", BESIDE)
def test_a_file_to_judge_on_that_does_not_suit(name: str, tmp_path: Path):
    train, dev, kind = BESIDE[name]
    check(tmp_path, train=train, dev=train)
    with refused("--data", kind):
        check(tmp_path, train=train, dev=dev)


def test_labels_that_a_head_has_need_no_rows_to_learn_from(tmp_path: Path):
    check(tmp_path, HEAD, train=table(TEXTS, MOODS), dev=table(TEXTS, odd(3)))
    with refused("--data", "unknown"):
        check(tmp_path, HEAD, train=table(TEXTS, MOODS), dev=table(TEXTS, ["great", *MOODS[1:]]))
