"""`compress compare` on recipes: run, cached, with and without a stage, side by side."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import WriteRecipe
from problems import refused
from running import compress

from compressor.commands.main import main
from compressor.pipeline import study
from compressor.recipe.reading import load

TRAIN = {"epochs": 2, "batch_size": 16, "learning_rate": 3e-3, "max_sequence_length": 24}
STAGES = [
    {"stage": "finetune", **TRAIN},
    {"stage": "distill", "num_hidden_layers": 2, **TRAIN},
    {"stage": "quantize"},
]


def test_recipes_are_run_and_compared_stage_by_stage(write_recipe: WriteRecipe, tmp_path: Path):
    path = write_recipe(stages=STAGES)
    arguments = ("compare", path.name, "--stages", "--without", "distill", "--json")
    first = compress(*arguments, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert "2 runs, 4 stages: 0 in the store, 4 to build, about" in first.stderr
    (group,) = json.loads(first.stdout)["tasks"]
    shown = [(entry["run"], entry["stage"], entry["baseline"]) for entry in group["entries"]]
    assert shown == [
        ("tiny", "baseline", True),
        ("tiny", "distill", False),
        ("tiny", "quantize", False),
        ("tiny-without-distill", "quantize", False),
    ], "what both have in common is there once"
    by_name = {name[:2]: entry for name, entry in zip(shown, group["entries"], strict=True)}
    parameters = {name: entry["measurements"]["num_parameters"]["value"] for name, entry in by_name.items()}
    assert parameters["tiny", "quantize"] == parameters["tiny", "distill"]
    assert parameters["tiny-without-distill", "quantize"] == parameters["tiny", "baseline"]
    trained = {name: entry["training_seconds"] for name, entry in by_name.items()}
    assert trained["tiny", "distill"] == trained["tiny", "quantize"] > 0 and trained["tiny", "baseline"] > 0
    assert trained["tiny-without-distill", "quantize"] == 0

    again = compress(*arguments, cwd=tmp_path)
    assert "2 runs, 4 stages: 4 in the store, 0 to build\n" in again.stderr
    assert json.loads(again.stdout) == json.loads(first.stdout)


def test_a_stage_that_is_set_to_nothing_is_left_out(write_recipe: WriteRecipe):
    path = write_recipe(stages=STAGES)
    assert load(path, ("stages.distill=null",)).stage_names() == ["finetune", "quantize"]
    assert load(path, ("stages.1=null", "stages.1.scheme=static_int8")).stages[1].scheme == "static_int8"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [(["--without", "prune"], "--without"), (["--set", "stages.distill.epohcs=1"], "'epohcs'")],
)
def test_mistakes_are_reported_before_anything_runs(
    write_recipe: WriteRecipe, tmp_path: Path, arguments: list[str], named: str
):
    path = write_recipe(stages=STAGES)
    result = CliRunner().invoke(main, ["compare", str(path), "--artifacts", str(tmp_path / "a"), *arguments])
    assert result.exit_code == 2 and named in result.output
    assert not (tmp_path / "a").exists()


def test_two_recipes_of_one_name_are_refused(write_recipe: WriteRecipe, tmp_path: Path):
    first = write_recipe(stages=STAGES)
    second = shutil.copyfile(first, tmp_path / "second.yaml")
    with refused(f"{second}: name", "conflict"):
        study.forms([first, second], (), ())
    with refused(f"{second}: name", "conflict"):
        study.forms([first, second], (), ("distill",))
    derived = shutil.copyfile(first, tmp_path / "derived.yaml")
    derived.write_text(derived.read_text().replace("name: tiny", "name: tiny-without-distill"))
    with refused(f"{derived}: name", "conflict"):
        study.forms([first, derived], (), ("distill",))
    assert len(study.forms([first, derived], (), ())) == 2
    assert len(study.forms([first, first.parent / "." / first.name], (), ("distill",))) == 2, "one file, named twice"
    result = CliRunner().invoke(main, ["compare", str(first), str(second), "--artifacts", str(tmp_path / "a")])
    assert result.exit_code == 2 and not (tmp_path / "a").exists()


def test_a_run_that_a_recipe_would_replace_is_refused(write_recipe: WriteRecipe, tmp_path: Path):
    parts = study.forms([write_recipe(stages=STAGES)], (), ())
    run = tmp_path / "artifacts" / "tiny"
    run.mkdir(parents=True)
    for path in (run, run / "report.json"):
        with refused(str(path), "conflict"):
            study.check_runs([path], parts, tmp_path / "artifacts")
    study.check_runs([run], parts, tmp_path / "others")


def test_options_of_recipes_need_one(tmp_path: Path):
    result = CliRunner().invoke(main, ["compare", str(tmp_path), "--without", "prune"])
    assert result.exit_code == 2 and "none of the paths is a recipe" in result.output
