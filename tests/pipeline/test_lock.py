"""`--locked` and `--lock` refuse changed values, data, checkpoints, versions and code, each by its cause."""

from __future__ import annotations

import copy
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import problems
import pytest
import yaml
from conftest import WriteRecipe, save_encoder, sentences, write_rows
from running import compress

import compressor
from compressor.errors import ExitCode, Problem, RecipeError
from compressor.host.machine import DISTRIBUTION, host, versions
from compressor.pipeline import lock, plan
from compressor.recipe.resolve import resolve
from compressor.training import devices

TRAIN = {"epochs": 1, "batch_size": 16, "learning_rate": 3e-3, "max_sequence_length": 24}
STAGES: list[dict[str, Any]] = [
    {"stage": "finetune", **TRAIN},
    {"stage": "prune", "ffn": 0.5, "vocabulary": {"min_count": 1, "corpus": "words.txt"}, **TRAIN},
    {"stage": "quantize", "accuracy": {"max_drop": 0.01}},
    {"stage": "export", "targets": ["onnx"]},
]


@pytest.fixture
def recipe(write_recipe: WriteRecipe, tmp_path: Path) -> Path:
    """A recipe whose stages have everything that a lock can hold."""
    (tmp_path / "words.txt").write_text("the film was good and the plot was fine\n" * 20)
    return write_recipe(stages=STAGES)


@pytest.fixture
def locked(recipe: Path, tmp_path: Path) -> Path:
    """The recipe's lock, kept beside it."""
    kept = tmp_path / "recipe.lock.yaml.kept"
    kept.write_text(lock.render(plan.make(resolve(recipe), download=False)), encoding="utf-8")
    return kept


def refused(recipe: Path, locked: Path, *overrides: str) -> list[Problem]:
    """The differences from a lock; all are of one kind."""
    try:
        lock.check(plan.make(resolve(recipe, overrides), download=False), locked)
    except RecipeError as error:
        assert str(locked) in str(error) and all(problem.kind == "changed" for problem in error.problems)
        return error.problems
    return []


def test_the_same_is_not_refused(recipe: Path, locked: Path):
    assert refused(recipe, locked) == []


@pytest.mark.parametrize(
    ("override", "where", "values"),
    [
        ("seed=3", "seed", ("3", "0")),
        ("stages.finetune.epochs=2", "stages[0] (finetune).epochs", ("2.0", "1.0")),
        ("stages.prune.vocabulary.min_count=2", "stages[1] (prune).vocabulary.min_count", ("2", "1")),
        ("stages.finetune.gates.accuracy.min=0.5", "stages[0] (finetune).gates.accuracy", ("{'min': 0.5", "None")),
        ("measure.runs=61", "measure.runs", ("61", "60")),
        ("regression.accuracy.max_drop=0.1", "regression", ("{'accuracy': {'max_drop': 0.1", "None")),
        ("data.max_train_samples=100", "data.max_train_samples", ("100", "None")),
    ],
)
def test_a_changed_value_is_a_problem_once(
    recipe: Path, locked: Path, override: str, where: str, values: tuple[str, str]
):
    (problem,) = refused(recipe, locked, override)
    assert problem.where == where
    assert 0 <= problem.what.index(values[0]) < problem.what.rindex(values[1])


def test_other_stages_are_named(recipe: Path, locked: Path, write_recipe: WriteRecipe):
    (problem,) = refused(write_recipe(stages=[STAGES[0], *STAGES[2:]]), locked)
    assert problem.where == "stages"
    now, before = (problem.what.index(f"finetune → {rest}") for rest in ("quantize → export", "prune → quantize"))
    assert now < before


def test_a_changed_data_file_is_named(recipe: Path, locked: Path, tmp_path: Path):
    write_rows(tmp_path / "dev.tsv", sentences(200, seed=8))
    (problem,) = refused(recipe, locked)
    assert problem.where == "data.validation" and "dev.tsv" in problem.what and "sha256" in problem.what
    (tmp_path / "words.txt").write_text("other words\n")
    places = [problem.where for problem in refused(recipe, locked)]
    assert places == ["data.validation", "stages[1] (prune).vocabulary.corpus"]


