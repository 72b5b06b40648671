"""Models and data sets by id, fetched from a stand-in for the hub: what is read, what keys hold, what is refused."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import broken
import pyarrow
import pytest
import torch
from conftest import HUB, WriteRecipe, save_classifier, save_encoder, sentences
from hub_server import HubServer
from problems import refused
from pyarrow import parquet
from running import compress, share_store

import compressor
from compressor.data import hub as hub_data
from compressor.data.sources import HubModel
from compressor.data.spec import HubDataset
from compressor.errors import ExitCode, StageError
from compressor.models import checking
from compressor.pipeline import plan
from compressor.pipeline.keys import UNKNOWN
from compressor.pipeline.plan import Plan
from compressor.recipe import resolve

ROWS = [{"sentence": text, "label": label} for text, label in sentences(300, seed=1)]


@pytest.fixture
def hub() -> Iterator[HubServer]:
    HUB.requests.clear()
    yield HUB
    HUB.cut, HUB.broken = None, False


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """An id of this test alone: the cache is the session's."""
    return f"org/{hashlib.sha256(request.node.name.encode()).hexdigest()[:12]}"


def table(suffix: str, rows: list[dict[str, Any]] = ROWS) -> bytes:
    if suffix == "csv":
        return "\n".join([",".join(rows[0]), *(",".join(row.values()) for row in rows)]).encode()
    if suffix == "jsonl":
        return "\n".join(map(json.dumps, rows)).encode()
    file = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    return file.getvalue()


def data_set(hub: HubServer, name: str, suffix: str = "csv", **files: bytes) -> dict[str, Any]:
    """Pushes a data set, and is what a recipe says of it."""
    more = {key.replace("__", "."): content for key, content in files.items()}
    hub.push("datasets", name, {f"train.{suffix}": table(suffix), "README.md": b"# Rows\n", **more})
    return {"train": {"hub": name, "split": "train"}, "text": "sentence", "label": "label"}


def made(recipe: Path, *overrides: str, download: bool = True) -> Plan:
    return plan.make(resolve.resolve(recipe, overrides), download=download)


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_rows_are_those_of_the_files(hub: HubServer, name: str, suffix: str, tmp_path: Path):
    data_set(hub, name, suffix)
    found = hub_data.resolve(HubDataset(hub=name, split="train[:200]"), "data.train", online=True)
    assert found is not None
    pinned, _ = found
    assert hub_data.rows(pinned, "data.train", tmp_path).to_list() == ROWS[:200]
    assert list(hub_data.stream(HubDataset(hub=name, split="train"), "data.corpus")) == ROWS


def test_a_data_set_goes_by_the_files_of_its_split(hub: HubServer, name: str):
    data_set(hub, name, test__csv=table("csv", ROWS[:9]))

    def digest(**keys: str) -> str:
        found = hub_data.resolve(HubDataset(hub=name, **{"split": "train", **keys}), "data.train", online=True)
        assert found is not None
        return found[1]

    first, commit = digest(), hub.repos["datasets", name].refs["main"]
    hub.commit("datasets", name, README__md=b"# Rows, described at length\n", LICENSE=b"MIT", test__csv=table("csv"))
    assert digest() == first, "neither the card's words nor the rows of another split are read"
    card = b"---\nconfigs:\n- config_name: default\n  data_files:\n  - {split: train, path: test.csv}\n---\n"
    hub.commit("datasets", name, README__md=card)
    assert digest() != first, "the card names another file"
    hub.commit("datasets", name, README__md=b"", train__csv=table("csv", ROWS[1:]))
    assert digest() != first
    assert digest(revision=commit) == first, "a revision stays what it is"


