"""Rows that choose between variants of a model: apart from those that teach it, and from those that judge it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import WriteRecipe
from rich.console import Console

from compressor.data.corpus import packing
from compressor.measure.token_rows import TokenRows
from compressor.models.loading import load_tokenizer
from compressor.pipeline import plan, prepared
from compressor.pipeline.store import Store
from compressor.progress import Progress
from compressor.recipe.resolve import resolve

TRAIN = {"stage": "finetune", "max_steps": 1}
BUDGET = {"stage": "quantize", "accuracy": {"max_drop": 0.01}}


def data_of(path: Path, task: str, folder: Path) -> tuple[plan.Plan, Any]:
    made = plan.make(resolve(path), download=False)
    return made, prepared.prepare(made, task, Store(folder), Progress(Console(quiet=True)))


def texts(rows: Path) -> set[tuple[int, ...]]:
    found = TokenRows.load(rows)
    return {tuple(row.tolist()) for row in np.split(found.tokens["input_ids"], found.starts[1:-1])}


@pytest.mark.parametrize(
    ("stages", "selects"),
    [
        ([TRAIN, BUDGET], True),
        ([TRAIN, {"stage": "quantize"}], False),  # nothing is chosen
        ([BUDGET], False),  # nothing is trained
        ([{"stage": "quantize", "scheme": "qat_int8", "max_steps": 1, "accuracy": {"max_drop": 0.1}}], True),
    ],
)
def test_they_are_held_out_where_something_is_trained_and_chosen(
    write_recipe: WriteRecipe, tmp_path: Path, distilbert: Path, stages: list[dict[str, Any]], selects: bool
):
    path = write_recipe(model=str(distilbert), stages=stages)
    made, rows = data_of(path, "text-classification", tmp_path / "store")
    assert made.data["text-classification"].selects == selects == ("selection" in rows.counts)
    assert ("selects" in made.data["text-classification"].inputs) == selects, "keys of other recipes stay"
    chosen, judging = (texts(side(distilbert)[0]) for side in (rows.selection, rows.validation))
    taught = {tuple(ids) for ids in rows.tokenized(load_tokenizer(distilbert), distilbert, 48)["input_ids"]}
    assert chosen and chosen != judging
    assert (not chosen & taught) if selects else chosen <= taught


def test_of_a_corpus_too(write_recipe: WriteRecipe, tmp_path: Path, encoder: Path):
    (tmp_path / "corpus.txt").write_text("\n".join(f"the film was good {i} and the plot was bad" for i in range(400)))
    path = write_recipe(task="masked-lm", data={"corpus": "corpus.txt"}, stages=[TRAIN, BUDGET])
    _, corpus = data_of(path, "masked-lm", tmp_path / "store")
    sides = [corpus.selection(encoder)[0], corpus.validation(encoder)[0]]
    assert sides[0].parent != sides[1].parent
    packed = corpus.packed(load_tokenizer(encoder), 48)
    counts = [len(np.load(packed / name)) for name in (packing.TRAIN, packing.SELECTION)]
    assert 0 < counts[1] < counts[0]
    assert len(TokenRows.load(sides[0]).starts) == counts[1] + 1
