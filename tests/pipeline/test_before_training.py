"""What would stop a run after its training is refused before it: by `validate`, or when the run starts."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import broken
import pytest
from broken import edit_json
from conftest import WriteRecipe, save_classifier
from in_process import InProcess
from problems import refused

import compressor
from compressor.errors import RecipeError
from compressor.models import loading
from compressor.pipeline import session
from compressor.recipe import resolve

FINETUNE = {"stage": "finetune", "max_steps": 1}
BAKED = {"stage": "export", "tokenizer": "baked"}
DISTILL = {"stage": "distill", "max_steps": 1}
PRETRAIN = {"stage": "distill", "name": "pre", "objective": "pretraining", "alpha_soft": 0}


def cut_on_the_left(folder: Path, name: str) -> None:
    if name == "tokenizer.json":
        cut = {"direction": "Left", "max_length": 48, "strategy": "LongestFirst", "stride": 0}
        edit_json(folder / name, truncation=cut)
        edit_json(folder / "tokenizer_config.json", ("truncation_side",))
    else:
        edit_json(folder / name, truncation_side="left")


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_the_tokenizer_that_ships_can_be_baked(
    write_recipe: WriteRecipe, tmp_path: Path, encoder: Path, distilbert: Path, name: str
):
    cut_on_the_left(broken.copy(encoder, tmp_path / "left"), name)
    assert loading.load_tokenizer(tmp_path / "left").truncation_side == "left"
    with refused("stages[1] (export).tokenizer", "unsupported"):
        resolve.resolve(write_recipe(model="left", stages=[FINETUNE, BAKED]))
    resolve.resolve(write_recipe(model="left", stages=[FINETUNE, {**BAKED, "tokenizer": "files"}]))
    student = {**DISTILL, "student": str(distilbert)}
    resolve.resolve(write_recipe(model="left", stages=[FINETUNE, student, BAKED]))
    with refused("stages[2] (export).tokenizer", "unsupported"):
        resolve.resolve(write_recipe(stages=[FINETUNE, {**DISTILL, "student": str(tmp_path / "left")}, BAKED]))


@pytest.mark.parametrize("pattern", ["bert.poler.dense", "encoder.layer.0.*", "*.layer.4.*", "qa", "*.LayerNorm"])
def test_keep_float_names_matrices(write_recipe: WriteRecipe, pattern: str):
    with refused("stages[1] (quantize).keep_float", "unknown"):
        resolve.resolve(write_recipe(stages=[FINETUNE, {"stage": "quantize", "keep_float": ["*", pattern]}]))


@pytest.mark.parametrize(
    ("before", "patterns"),
    [
        ([], ["bert.pooler.dense", "*.layer.3.*", "classifier", "*embeddings*", "*.self.quer?", "[bc]*"]),
        ([DISTILL], ["distilbert.transformer.layer.1.*", "pre_classifier"]),
        ([{"stage": "share", "epochs": 1}], ["albert.*", "*.attention.query", "albert.pooler"]),
        ([{"stage": "prune", "heads": 0.5, "epochs": 1}], ["*attentions.3.*", "*.ffn"]),
    ],
)
def test_keep_float_takes_what_each_architecture_has(
    write_recipe: WriteRecipe, before: list[dict[str, Any]], patterns: list[str]
):
    resolve.resolve(write_recipe(stages=[FINETUNE, *before, {"stage": "quantize", "keep_float": patterns}]))


def test_a_student_that_is_pretrained_has_its_teachers_tokens(
    write_recipe: WriteRecipe, tmp_path: Path, distilbert: Path
):
    student = broken.copy(distilbert, tmp_path / "student")
    stages = [FINETUNE, {**PRETRAIN, "student": "student"}, {"stage": "finetune", "name": "last"}]
    (tmp_path / "texts.txt").write_text("some text\n" * 50)
    path = write_recipe(stages=stages)
    resolve.resolve(path, ("data.corpus=texts.txt",))
    model = json.loads((student / "tokenizer.json").read_text())["model"]
    model["vocab"]["renamed"] = model["vocab"].pop("film")
    edit_json(student / "tokenizer.json", model=model)
    with refused("stages[1] (distill).student", "conflict"):
        resolve.resolve(path, ("data.corpus=texts.txt",))


def test_a_teacher_reads_as_far_as_its_table_goes(write_recipe: WriteRecipe, tmp_path: Path):
    save_classifier(tmp_path / "student", max_position_embeddings=64)
    (tmp_path / "texts.txt").write_text("some text\n" * 50)
    for length in (48, 64):
        stage = {**PRETRAIN, "student": "student", "max_sequence_length": length}
        path = write_recipe(stages=[FINETUNE, stage, {"stage": "finetune", "name": "last"}])
        if length == 48:
            resolve.resolve(path, ("data.corpus=texts.txt",))
            continue
        with refused("stages[1] (distill).max_sequence_length", "value"):
            resolve.resolve(path, ("data.corpus=texts.txt",))


@pytest.mark.parametrize(
    ("stage", "key"),
    [
        ({"stage": "prune", "target": {"latency_p50_ms": 1}}, "target.latency_p50_ms"),
        ({**DISTILL, "hidden_size": 16, "alpha_cosine": 1}, "alpha_cosine"),
    ],
)
def test_what_one_process_does_is_refused_to_several(
    write_recipe: WriteRecipe, monkeypatch: pytest.MonkeyPatch, stage: dict[str, Any], key: str
):
    path = write_recipe(stages=[FINETUNE, stage])
    resolve.resolve(path)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with refused(f"stages[1] ({stage['stage']}).{key}", "conflict"):
        resolve.resolve(path)


def run(path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compressor.measure.client.Client", InProcess)
    compressor.run(path, artifacts=folder)


def built(artifacts: Path) -> set[str]:
    """The kinds of stages in a store."""
    entries = [json.loads(path.read_text()) for path in artifacts.glob(".store/*/*.json")]
    return {entry["inputs"]["spec"]["stage"] for entry in entries if entry.get("inputs", {}).get("kind") == "stage"}


def test_a_precision_of_a_later_stage(write_recipe: WriteRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from compressor.training import devices

    if devices.kind() != "cpu":
        monkeypatch.setattr(devices, "kind", lambda: "cpu")
    path = write_recipe(stages=[FINETUNE, {**DISTILL, "precision": "fp16"}])
    resolve.resolve(path)
    with refused("stages[1] (distill).precision", "unsupported"):
        run(path, tmp_path / "artifacts", monkeypatch)
    assert built(tmp_path / "artifacts") == set()


def test_a_tokenizer_that_is_odd_in_what_no_file_says_plainly(
    write_recipe: WriteRecipe, tmp_path: Path, encoder: Path, monkeypatch: pytest.MonkeyPatch
):
    model = broken.copy(encoder, tmp_path / "odd")
    edit_json(
        model / "tokenizer.json", post_processor={"type": "BertProcessing", "sep": ["[CLS]", 2], "cls": ["[SEP]", 3]}
    )
    edit_json(model / "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast")
    path = write_recipe(model="odd", stages=[FINETUNE, BAKED])
    resolve.resolve(path)
    with refused("stages[1] (export).tokenizer", "unsupported"):
        run(path, tmp_path / "artifacts", monkeypatch)
    assert built(tmp_path / "artifacts") == set()


def test_the_text_of_every_stage_is_read_first(
    write_recipe: WriteRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "blank.txt").write_text("\n \n")
    prune = {"stage": "prune", "vocabulary": {"keep": 80, "corpus": "blank.txt"}, "epochs": 0}
    path = write_recipe(stages=[FINETUNE, prune])
    with refused("stages[1] (prune).vocabulary.corpus", "missing"):
        run(path, tmp_path / "artifacts", monkeypatch)
    path = write_recipe(
        stages=[FINETUNE, {**PRETRAIN, "max_steps": 1}],
        data={
            "train": "train.tsv",
            "validation": "dev.tsv",
            "text": "sentence",
            "label": "label",
            "corpus": "blank.txt",
        },
    )
    with pytest.raises(RecipeError) as caught:
        run(path, tmp_path / "artifacts", monkeypatch)
    assert "corpus" in caught.value.problems[0].where
    assert built(tmp_path / "artifacts") == set()


@pytest.mark.parametrize(
    ("target", "vocabulary", "fits"),
    [
        ({"num_parameters": 2000}, None, False),
        ({"size_bytes": 9000}, None, False),
        ({"size_bytes": 9000}, {"keep": 64}, True),
        ({"size_bytes": 8000}, {"keep": 64}, False),
        ({"size_bytes": 9000}, {"min_count": 2}, True),  # only the stage knows how many tokens stay
        ({"num_parameters": 20000}, None, True),
        ({"latency_p50_ms": 1e-6}, None, True),  # nothing that a table tells
    ],
)
def test_a_target_below_the_embeddings(
    write_recipe: WriteRecipe, target: dict[str, Any], vocabulary: dict[str, Any] | None, fits: bool
):
    """The table has 86 words, 32 wide."""
    prune = {"stage": "prune", "target": target, **({"vocabulary": vocabulary} if vocabulary else {})}
    path = write_recipe(stages=[FINETUNE, prune])
    if fits:
        resolve.resolve(path)
    else:
        with refused(f"stages[1] (prune).target.{next(iter(target))}", "value"):
            resolve.resolve(path)


@pytest.mark.parametrize(
    ("keys", "fits"),
    [
        ({"heads": 0.5}, False),
        ({"target": {"num_parameters": 20000}}, False),
        ({"heads": 0.5, "scoring": "magnitude"}, True),
        ({"layers": 1}, True),
    ],
)
def test_gradients_of_a_head_that_nobody_has_trained(
    write_recipe: WriteRecipe, tmp_path: Path, keys: dict[str, Any], fits: bool
):
    (tmp_path / "texts.txt").write_text("the film was good\n" * 50)
    prune = {"stage": "prune", "objective": "pretraining", "alpha_soft": 0, **keys}
    path = write_recipe(stages=[prune, FINETUNE])
    if fits:
        resolve.resolve(path, ("data.corpus=texts.txt",))
    else:
        with refused("stages[0] (prune).scoring", "missing"):
            resolve.resolve(path, ("data.corpus=texts.txt",))


def test_variables_that_would_set_precision_beside_the_recipe_are_dropped(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    session.set_environment()
    assert "ACCELERATE_MIXED_PRECISION" not in os.environ
