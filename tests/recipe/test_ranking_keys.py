"""Keys that are about rankings need queries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import task_rows
from conftest import WriteRecipe
from problems import refused

from compressor.recipe import resolve

FINETUNE = {"stage": "finetune"}


def write(folder: Path, encoder: Path, stages: list[dict[str, Any]], query: str | None = None, **given: Any) -> Path:
    data = task_rows.DATA["text-regression"] | ({"query": query} if query else {})
    return task_rows.write_recipe(folder, "text-regression", encoder, stages, data=data, **given)


@pytest.mark.parametrize("metric", ["mrr_at_10", "onnx.ndcg_at_10"])
def test_gates_of_rankings(tmp_path: Path, encoder: Path, metric: str):
    stages = [FINETUNE, {"stage": "export", "gates": {metric: {"min": 0.5}}}]
    with refused(f"stages[1] (export).gates.{metric}", "missing"):
        resolve.resolve(write(tmp_path, encoder, stages))
    resolve.resolve(write(tmp_path, encoder, stages, query="first"))


def test_gates_relative_to_another_run(tmp_path: Path, encoder: Path):
    given = {"regression": {"mrr_at_10": {"max_drop": 0.01}}}
    with refused("regression.mrr_at_10", "missing"):
        resolve.resolve(write(tmp_path, encoder, [FINETUNE], **given))
    recipe = resolve.resolve(write(tmp_path, encoder, [FINETUNE], query="first")).recipe
    assert "ndcg_at_10" in recipe.regression_gates and "spearman" not in recipe.regression_gates


def test_margins_need_queries(tmp_path: Path, encoder: Path):
    stages = [FINETUNE, {"stage": "share", "num_hidden_groups": 1, "alpha_margin": 1.0}]
    with refused("stages[1] (share).alpha_margin", "missing"):
        resolve.resolve(write(tmp_path, encoder, stages))
    resolve.resolve(write(tmp_path, encoder, stages, query="first"))


def test_margins_need_two_rows_in_a_batch(tmp_path: Path, encoder: Path):
    share = {"stage": "share", "num_hidden_groups": 1, "alpha_margin": 1.0, "batch_size": 1}
    with refused("stages[1] (share).alpha_margin", "conflict"):
        resolve.resolve(write(tmp_path, encoder, [FINETUNE, share], query="first"))
    resolve.resolve(write(tmp_path, encoder, [FINETUNE, {**share, "epochs": 0}], query="first"))


def test_margins_are_something_to_learn_from(tmp_path: Path, encoder: Path):
    only = {"stage": "distill", "alpha_soft": 0, "alpha_hard": 0, "alpha_margin": 1.0}
    resolve.resolve(write(tmp_path, encoder, [FINETUNE, only], query="first"))
    with refused("stages[1] (distill).alpha_soft", "value"):
        resolve.resolve(write(tmp_path, encoder, [FINETUNE, {**only, "alpha_margin": 0}], query="first"))


def test_labels_have_no_margins(write_recipe: WriteRecipe):
    with refused("stages[1] (distill).alpha_margin", "conflict"):
        resolve.resolve(write_recipe(stages=[FINETUNE, {"stage": "distill", "alpha_margin": 1.0}]))
    with refused("data.query", "conflict"):
        resolve.resolve(write_recipe(), ("data.query=sentence",))


def test_a_column_that_is_not_there(tmp_path: Path, encoder: Path):
    with refused("data.query", "missing"):
        resolve.resolve(write(tmp_path, encoder, [FINETUNE], query="nothing"))


def test_the_relevance_is_no_query(tmp_path: Path, encoder: Path):
    with refused("data.query", "conflict"):
        resolve.resolve(write(tmp_path, encoder, [FINETUNE], query="score"))
