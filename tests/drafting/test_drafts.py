"""Recipes that `compress init` drafts: of every kind of checkpoint and file, and they validate as they are written."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import whole_layers
from conftest import HUB
from draft_kinds import KINDS
from running import compress

from compressor.data.spec import HubDataset
from compressor.drafting.draft import draft
from compressor.drafting.target import Budget
from compressor.errors import RecipeError
from compressor.recipe.resolve import resolve


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: kind.model(tmp_path_factory.mktemp("checkpoint")) for name, kind in KINDS.items()}


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_validates_as_it_is_written(
    name: str, checkpoints: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    kind = KINDS[name]
    monkeypatch.chdir(tmp_path)
    data = kind.data(tmp_path).relative_to(tmp_path)
    drafted = draft(str(checkpoints[name]), str(data), Budget(), None)
    (tmp_path / "recipe.yaml").write_text(drafted.text)
    recipe = resolve(tmp_path / "recipe.yaml").recipe
    assert recipe == drafted.recipe
    assert recipe.task == kind.task
    assert {key: getattr(recipe.data, key) for key in kind.keys} == kind.keys
    assert [stage.kind for stage in recipe.stages][-2:] == ["quantize", "export"]
    assert recipe.stages[0].kind == kind.first, drafted.text


def test_a_draft_runs_to_the_end(checkpoints: dict[str, Path], tmp_path: Path):
    kind = KINDS["encoder"]
    data = kind.data(tmp_path)
    result = compress("init", checkpoints["encoder"], "--data", data.name, "-o", "recipe.yaml", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    result = compress("run", "recipe.yaml", "--allow-inconclusive", cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    assert (tmp_path / "artifacts/recipe/model/onnx/model_quantized.onnx").is_file()


def test_the_command_writes_what_validates_from_another_folder(checkpoints: dict[str, Path], tmp_path: Path):
    (tmp_path / "there").mkdir()
    (tmp_path / "a model, no list").symlink_to(checkpoints["encoder"])
    data = KINDS["encoder"].data(tmp_path).rename(tmp_path / "größe: yes #1.tsv")
    arguments = ("init", "a model, no list", "--data", data.name)
    result = compress(*arguments, "-o", "there/out.yaml", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    recipe = resolve(tmp_path / "there/out.yaml").recipe
    assert (recipe.name, recipe.model, recipe.data.train) == ("out", "../a model, no list", "../größe: yes #1.tsv")
    before = (tmp_path / "there/out.yaml").read_bytes()
    assert compress(*arguments, "-o", "there/out.yaml", cwd=tmp_path).returncode == 2
    assert (tmp_path / "there/out.yaml").read_bytes() == before
    assert compress(*arguments, "-o", "there/out.yaml", "--force", "--target", "size=1MB", cwd=tmp_path).returncode == 0
    assert (tmp_path / "there/out.yaml").read_bytes() != before


@pytest.mark.parametrize(
    ("output", "says"),
    [
        ("rows.tsv", "rows.tsv: holds the rows"),
        (".", ".: is a folder"),
        ("nowhere/recipe.yaml", "there is no folder nowhere"),
    ],
)
def test_where_no_recipe_can_be_written(output: str, says: str, checkpoints: dict[str, Path], tmp_path: Path):
    data = KINDS["encoder"].data(tmp_path)
    before = data.read_bytes()
    result = compress("init", checkpoints["encoder"], "--data", data.name, "-o", output, "--force", cwd=tmp_path)
    assert result.returncode == 2 and says in result.stderr
    assert data.read_bytes() == before and list(tmp_path.iterdir()) == [data]


@pytest.mark.parametrize("data", ["", "~nobody/rows.csv", "nowhere.csv", "https://example.org/rows.csv"])
def test_rows_that_are_not_there_are_said_to_be_missing(data: str, checkpoints: dict[str, Path], tmp_path: Path):
    result = compress("init", checkpoints["encoder"], "--data", data, cwd=tmp_path)
    assert result.returncode == 2 and "--data: " in result.stderr


def test_without_a_file_the_recipe_is_printed(checkpoints: dict[str, Path], tmp_path: Path):
    data = KINDS["conll"].data(tmp_path)
    result = compress("init", checkpoints["conll"], "--data", data.name, cwd=tmp_path)
    assert result.returncode == 0 and not result.stderr
    (tmp_path / "recipe.yaml").write_text(result.stdout)
    assert compress("validate", "recipe.yaml", cwd=tmp_path).returncode == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["names.txt", "recipe.yaml"]


def test_without_rows_a_public_data_set_stands_in(checkpoints: dict[str, Path], tmp_path: Path):
    (tmp_path / "recipe.yaml").write_text(compress("init", checkpoints["pickled"], cwd=tmp_path).stdout)
    recipe = resolve(tmp_path / "recipe.yaml").recipe
    assert recipe.task == "text-classification" and recipe.stages[0].kind == "distill"
    result = compress("init", checkpoints["classifier, other labels"], cwd=tmp_path)
    assert result.returncode == 2 and "no, yes, maybe" in result.stderr


def test_without_raw_text_a_public_corpus_stands_in(checkpoints: dict[str, Path], tmp_path: Path):
    drafted = draft(str(checkpoints["raw text"]), None, Budget(), tmp_path / "recipe.yaml")
    corpus = drafted.recipe.data.corpus_spec
    assert drafted.recipe.task == "masked-lm" and corpus and isinstance(corpus.source, HubDataset)
    assert any("stands in" in note for note in drafted.assumed)


@pytest.mark.parametrize("given", ["nowhere/at/all", "~nobody/there", "empty", "gpt", "broken", "words"])
def test_what_is_no_encoder_of_ours_is_refused(given: str, checkpoints: dict[str, Path], tmp_path: Path):
    for name, file, content in (("broken", "tokenizer.json", '{"model": {"vocab": {"a": 1}}}'),
                                ("words", "vocab.txt", "a\nb\n")):  # fmt: skip
        shutil.copytree(checkpoints["encoder"], tmp_path / name)
        (tmp_path / name / "tokenizer.json").unlink()
        (tmp_path / name / file).write_text(content)
    (tmp_path / "empty").mkdir()
    (tmp_path / "gpt").mkdir()
    (tmp_path / "gpt/config.json").write_text('{"model_type": "gpt2"}')
    data = KINDS["encoder"].data(tmp_path)
    result = compress("init", given, "--data", data.name, cwd=tmp_path)
    assert result.returncode == 2 and "CHECKPOINT" in result.stderr


@pytest.mark.parametrize("name", ["encoder", "raw text", "numbers for tags", "MPNet", "ModernBert"])
def test_the_smallest_that_is_named_can_be_made(name: str, checkpoints: dict[str, Path], tmp_path: Path):
    if name in KINDS:
        model, data = checkpoints[name], KINDS[name].data(tmp_path)
    else:
        model, data = whole_layers.save(tmp_path / "model", name, "ForMaskedLM"), KINDS["raw text"].data(tmp_path)
    with pytest.raises(RecipeError) as caught:
        draft(str(model), str(data), Budget(size_bytes=20_000), tmp_path / "recipe.yaml")
    found = re.search(r"the smallest is about ([0-9]+) kB", str(caught.value))
    assert found, str(caught.value)
    least = int(found[1]) * 1000
    with pytest.raises(RecipeError, match="the smallest is about"):
        draft(str(model), str(data), Budget(size_bytes=int(0.98 * least)), tmp_path / "recipe.yaml")
    assert draft(str(model), str(data), Budget(size_bytes=least), tmp_path / "recipe.yaml").recipe


def test_a_target_that_nothing_meets_names_the_smallest(checkpoints: dict[str, Path], tmp_path: Path):
    arguments = ("init", checkpoints["encoder"], "--data", KINDS["encoder"].data(tmp_path).name, "--target")
    result = compress(*arguments, "size=20kB", cwd=tmp_path)
    found = re.search(r"the smallest is about ([0-9]+ kB)", result.stderr)
    assert result.returncode == 2 and found, result.stderr
    result = compress(*arguments, f"size={found[1]}", cwd=tmp_path)
    assert result.returncode == 0, result.stderr


def test_limits_become_gates(checkpoints: dict[str, Path], tmp_path: Path):
    data = KINDS["encoder"].data(tmp_path)
    target = Budget(size_bytes=1_000_000, latency_ms=2.5)
    recipe = draft(str(checkpoints["encoder"]), str(data), target, tmp_path / "recipe.yaml").recipe
    limits = {metric: gate.limits for metric, gate in recipe.stages[-1].gates.items()}
    assert limits == {"size_bytes": {"max": 1_000_000}, "latency_p50_ms": {"max": 2.5}}


def test_a_checkpoint_of_the_hub_is_named_by_its_id(checkpoints: dict[str, Path], tmp_path: Path):
    HUB.push("models", "org/drafted", checkpoints["classifier, numbers"])
    data = KINDS["classifier, numbers"].data(tmp_path)
    result = compress("init", "org/drafted", "--data", data.name, "-o", "recipe.yaml", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    recipe = resolve(tmp_path / "recipe.yaml").recipe
    assert recipe.model == "org/drafted" and recipe.stages[0].kind == "distill"
    result = compress("init", "org/not-there", "--data", data.name, cwd=tmp_path)
    assert result.returncode == 2 and "CHECKPOINT" in result.stderr