def test_a_folder_of_the_same_name_is_not_the_data_set(
    hub: HubServer, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    data_set(hub, name)
    (tmp_path / name).mkdir(parents=True)
    (tmp_path / name / "train.csv").write_text("sentence,label\nfrom the folder,x\n")
    monkeypatch.chdir(tmp_path)
    assert next(hub_data.stream(HubDataset(hub=name, split="train"), "data.corpus")) == ROWS[0]


def test_a_run_by_ids_is_cached_by_files_and_goes_on_without_the_hub(
    hub: HubServer, name: str, write_recipe: WriteRecipe, tmp_path: Path, encoder: Path
):
    share_store(tmp_path)
    hub.push("models", name, encoder)
    stage = {"stage": "finetune", "epochs": 1, "batch_size": 16, "learning_rate": 3e-3, "max_sequence_length": 24}
    recipe = write_recipe(model=name, data=data_set(hub, f"{name}-rows"), stages=[stage])
    assert made(recipe, download=False).stages[0].inputs["parent"] != made(recipe).stages[0].inputs["parent"]

    def run() -> dict[str, Any]:
        result = compress("run", recipe.name, cwd=tmp_path)
        assert result.returncode == 0, result.stdout + result.stderr
        return json.loads((tmp_path / "artifacts/tiny/report.json").read_text())

    assert run()["verdict"] == "pass"
    hub.commit("models", name, README__md=b"# A model card\n")
    hub.commit("datasets", f"{name}-rows", README__md=b"# A card of the rows\n")
    hub.requests.clear()
    assert all(stage["from_cache"] for stage in run()["stages"])
    assert not [line for line in hub.requests if line.startswith("GET") and line.endswith((".csv", ".safetensors"))]
    hub.broken = True
    assert all(stage["from_cache"] for stage in run()["stages"])
    other = made(recipe, "data.max_train_samples=50")
    assert other.data["text-classification"].inputs["train"] == made(recipe).data["text-classification"].inputs["train"]


def test_a_ready_student_is_fetched_checked_and_used(
    hub: HubServer, name: str, write_recipe: WriteRecipe, tmp_path: Path, classifier: Path
):
    student = save_classifier(tmp_path / "student", num_hidden_layers=1, hidden_size=16, num_attention_heads=2)
    hub.push("models", name, student)
    stage = {"stage": "distill", "student": name, "max_steps": 2, "batch_size": 4, "alpha_cosine": 0.0}
    recipe = write_recipe(model=str(classifier), stages=[{**stage, "max_sequence_length": 24}])
    assert made(recipe, download=False).stages[0].inputs["student"] == UNKNOWN
    (found,), (own,) = made(recipe).stages, made(recipe, f"stages.distill.student={student}").stages
    assert found.student is not None and found.inputs["student"] == own.inputs["student"]
    share_store(tmp_path)
    report = compressor.run(recipe, artifacts=tmp_path / "artifacts")
    (entry,) = [stage for stage in report.stages if stage.name == "distill"]
    assert entry.details["start"] == "a ready checkpoint"
    shape = json.loads((tmp_path / "artifacts/tiny/model/config.json").read_text())
    assert (shape["num_hidden_layers"], shape["hidden_size"]) == (1, 16)


def test_a_student_that_does_not_fit_is_refused_when_it_is_here(
    hub: HubServer, name: str, write_recipe: WriteRecipe, tmp_path: Path, classifier: Path
):
    folder = save_encoder(tmp_path / "student")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "gpt2"}))
    hub.push("models", name, folder)
    recipe = write_recipe(model=str(classifier), stages=[{"stage": "distill", "student": name, "max_steps": 1}])
    with refused("stages[0] (distill).student", "unsupported"):
        made(recipe)


