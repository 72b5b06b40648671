"""The rows of a file are kept in the store for the task that they were read for."""

from __future__ import annotations

from pathlib import Path

from conftest import WriteRecipe, save_encoder
from rich.console import Console

from compressor.pipeline import plan
from compressor.pipeline.store import Store
from compressor.pipeline.task_rows import PreparedRows
from compressor.progress import Progress
from compressor.recipe.resolve import resolve


def test_the_same_columns_are_read_anew_for_another_task(write_recipe: WriteRecipe, tmp_path: Path):
    save_encoder(tmp_path / "model")
    path = write_recipe(model="model", stages=[{"stage": "finetune", "max_steps": 1}])
    rows = "sentence\tlabel\n" + "".join(f"a film of {number}\t{number % 5}\n" for number in range(60))
    for name in ("train.tsv", "dev.tsv"):
        (tmp_path / name).write_text(rows)
    store, found = Store(tmp_path / "store"), {}
    for task in ("text-classification", "text-regression", "text-classification"):
        planned = plan.make(resolve(path, [f"task={task}"]), download=False)
        found[task] = PreparedRows(planned, store, Progress(Console(quiet=True))).labels
    assert found == {"text-classification": ("0", "1", "2", "3", "4"), "text-regression": ()}