def test_another_checkpoint_is_named_with_its_files(recipe: Path, locked: Path, tmp_path: Path):
    save_encoder(tmp_path / "other", initializer_range=0.2)
    found = refused(recipe, locked, f"model={tmp_path / 'other'}")
    assert [problem.where for problem in found] == ["model"] * 3
    assert str(tmp_path / "other") in found[0].what
    assert {problem.what.split()[0] for problem in found[1:]} == {"config.json", "model.safetensors"}


def test_a_data_set_on_the_hub_is_named_with_its_files():
    now = {
        "recipe": {"data": {"train": {"hub": "some/rows"}}, "stages": []},
        "data": {"text-classification": {"train": {"hub": "some/rows", "sha256": "b" * 40}}},
        "stages": {},
    }
    before = copy.deepcopy(now)
    before["data"]["text-classification"]["train"]["sha256"] = "a" * 40
    (problem,) = lock.differences(before, now)
    assert problem.where == "data.train"
    assert "some/rows" in problem.what and 0 <= problem.what.index("bbbbbbbbbbbb…") < problem.what.index(
        "aaaaaaaaaaaa…"
    )


def run_with(path: Path, recipe: Path, locked: Path) -> str:
    """The errors of `compress run --lock` when Python finds other code, or other versions, in a folder first."""
    code = "import sys; sys.path.insert(0, sys.argv.pop(1)); from compressor.commands.main import main; main()"
    command = [sys.executable, "-c", code, path, "run", recipe, "--lock", locked]
    result = subprocess.run([*map(str, command)], cwd=path, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == ExitCode.USAGE, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    return result.stderr


def pretend(folder: Path, distribution: str, version: str) -> None:
    """Puts a distribution of another version where Python finds it first."""
    metadata = folder / f"{distribution.replace('-', '_')}-{version}.dist-info" / "METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")


def test_changed_code_is_named(recipe: Path, locked: Path, tmp_path: Path):
    shutil.copytree(Path(compressor.__file__).parent, tmp_path / "other" / "compressor")
    with (tmp_path / "other" / "compressor" / "models" / "surgery" / "prune.py").open("a") as file:
        file.write("\n\ndef changed() -> None:\n    raise NotImplementedError\n")
    said = run_with(tmp_path / "other", recipe, locked)
    assert f"{DISTRIBUTION}: the code of prune was changed" in said and "1 problem" in said


def test_another_version_of_our_code_is_named(recipe: Path, locked: Path, tmp_path: Path):
    pretend(tmp_path / "other", DISTRIBUTION, "9.9")
    said = run_with(tmp_path / "other", recipe, locked)
    assert f"version {versions((DISTRIBUTION,))[DISTRIBUTION]}, this is version 9.9" in said
    assert "1 problem" in said


def test_another_library_is_a_problem_once(recipe: Path, locked: Path, tmp_path: Path):
    pretend(tmp_path / "other", "torch", "9.9")
    pretend(tmp_path / "other", "numpy", "8.8")
    said = run_with(tmp_path / "other", recipe, locked)
    assert f"torch: is '9.9', locked is '{versions(('torch',))['torch']}'" in said
    assert f"numpy: is '8.8', locked is '{versions(('numpy',))['numpy']}'" in said
    assert "2 problems" in said


@pytest.mark.parametrize(("version", "refused"), [("3.11.99", 0), ("3.10.1", 1)])
def test_of_python_the_patch_release_does_not_count(version: str, refused: int):
    now = {"recipe": {"stages": []}, "stages": {}, "environment": {"python": "3.11.4"}}
    assert len(lock.differences({**now, "environment": {"python": version}}, now)) == refused


