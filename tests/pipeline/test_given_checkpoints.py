"""Runs of checkpoints as people have them: what ships has nothing of the form that they came in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import broken
import pytest
import torch
from broken import edit_config, edit_json, edit_weights
from conftest import WriteRecipe, save_classifier
from problems import refused
from running import compress, share_store

from compressor.recipe import resolve

EXPORT = [{"stage": "quantize"}, {"stage": "export", "targets": ["onnx", "torchscript"]}]


def finished(write_recipe: WriteRecipe, folder: Path, **recipe: Any) -> dict[str, Any]:
    share_store(folder)
    result = compress("run", write_recipe(**recipe).name, cwd=folder)
    assert result.returncode == 0, result.stdout + result.stderr
    report: dict[str, Any] = json.loads((folder / "artifacts/tiny/report.json").read_text())
    return report


def test_an_old_checkpoint_ships_as_a_plain_one(write_recipe: WriteRecipe, tmp_path: Path):
    given = save_classifier(tmp_path / "given", type_vocab_size=1)
    edit_config(
        given,
        ("model_type",),
        output_attentions=True,
        output_hidden_states=True,
        return_dict=False,
        torchscript=True,
        problem_type="single_label_classification",
        torch_dtype="float16",
    )
    edit_json(given / "tokenizer_config.json", padding_side="left", truncation_side="left")
    torch.save({name: tensor.half() for name, tensor in broken.state(given).items()}, given / "pytorch_model.bin")
    (given / broken.WEIGHTS).unlink()
    report = finished(write_recipe, tmp_path, model="given", stages=EXPORT)
    notes = report["stages"][0]["details"]["notes"]
    assert len(notes) == 2 and "float16" in notes[0] and "padded on the left" in notes[1]
    shipped = tmp_path / "artifacts/tiny/model"
    config = json.loads((shipped / "config.json").read_text())
    assert (config["dtype"], config["model_type"]) == ("float32", "bert")
    assert not any(config.get(name) for name in ("output_attentions", "output_hidden_states", "torchscript"))
    assert config.get("return_dict", True)
    assert json.loads((shipped / "tokenizer_config.json").read_text())["padding_side"] == "right"
    assert compress("verify", shipped, cwd=tmp_path).returncode == 0


def test_a_ready_student_may_come_in_shards_of_old(
    write_recipe: WriteRecipe, tmp_path: Path, classifier: Path, distilbert: Path
):
    student = broken.copy(distilbert, tmp_path / "student")
    tensors = broken.state(student)
    torch.save(tensors, student / "pytorch_model-00001-of-00001.bin")
    index = {"weight_map": dict.fromkeys(tensors, "pytorch_model-00001-of-00001.bin")}
    (student / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    (student / broken.WEIGHTS).unlink()
    stage = {"stage": "distill", "student": "student", "epochs": 1, "batch_size": 16, "alpha_cosine": 0}
    report = finished(write_recipe, tmp_path, model=str(classifier), stages=[stage])
    assert any("pytorch_model-00001" in note for note in report["stages"][0]["details"]["notes"])
    edit_config(student, n_layers=3)
    with refused("stages[0] (distill).student", "conflict"):
        resolve.resolve(tmp_path / "recipe.yaml")


def test_a_folder_of_sentence_transformers_is_fine_tuned(write_recipe: WriteRecipe, tmp_path: Path, encoder: Path):
    broken.copy(encoder, tmp_path / "given" / "0_Transformer")
    modules = [{"idx": 0, "name": "0", "path": "0_Transformer", "type": "sentence_transformers.models.Transformer"}]
    (tmp_path / "given" / "modules.json").write_text(json.dumps(modules))
    assert resolve.resolve(write_recipe(model="given")).model == tmp_path / "given" / "0_Transformer"


def test_what_only_weights_say_ends_a_run_before_it_reads_rows(
    write_recipe: WriteRecipe, tmp_path: Path, classifier: Path
):
    given = broken.copy(classifier, tmp_path / "given")
    edit_weights(given, lambda s: {**s, "classifier.bias": s["classifier.bias"] * float("inf")})
    path = write_recipe(model="given", stages=EXPORT)
    assert compress("validate", path.name, cwd=tmp_path).returncode == 0
    result = compress("run", path.name, cwd=tmp_path)
    assert result.returncode == 2
    assert "classifier.bias" in result.stderr
    assert not list((tmp_path / "artifacts/.store").glob("*/files/train"))


@pytest.mark.parametrize("stages", [EXPORT, [{"stage": "finetune"}]])
def test_a_head_that_is_not_whole_needs_finetune(
    write_recipe: WriteRecipe, tmp_path: Path, classifier: Path, stages: list[dict[str, Any]]
):
    given = broken.copy(classifier, tmp_path / "given")
    edit_weights(given, broken.without("pooler"))
    path = write_recipe(model="given", stages=stages)
    if stages is not EXPORT:
        resolve.resolve(path)
        return
    with refused("model", "missing"):
        resolve.resolve(path)


def test_pairs_need_two_types_of_tokens(write_recipe: WriteRecipe, tmp_path: Path):
    save_classifier(tmp_path / "given", type_vocab_size=1)
    path = write_recipe(model="given", stages=[{"stage": "finetune"}])
    resolve.resolve(path)
    with refused("model", "conflict"):
        resolve.resolve(path, ("data.text_pair=sentence",))
