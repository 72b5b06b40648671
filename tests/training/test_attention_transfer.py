"""Attention is compared as it is before dropout: a student that is its teacher costs nothing while it trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import WriteRecipe, passing, save_classifier
from kinds import make_model
from test_training import answers_of, run
from training_rows import batches, schedule

from compressor.tasks import text_classification
from compressor.training.objectives import TaskDistillation, remove_attention_dropout


@pytest.mark.parametrize("family", ["bert", "distilbert", "albert", "shared_attention"])
def test_a_teacher_as_its_own_student_costs_nothing_in_training(family: str, tmp_path: Path):
    model = make_model(family)
    model.set_attn_implementation("eager")
    everything = list(range(model.config.num_hidden_layers))
    data = batches(40, answers_of(model, tmp_path / "answers", count=40, attention=everything))
    objective = TaskDistillation(text_classification, {"attention": 1.0}, 2.0, everything)
    batch = data.batch(list(range(20)))
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}

    def loss() -> float:
        torch.manual_seed(0)
        with torch.no_grad():
            return objective.terms(model.train(), inputs, batch)["attention"].item()

    names = {name for name, module in model.named_modules() if isinstance(module, torch.nn.Dropout)}
    before = loss()
    remove_attention_dropout(model)
    left = {name: module for name, module in model.named_modules() if isinstance(module, torch.nn.Dropout)}
    assert left and len(left) < len(names), "only attention loses its dropout"
    rates = {name: module.p for name, module in left.items()}
    for module in left.values():
        module.p = 0.0
    assert abs(loss()) < 1e-4 < 0.05 < before
    for name, module in left.items():
        module.p = rates[name]
    run(model, tmp_path / "work", objective, data, schedule=schedule(max_steps=1, dropout=0.5, learning_rate=1e-12))
    assert {module.p for module in left.values()} == {0.5}, "the recipe's rate is that of the others"
    for module in left.values():
        module.p = 0.0
    assert abs(loss()) < 1e-4


def test_a_stage_learns_attention_without_its_dropout(write_recipe: WriteRecipe, tmp_path: Path):
    rates: dict[str, Any] = {"attention_probs_dropout_prob": 0.5, "hidden_dropout_prob": 0.0}
    teacher = save_classifier(tmp_path / "teacher", **rates)
    stage = {"stage": "distill", "num_hidden_layers": 4, "architecture": "bert", "max_steps": 3, "batch_size": 8}
    weights = {"alpha_soft": 0.0, "alpha_hard": 0.0, "alpha_attention": 1.0, "learning_rate": 1e-9}
    recipe = {**stage, **weights, "max_sequence_length": 24}
    report = passing(write_recipe, tmp_path, [recipe], model=str(teacher))["distill"]
    assert all(value < 1e-4 for _, value in report["details"]["terms"]["attention"])
