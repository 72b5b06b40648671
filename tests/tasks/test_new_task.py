"""A new task is one file, and its name in the table of `compressor.tasks`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import recipe_writer
from extending import ExtendedPackage

TASK = '''"""Toy: classification of texts, judged by other metrics than text-classification."""

from compressor.tasks import text_classification
from compressor.tasks.text_classification import *  # noqa: F403

NAME = "toy-classification"
METRICS = ("matthews_correlation", "exact_match")


def score(answers, references, labels):
    """The correlation, and the share of rows whose label is right."""
    found = text_classification.score(answers, references, labels)
    return {"matthews_correlation": found["matthews_correlation"], "exact_match": found["accuracy"]}
'''


@pytest.fixture
def package(tmp_path: Path) -> ExtendedPackage:
    package = ExtendedPackage(tmp_path)
    package.write("tasks/toy.py", TASK)
    package.insert("tasks/__init__.py", "from compressor.tasks.base import", "from compressor.tasks import toy")
    package.insert("tasks/__init__.py", "_MODULES: ", "    toy,")
    return package


def test_a_new_task_is_in_the_schema_and_in_hints(package: ExtendedPackage, encoder: Path):
    schema = json.loads(package.compress("schema").stdout)
    assert "toy-classification" in schema["properties"]["task"]["enum"]
    write = recipe_writer(package.folder, encoder)
    gate = {"stage": "finetune", "gates": {"exact_match": {"min": 0.5}}}
    result = package.compress("validate", write(task="toy-classification", stages=[gate]))
    assert result.returncode == 0, result.stdout + result.stderr
    gate["gates"] = {"accuracy": {"min": 0.5}}
    result = package.compress("validate", write(task="toy-classification", stages=[gate]))
    assert result.returncode == 2 and "exact_match" in result.stderr, "the task's own metrics are allowed, no others"
    result = package.compress("validate", write(task="toy-clasification"))
    assert result.returncode == 2 and "did you mean 'toy-classification'?" in result.stderr


def test_a_new_task_is_learned_scored_and_published(package: ExtendedPackage, encoder: Path):
    train = {"epochs": 4, "batch_size": 16, "learning_rate": 3e-3, "max_sequence_length": 24}
    stages = [
        {"stage": "finetune", **train, "gates": {"exact_match": {"min": 0.8}}},
        {"stage": "distill", "layers": [0, 2], **train, "gates": {"matthews_correlation": {"min": 0.4}}},
        {"stage": "export"},
    ]
    recipe = recipe_writer(package.folder, encoder)(task="toy-classification", stages=stages)
    result = package.compress("run", recipe.name)
    assert result.returncode == 0, result.stdout + result.stderr
    folder = package.folder / "artifacts" / "tiny"
    report = json.loads((folder / "report.json").read_text())
    assert {"matthews_correlation", "exact_match"} <= set(report["stages"][-1]["measurements"])
    assert json.loads((folder / "model" / "manifest.json").read_text())["task"] == "toy-classification"
    assert "AutoModelForSequenceClassification" in (folder / "model" / "README.md").read_text()
