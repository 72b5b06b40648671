"""What a recipe points to: every mistake is told before anything runs, and nothing heavy is imported to find it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml
from conftest import WriteRecipe

from compressor import validate
from compressor.data.sources import HubModel
from compressor.errors import RecipeError

ROOT = Path(__file__).parents[1]


def refused(path: Path, *overrides: str) -> str:
    with pytest.raises(RecipeError) as caught:
        validate.resolve(path, overrides)
    return str(caught.value)


def test_a_good_recipe_is_resolved(write_recipe: WriteRecipe, encoder: Path, tmp_path: Path):
    resolved = validate.resolve(write_recipe())
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
        ("stages.quantize.name=export", "two stages are called 'export'"),
        ("measure.runtime=torchscript", "quantize writes ONNX, which torchscript does not run"),
    ],
)
def test_mistakes(write_recipe: WriteRecipe, override: str, message: str):
    assert message in refused(write_recipe(), override)


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


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "config.json").unlink(), "has no config.json"),
        (lambda f: (f / "config.json").write_text("{"), "cannot be read"),
        (lambda f: (f / "config.json").write_text('{"model_type": "gpt2"}'), "is 'gpt2', not BERT; allowed: bert"),
        (lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"), "only pytorch_model.bin"),
        (lambda f: (f / "model.safetensors").write_bytes(b"\xff" * 100), "is damaged"),
        (lambda f: (f / "model.safetensors").write_bytes(b""), "is damaged"),
        (lambda f: (f / "tokenizer.json").unlink(), "has no tokenizer"),
    ],
)
def test_a_folder_that_is_no_checkpoint(write_recipe: WriteRecipe, encoder: Path, tmp_path: Path, spoil, message: str):
    folder = tmp_path / "spoiled"
    shutil.copytree(encoder, folder)
    spoil(folder)
    assert message in refused(write_recipe(model="spoiled"))


def test_parquet_and_csv_columns_are_read_from_the_file(write_recipe: WriteRecipe, tmp_path: Path):
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"sentence": ["a"], "label": [1]}), tmp_path / "a.parquet")
    (tmp_path / "b.csv").write_text('"sentence","label"\n"x, y",1\n')
    (tmp_path / "c.jsonl").write_text(json.dumps({"sentence": "a", "gold": 1}) + "\n")
    write_recipe()
    validate.resolve(tmp_path / "recipe.yaml", ("data.train=a.parquet", "data.validation=b.csv"))
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
    resolved = validate.resolve(tmp_path / "recipe.yaml", ("data.train=package:explosive_rows/data/rows.tsv",))
    assert resolved.train == package / "data" / "rows.tsv"
    assert "has no" in refused(tmp_path / "recipe.yaml", "data.train=package:explosive_rows/../secret.tsv")


def test_a_name_that_is_no_folder_is_a_hub_id(write_recipe: WriteRecipe):
    resolved = validate.resolve(write_recipe(), ("model=google-bert/bert-base-uncased@v1",))
    assert resolved.model == HubModel("google-bert/bert-base-uncased", "v1")


def test_the_recipes_that_ship_have_good_form():
    paths = sorted((ROOT / "recipes").glob("*.yaml"))
    assert len(paths) >= 3
    for path in paths:
        recipe = yaml.safe_load(path.read_text())
        assert recipe["name"] == path.stem
