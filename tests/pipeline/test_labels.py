"""A trained head's labels and those of the rows: matched by name, and what is taken for what is in the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import WriteRecipe
from in_process import InProcess
from problems import refused
from rich.console import Console

from compressor.errors import RecipeError
from compressor.pipeline import plan
from compressor.pipeline.building import Builder
from compressor.pipeline.store import Store
from compressor.pipeline.task_rows import PreparedRows
from compressor.progress import Progress
from compressor.recipe.resolve import resolve


@pytest.fixture
def prepared(write_recipe: WriteRecipe, classifier: Path, tmp_path: Path):
    """Prepares rows with these labels for a head with the labels negative and positive."""

    def run(given: list[str], **data: Any) -> tuple[PreparedRows, list[int]]:
        rows = [f"text {index}\t{label}\n" for index, label in enumerate(given)]
        (tmp_path / "rows.tsv").write_text("text\tlabel\n" + "".join(rows))
        stages = yaml.safe_load(write_recipe().read_text())["stages"]
        data = {"train": "rows.tsv", "validation": "rows.tsv", **data}
        path = write_recipe(model=str(classifier), data=data, stages=[{**stages[2], "gates": {}}])
        with Store(tmp_path / "store") as store, InProcess() as client:
            made = plan.make(resolve(path), download=False)
            found = Builder(made, store, client, Progress(Console(quiet=True))).prepared("text-classification")
            assert isinstance(found, PreparedRows)
            assert made.model is not None
            return found, found.validation(made.model)[1]["labels"].tolist()

    return run


def test_numbers_of_a_named_head_need_a_key(prepared):
    with refused("data.label", "unknown"):
        prepared(["0", "1"] * 5)
    found, right = prepared(["0", "1"] * 5, labels={0: "positive", 1: "negative"})
    assert found.labels == ("negative", "positive") and "'0' is 'positive'" in " ".join(found.notes)
    assert right == [1, 0] * 5


def test_a_name_that_the_head_lacks_is_refused_at_its_key(prepared):
    with refused("data.labels", "unknown"):
        prepared(["0", "1"] * 5, labels={0: "negatife", 1: "positive"})
    assert prepared(["0", "1"] * 5, labels={0: "Negative", 1: "positive", 2: "neutral"})[1] == [0, 1] * 5


def test_a_key_that_no_row_has_is_reported_with_the_nearest_label(prepared):
    notes = " ".join(prepared(["positive", "negative"] * 5, labels={"POSITIVE": "positive", 7: "negative"})[0].notes)
    assert "no row has the label 'POSITIVE' (did you mean 'positive'?), '7'" in notes
    assert "'POSITIVE' is" not in notes and "'7' is" not in notes


def test_nothing_is_trained_and_labels_may_be_rare(prepared):
    notes = " ".join(prepared(["Positive"] * 3)[0].notes)
    assert "'Positive' is 'positive'" in notes and "no row has these labels of the head: 'negative'" in notes
    assert "one row only" in " ".join(prepared(["positive"] * 3 + ["negative"])[0].notes)


def test_columns_that_are_named_twice(write_recipe: WriteRecipe, tmp_path: Path):
    (tmp_path / "rows.csv").write_text("text,label,text\na,0,b\n")
    data = {"train": "rows.csv", "validation": "rows.csv"}
    with pytest.raises(RecipeError, match="2 columns that are called 'text'"):
        resolve(write_recipe(data=data))
    with refused("data.label", "conflict"):
        resolve(write_recipe(data={**data, "label": "text"}))