def leaves(value: Any, where: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if items is None:
        yield where
        return
    for name, entry in items:
        yield from leaves(entry, (*where, name))


def test_nothing_that_decides_what_comes_out_can_change_unseen(recipe: Path, locked: Path):
    """Every single value of a lock is held, but the machine's, and keys that follow from the rest."""
    now = plan.make(resolve(recipe), download=False).lock()
    seen = 0
    for where in leaves(now):
        before = copy.deepcopy(now)
        target = before
        for name in where[:-1]:
            target = target[name]
        target[where[-1]] = "something else"
        machine = where[0] == "environment" and where[1] in host()
        machine |= where[0] == "stages" and where[2] == "trial" and where[3] in ("host", "processor")
        follows = where[0] == "stages" and where[2] in ("key", "parent", "teacher", "data")
        assert bool(lock.differences(before, now)) != (machine or follows), where
        seen += 1
    assert seen > 100


@pytest.mark.parametrize("content", [None, "", "[1]", "recipe: 1", "{", "recipe: {}\nstages: []\n"])
def test_another_file_is_not_a_lock(recipe: Path, tmp_path: Path, content: str | None):
    path = tmp_path / "no.lock.yaml"
    if content is not None:
        path.write_text(content)
    with problems.refused(str(path), "not_found" if content is None else "unreadable"):
        lock.check(plan.make(resolve(recipe), download=False), path)


def test_locked_needs_a_run_before(recipe: Path, tmp_path: Path):
    result = compress("run", recipe.name, "--locked", cwd=tmp_path)
    assert result.returncode == ExitCode.USAGE
    assert "artifacts/tiny/recipe.lock.yaml: is missing" in result.stderr


def test_a_lock_can_be_read_by_people(locked: Path):
    assert set(yaml.safe_load(locked.read_text())) == {"recipe", "model", "data", "stages", "environment"}


def test_what_stages_train_on_is_locked_where_it_decides_what_comes_out(
    recipe: Path, locked: Path, monkeypatch: pytest.MonkeyPatch
):
    """Rows of a step and rounding follow from the launcher and the machine; stages that do not train, from neither."""
    before = plan.make(resolve(recipe), download=False)
    monkeypatch.setenv("WORLD_SIZE", "2")
    after = plan.make(resolve(recipe), download=False)
    changed = [stage.name for stage in after.stages if stage.inputs.get("training") != one(before, stage.name)]
    assert changed == ["finetune", "prune"]
    found = refused(recipe, locked)
    assert [problem.where for problem in found] == [f"stages[{n}] ({changed[n]}).training.processes" for n in (0, 1)]
    assert "is 2, locked is 1" in found[0].what
    monkeypatch.delenv("WORLD_SIZE")

    monkeypatch.setattr(devices, "kind", lambda: "cuda")
    monkeypatch.setattr(devices, "fast_bf16", lambda: True)
    where = {problem.where.rpartition(".")[2] for problem in refused(recipe, locked)}
    assert where == {"device", "precision"}
    kept = refused(recipe, locked, "stages.finetune.precision=fp32", "stages.prune.precision=fp32")
    assert [problem.where.rpartition(".")[2] for problem in kept] == ["precision", "precision", "device", "device"]


def one(planned: plan.Plan, name: str) -> Any:
    return next(stage.inputs.get("training") for stage in planned.stages if stage.name == name)


def test_a_cpus_bf16_is_in_the_key_of_long_rows_only(recipe: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(devices, "kind", lambda: "cpu")

    def precision(*overrides: str) -> str:
        return one(plan.make(resolve(recipe, overrides), download=False), "finetune")["precision"]

    short, long = (), ("stages.finetune.max_sequence_length=null",)
    for fast in (True, False):
        monkeypatch.setattr(devices, "fast_bf16", lambda fast=fast: fast)
        assert precision(*short) == "fp32"
        assert ("bf16" in precision(*long)) == fast
        assert precision("stages.finetune.precision=bf16") == "bf16"