def test_a_run_refuses_what_is_not_known(write_recipe: WriteRecipe, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(hub_data, "local", lambda model, where, download: model if isinstance(model, Path) else None)
    with pytest.raises(StageError):
        made(write_recipe(model="org/nowhere"))


@pytest.mark.parametrize(
    ("override", "where", "kind"),
    [
        ("model=org/no-such-model", "model", "not_found"),
        ("model=org/gated", "model", "not_found"),
        ("model=org/there@no-such-branch", "model", "not_found"),
        ("model=org/there@empty", "model", "missing"),
        ("data.train={hub: org/no-such-rows, split: train}", "data.train", "not_found"),
        ("data.train={hub: org/rows, split: train, revision: nowhere}", "data.train", "not_found"),
        ("data.train={hub: org/rows, split: trian}", "data.train.split", "unknown"),
        ("data.train={hub: org/rows, split: train, name: nothing}", "data.train", "unreadable"),
        ("data.train={hub: org/no-rows, split: train}", "data.train", "unreadable"),
        ("data.validation={hub: a--b..c, split: train}", "data.validation", "value"),
    ],
)
def test_what_the_hub_does_not_have_is_the_recipes_mistake(
    hub: HubServer, write_recipe: WriteRecipe, tmp_path: Path, encoder: Path, override: str, where: str, kind: str
):
    hub.push("models", "org/there", encoder)
    hub.push("models", "org/there", {"notes.txt": b"no model"}, ref="empty")
    hub.push("models", "org/gated", encoder)
    hub.repos["models", "org/gated"].gated = True
    data_set(hub, "org/rows")
    hub.push("datasets", "org/no-rows", {"README.md": b"# Nothing yet\n"})
    recipe = write_recipe()
    with refused(where, kind):
        made(recipe, override)
    result = compress("run", recipe.name, "--set", override, cwd=tmp_path)
    assert result.returncode == ExitCode.USAGE, result.stderr
    assert not (tmp_path / "artifacts/tiny/model").exists()
    assert not list((tmp_path / "artifacts/.store").glob("[!.]*")), "no entry"


def test_a_hub_that_stops_in_the_middle_leaves_nothing_half_written(
    hub: HubServer, name: str, write_recipe: WriteRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("time.sleep", lambda _: None)  # between the attempts of the client
    folder = save_encoder(tmp_path / "other", hidden_size=64)
    hub.push("models", name, folder)
    recipe = write_recipe(model=name)
    hub.cut = 20_000
    result = compress("run", recipe.name, cwd=tmp_path)
    assert result.returncode == ExitCode.STAGE_FAILED, result.stderr
    assert name in result.stderr and "Traceback" not in result.stderr
    assert not (tmp_path / "artifacts/tiny/model").exists()
    assert not list((tmp_path / "artifacts/.store").glob("[!.]*")), "no entry"
    assert made(recipe, download=False).model is None, "a part of a checkpoint is none"
    hub.cut, hub.broken = None, False
    assert made(recipe).source_inputs == made(recipe, f"model={folder}").source_inputs


def test_rows_that_cannot_be_fetched_are_not_of_another_commit(hub: HubServer, name: str, tmp_path: Path):
    data_set(hub, name)
    found = hub_data.resolve(HubDataset(hub=name, split="train"), "data.train", online=True)
    assert found is not None
    hub_data.rows(found[0], "data.train", tmp_path)
    commit = hub.commit("datasets", name, train__csv=table("csv", ROWS[5:]))
    hub.broken = True
    with pytest.raises(StageError):
        hub_data.rows(HubDataset(hub=name, split="train", revision=commit), "data.train", tmp_path / "again")


def test_a_recipe_without_ids_asks_nobody_and_puts_nobody_offline(
    hub: HubServer, name: str, write_recipe: WriteRecipe, tmp_path: Path, encoder: Path
):
    share_store(tmp_path)
    stage = {"stage": "finetune", "epochs": 1, "batch_size": 16, "learning_rate": 3e-3, "max_sequence_length": 24}
    result = compress("run", write_recipe(stages=[stage]).name, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert compress("verify", "artifacts/tiny", cwd=tmp_path).returncode == 0
    assert not hub.requests
    hub.push("models", name, encoder)
    assert made(write_recipe(model=name)).model is not None


def test_without_the_network_a_new_model_is_one_message(write_recipe: WriteRecipe, tmp_path: Path):
    recipe = write_recipe(model="org/never-fetched")
    command = [sys.executable, "-m", "compressor", "run", recipe.name]
    offline = {**os.environ, "HF_HUB_OFFLINE": "1"}
    found = subprocess.run(command, cwd=tmp_path, env=offline, capture_output=True, text=True, timeout=120, check=False)
    assert found.returncode == ExitCode.STAGE_FAILED, found.stderr
    assert "HF_HUB_OFFLINE" in found.stderr and "Traceback" not in found.stderr


def test_weights_of_old_are_fetched_only_where_there_are_no_others(hub: HubServer, name: str, tmp_path: Path):
    old, both = f"{name}-old", f"{name}-both"
    folder = broken.copy(save_classifier(tmp_path / "classifier"), tmp_path / "given")
    torch.save(broken.state(folder), folder / "pytorch_model.bin")
    hub.push("models", both, folder)
    (folder / broken.WEIGHTS).unlink()
    hub.push("models", old, folder)
    copies = {repo: hub_data.local(HubModel(repo, None), "model", download=True) for repo in (old, both)}
    names = {repo: {file.name for file in (copy or tmp_path).iterdir()} for repo, copy in copies.items()}
    assert "pytorch_model.bin" in names[old]
    assert broken.WEIGHTS in names[both] and "pytorch_model.bin" not in names[both]
    assert hub_data.local(HubModel(old, None), "model", download=False) == copies[old]


def test_the_transformer_of_a_folder_of_sentence_transformers_is_fetched(hub: HubServer, name: str, tmp_path: Path):
    save_encoder(tmp_path / "given" / "0_Transformer")
    (tmp_path / "given" / "modules.json").write_text('[{"path": "0_Transformer", "type": "Transformer"}]')
    hub.push("models", name, tmp_path / "given")
    found = hub_data.local(HubModel(name, None), "model", download=True)
    assert found is not None and found.name == "0_Transformer"
    assert checking.problems(found, "model") == []
