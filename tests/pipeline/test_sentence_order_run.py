"""A run that learns the order of sentences: measured, gated, and in what ships."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from conftest import WriteRecipe, make_tokenizer
from running import compress
from training_rows import ordered_texts


def test_the_order_of_sentences_is_learned_measured_gated_and_ships(write_recipe: WriteRecipe, tmp_path: Path):
    from transformers import AutoModelForMaskedLM, AutoModelForPreTraining

    (tmp_path / "corpus.txt").write_text("\n".join(ordered_texts(1500, 2)))
    train = {"batch_size": 16, "learning_rate": 3e-3, "max_sequence_length": 24, "epochs": 3}
    gates = {"sentence_order_accuracy": {"min_retention": 0.8}}
    stages = [
        {"stage": "finetune", "name": "order", "alpha_mlm": 0, "head_learning_rate": 1e-2, **train, "epochs": 1},
        {"stage": "finetune", "alpha_order": 2.0, **train, "gates": {"sentence_order_accuracy": {"min": 0.8}}},
        {"stage": "distill", "architecture": "bert", "layers": "importance", **train, "gates": gates},
        {"stage": "quantize", "gates": gates},
        {"stage": "export", "targets": ["onnx", "torchscript"]},
    ]
    corpus = {"source": "corpus.txt", "sentence_order": True, "validation_fraction": 0.2}
    path = write_recipe(task="masked-lm", data={"corpus": corpus}, stages=stages)
    result = compress("run", path.name, cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    report = json.loads((tmp_path / "artifacts/tiny/report.json").read_text())
    entries = {entry["name"]: entry for entry in report["stages"]}
    for name in ("baseline", "finetune", "distill", "quantize", "export"):
        assert entries[name]["measurements"]["sentence_order_accuracy"]["value"] > 0.8, name
    assert entries["export"]["measurements"]["parity_label_agreement"]["value"] == 1
    assert list(entries["order"]["details"]["terms"]) == ["order"]
    told_of = {name: entries[name]["measurements"]["accuracy"]["value"] for name in ("baseline", "finetune", "order")}
    assert told_of["baseline"] == told_of["finetune"] > told_of["order"], "the stage that learns both is the teacher"
    details = entries["finetune"]["details"]
    assert sorted(details["terms"]) == ["mlm", "order"]
    for (_, loss), (_, mlm), (_, order) in zip(details["loss"], *details["terms"].values(), strict=True):
        assert loss == pytest.approx(mlm + 2 * order, rel=1e-3)
    assert sorted(entries["distill"]["details"]["terms"]) == ["cosine", "mlm", "order", "soft"]
    assert entries["distill"]["details"]["weights"]["order"] == 1.0
    assert 0 < entries["distill"]["details"]["padding"] < 0.5
    markdown = (tmp_path / "artifacts/tiny/report.md").read_text()
    assert "sentence_order_accuracy: retention" in markdown
    told = entries["quantize"]["measurements"]["sentence_order_accuracy"]["value"]
    assert "| stage | loss | perplexity | sentence_order_accuracy |" in markdown
    assert next(line for line in markdown.splitlines() if line.startswith("| quantize |") and f"| {told:.4f} [" in line)

    model = tmp_path / "artifacts/tiny/model"
    assert 'AutoModelForPreTraining.from_pretrained("model")' in (model / "README.md").read_text()
    both, info = AutoModelForPreTraining.from_pretrained(model, output_loading_info=True)
    assert type(both).__name__ == "BertForPreTraining"
    assert not info["missing_keys"] and not info["unexpected_keys"]
    _, info = AutoModelForMaskedLM.from_pretrained(model, output_loading_info=True)
    assert not info["missing_keys"]
    tokenizer = make_tokenizer()
    first, last = "start the film.", "end of the plot."
    for segments, swapped in (((first, last), 0), ((last, first), 1)):
        with torch.no_grad():
            answer = both.eval()(**tokenizer(*segments, return_tensors="pt")).seq_relationship_logits
        assert answer.argmax().item() == swapped
    locked = yaml.safe_load((tmp_path / "artifacts/tiny/recipe.lock.yaml").read_text())
    assert locked["recipe"]["data"]["corpus"]["sentence_order"] is True
