"""A reranker from its labels to int8, gated on rankings, and a cross-encoder of the hub that needs no training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import task_rows
from conftest import make_config, make_tokenizer, sentences
from running import compress, report_of, stage_of
from sklearn.metrics import ndcg_score

from compressor.recipe import resolve

DATA = {"text": "question", "text_pair": "passage", "label": "relevance", "query": "id"}


def write_queries(path: Path, count: int, seed: int, each: int = 5) -> list[tuple[str, str, str, int]]:
    """Queries with some passages each, of which those with a good word are relevant, in files of interleaved rows."""
    passages = iter(sentences(count * each, seed))
    rows = [
        (f"q{seed}-{query}", "was the film good", text, int(mood == "positive"))
        for query in range(count)
        for text, mood in (next(passages) for _ in range(each))
    ]
    np.random.default_rng(seed).shuffle(rows)
    lines = ["id\tquestion\tpassage\trelevance", *("\t".join(map(str, row)) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return rows


def write_recipe(folder: Path, model: Path, stages: list[dict[str, Any]], **overrides: Any) -> Path:
    write_queries(folder / "queries.tsv", 60, 1)
    write_queries(folder / "held_out.tsv", 90, 2)
    data = {"train": "queries.tsv", "validation": "held_out.tsv", **DATA}
    return task_rows.write_recipe(folder, "text-regression", model, stages, data=data, **overrides)


def test_a_reranker_learns_margins_ships_int8_and_is_verified(tmp_path: Path, encoder: Path):
    gates = {"mrr_at_10": {"min": 0.9}, "ndcg_at_10": {"min_retention": 0.9}}
    stages = [
        {"stage": "finetune", **task_rows.TRAIN},
        {"stage": "distill", "alpha_soft": 0.0, "alpha_hard": 0.0, "alpha_margin": 1.0, "gates": gates}
        | task_rows.TRAIN,
        {"stage": "quantize", "gates": {"mrr_at_10": {"max_drop": 0.05, "relative_to": "previous"}}},
        {"stage": "export", "gates": {"onnx_int8.ndcg_at_10": {"min_retention": 0.9}}},
    ]
    path = write_recipe(tmp_path, encoder, stages)
    result = compress("run", path.name, cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    report = report_of(tmp_path)
    distilled = stage_of(report, "distill")
    assert {gate["metric"]: gate["verdict"] for gate in distilled["gates"]} == dict.fromkeys(gates, "pass")
    assert set(distilled["details"]["terms"]) == {"margin"}
    assert distilled["details"]["terms"]["margin"][-1][1] < distilled["details"]["terms"]["margin"][0][1] / 5
    measured = distilled["measurements"]
    assert measured["mrr_at_10"]["n"] <= 90 and measured["spearman"]["n"] == 450
    card = (tmp_path / "artifacts/tiny/model/README.md").read_text()
    assert "ndcg_at_10" in card and "mrr_at_10" in card
    assert compress("verify", tmp_path / "artifacts/tiny", cwd=tmp_path).returncode == 0


@pytest.fixture
def cross_encoder(tmp_path: Path) -> Path:
    """A cross-encoder as the hub has them: one label without a name, no problem type, an activation for scores."""
    import torch
    from transformers import BertForSequenceClassification

    torch.manual_seed(0)
    folder = tmp_path / "cross-encoder"
    BertForSequenceClassification(make_config(num_labels=1)).save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    config.pop("problem_type", None)
    config["sentence_transformers"] = {"activation_fn": "torch.nn.modules.activation.Sigmoid", "version": "5.1.0"}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_a_cross_encoder_of_the_hub_ranks_as_transformers_does(tmp_path: Path, cross_encoder: Path):
    import torch
    from transformers import AutoModelForSequenceClassification

    path = write_recipe(tmp_path, cross_encoder, [{"stage": "quantize"}, {"stage": "export"}])
    assert compress("run", path.name, cwd=tmp_path).returncode in (0, 1, 4)  # random weights may rank by noise
    report = report_of(tmp_path)
    rows = write_queries(tmp_path / "again.tsv", 90, 2)
    model, tokenizer = AutoModelForSequenceClassification.from_pretrained(cross_encoder), make_tokenizer()
    with torch.no_grad():
        encoded = tokenizer([row[1] for row in rows], [row[2] for row in rows], padding=True, return_tensors="pt")
        scores = torch.sigmoid(model.eval()(**encoded).logits[:, 0]).numpy()
    found = []
    for query in {row[0] for row in rows}:
        mine = [index for index, row in enumerate(rows) if row[0] == query]
        relevance = [rows[index][3] for index in mine]
        if any(relevance):
            found.append(ndcg_score([relevance], [scores[mine]], k=10))
    measured = stage_of(report, "baseline")["measurements"]["ndcg_at_10"]
    assert measured["n"] == len(found)
    assert measured["value"] == pytest.approx(np.mean(found), abs=1e-4)
    config = json.loads((tmp_path / "artifacts/tiny/model/config.json").read_text())
    assert config["sentence_transformers"]["activation_fn"].endswith("Sigmoid")
    resolve.resolve(path)


def test_a_budget_of_quality_chooses_on_whole_queries_that_are_longer_than_all_validation_rows(
    tmp_path: Path, cross_encoder: Path
):
    path = write_recipe(tmp_path, cross_encoder, [{"stage": "quantize", "accuracy": {"max_drop": 0.5}}])
    write_queries(tmp_path / "queries.tsv", 3, 1, each=20)
    write_queries(tmp_path / "held_out.tsv", 2, 2)
    result = compress("run", path.name, cwd=tmp_path)
    assert result.returncode in (0, 1, 4), result.stdout + result.stderr
    assert stage_of(report_of(tmp_path), "quantize")["details"]["selection"]["max_drop"] == 0.5


def test_margins_of_queries_with_one_row_are_refused_before_anything_is_trained(tmp_path: Path, encoder: Path):
    distill = {"stage": "distill", "alpha_margin": 1.0}
    path = write_recipe(tmp_path, encoder, [{"stage": "finetune"}, distill])
    write_queries(tmp_path / "queries.tsv", 60, 1, each=1)
    result = compress("run", path.name, cwd=tmp_path)
    assert result.returncode == 2 and "stages[1] (distill).alpha_margin" in result.stderr, result.stderr
