"""Runs with gates of single labels: one type fails where the whole passes, and unknown labels are refused first."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import task_rows
from conftest import WriteRecipe
from problems import refused
from running import compress, report_of, stage_of

from compressor.recipe import resolve

FINETUNE = {"stage": "finetune", **task_rows.TRAIN}


def test_a_tagger_whose_f1_passes_and_one_type_fails(tmp_path: Path, encoder: Path):
    gates = {"f1": {"min": 0.7}, "recall[praise]": {"min": 0.7}, "recall[*]": {"min": 0.85}}
    stages = [{**FINETUNE, "gates": gates}]
    path = task_rows.write_recipe(tmp_path, "token-classification", encoder, stages)
    for name, seed in (("train", 1), ("dev", 2)):
        rows = task_rows.tagged(300, seed)
        for index, row in enumerate(rows):  # an entity that nothing in the sentence tells
            row.append(("story", ("B-odd", "O")[index % 2]))
        task_rows.write_conll(tmp_path / f"{name}.conll", rows)
    result = compress("run", path.name, cwd=tmp_path)
    assert result.returncode == 1, result.stdout + result.stderr
    found = {gate["metric"]: gate for gate in stage_of(report_of(tmp_path), "finetune")["gates"]}
    assert {name: gate["verdict"] for name, gate in found.items()} == {
        "f1": "pass",
        "recall[praise]": "pass",
        "recall[*]": "fail",
    }
    assert found["recall[*]"]["label"] == "odd" and found["f1"]["label"] is None
    assert "recall[*] (odd)" in result.stdout
    measured = stage_of(report_of(tmp_path), "finetune")["measurements"]
    assert {"recall[odd]", "recall[praise]", "recall[blame]", "recall[thing]"} <= measured.keys()
    assert compress("verify", tmp_path / "artifacts/tiny", cwd=tmp_path).returncode == 1


def test_classes_of_a_file_that_ships_and_of_another_run(write_recipe: WriteRecipe, tmp_path: Path):
    gates = {"recall[negative]": {"min_retention": 0.8}, "onnx.f1[positive]": {"min": 0.5}}
    stages = [FINETUNE, {"stage": "export", "gates": gates}]
    path = write_recipe(stages=stages, regression={"f1[*]": {"max_drop": 0.2}})
    assert compress("run", path.name, cwd=tmp_path).returncode == 0
    (tmp_path / "artifacts/tiny").rename(tmp_path / "before")
    result = compress("run", path.name, "--baseline", "before", cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    (gate,) = stage_of(report_of(tmp_path), "regression")["gates"]
    assert gate["metric"] == "f1[*]" and gate["label"] in ("negative", "positive")
    manifest = json.loads((tmp_path / "artifacts/tiny/model/manifest.json").read_text())
    assert {entry["metric"] for entry in manifest["gates"]} >= {*gates, "f1[*]"}
    assert compress("verify", tmp_path / "artifacts/tiny", cwd=tmp_path).returncode == 0


@pytest.mark.parametrize("metric", ["recall[nobody]", "onnx.f1[nobody]"])
def test_a_label_that_is_not_there(write_recipe: WriteRecipe, tmp_path: Path, metric: str):
    stages = [FINETUNE, {"stage": "export", "gates": {metric: {"min": 0.5}}}]
    path = write_recipe(stages=stages)
    resolve.resolve(path)
    result = compress("run", path.name, cwd=tmp_path)
    assert result.returncode == 2 and "nobody" in result.stderr and metric in result.stderr
    assert not list((tmp_path / "artifacts").glob("tiny/report.json"))


@pytest.mark.parametrize("metric", ["accuracy[positive]", "recall", "recall[]", "size_bytes[x]", "onnx.recall"])
def test_a_metric_that_no_label_has(write_recipe: WriteRecipe, metric: str):
    stages = [FINETUNE, {"stage": "export", "gates": {metric: {"min": 0.5}}}]
    with refused(f"stages[1] (export).gates.{metric}", "unknown"):
        resolve.resolve(write_recipe(stages=stages))


def test_a_task_without_labels_has_no_such_metric(tmp_path: Path, encoder: Path):
    stages = [{**FINETUNE, "gates": {"recall[*]": {"min": 0.5}}}]
    with refused("stages[0] (finetune).gates.recall[*]", "unknown"):
        resolve.resolve(task_rows.write_recipe(tmp_path, "text-regression", encoder, stages))
