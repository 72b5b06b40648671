"""`compress gc` deletes what no run needs, and nothing else."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from conftest import WriteRecipe
from problems import refused
from rich.console import Console
from running import compress

from compressor.commands.gc import gc
from compressor.pipeline import garbage, run_folder
from compressor.pipeline.entry import key_of
from compressor.pipeline.store import Store
from compressor.progress import Progress

NEEDED, PLANNED, OLD = ({"kind": "stage", "spec": {"stage": name}} for name in ("finetune", "distill", "prune"))


def build(output: Path, work: Path) -> dict[str, int]:
    (output / "x").write_bytes(b"12345")
    return {}


@pytest.fixture
def artifacts(tmp_path: Path) -> Path:
    measured = [{"kind": "measure", "checkpoint": key_of(of), "data": key_of(NEEDED)} for of in (NEEDED, OLD)]
    with Store(tmp_path / ".store") as store:
        for inputs in (NEEDED, OLD, *measured):
            store.build(inputs, build)
    for folder in (".work", ".partial"):
        for of in (PLANNED, OLD):
            (tmp_path / ".store" / folder / key_of(of)).mkdir(parents=True)
    with Progress(Console(quiet=True)) as progress, run_folder.claimed(tmp_path / "run", progress) as claimed:
        claimed.needs({key_of(NEEDED), key_of(PLANNED)})
    return tmp_path


def keys(store: Path, folder: str = "") -> set[str]:
    return {path.name for path in (store / folder).iterdir() if not path.name.startswith(".")}


def test_what_a_run_needs_stays_and_the_rest_goes(artifacts: Path):
    store = artifacts / ".store"
    found = garbage.find(artifacts, None)
    assert len(found) == 2 + 1 + 2
    assert all(garbage.delete(artifacts, entry) for entry in found)
    garbage.delete_locks(artifacts)
    measured = key_of({"kind": "measure", "checkpoint": key_of(NEEDED), "data": key_of(NEEDED)})
    assert keys(store) == {key_of(NEEDED), measured}
    assert keys(store, ".work") == {key_of(PLANNED)}, "the training of a run that was stopped goes on"
    assert not keys(store, ".partial") and not list((store / ".locks").iterdir())
    assert garbage.find(artifacts, None) == []


def test_what_a_running_process_uses_stays(artifacts: Path):
    with Store(artifacts / ".store") as running:
        assert running.use(key_of(OLD)) is not None
        held = [entry for entry in garbage.find(artifacts, None) if not garbage.delete(artifacts, entry)]
        garbage.delete_locks(artifacts)
        assert {entry.path.name for entry in held} == {key_of(OLD)} and running.get(key_of(OLD)) is not None
    assert [garbage.delete(artifacts, entry) for entry in garbage.find(artifacts, None)] == [True]


def test_age_counts_from_the_last_use(artifacts: Path):
    entry = artifacts / ".store" / key_of(NEEDED)
    os.utime(entry, (0, 0))
    assert entry in {found.path for found in garbage.find(artifacts, 30)}
    with Store(artifacts / ".store") as store:
        store.use(key_of(NEEDED))
    assert entry not in {found.path for found in garbage.find(artifacts, 30)}


def test_a_run_is_all_cached_after_it(write_recipe: WriteRecipe, tmp_path: Path):
    path = write_recipe()
    short = (
        "run",
        path.name,
        "--until",
        "finetune",
        "--set",
        "stages.finetune.max_steps=4",
        "--set",
        "stages.finetune.gates={}",
    )
    assert compress(*short, cwd=tmp_path).returncode == 0
    assert compress(*short, "--set", "seed=1", cwd=tmp_path).returncode == 0
    listed = json.loads(compress("gc", "--dry-run", "--json", cwd=tmp_path).stdout)
    done = json.loads(compress("gc", "--json", cwd=tmp_path).stdout)
    assert done["freed_bytes"] == listed["freed_bytes"] > 0 and done["deleted"] == listed["deleted"]
    assert compress(*short, "--set", "seed=1", cwd=tmp_path).returncode == 0
    report = json.loads((tmp_path / "artifacts/tiny/report.json").read_text())
    assert all(stage["from_cache"] for stage in report["stages"])


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path):
    with refused(str(tmp_path / "nowhere"), "not_found"):
        gc.callback(tmp_path / "nowhere", None, False, False)
