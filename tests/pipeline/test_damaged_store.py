"""Damage in the store, and on the way to `model/`: nothing that is built on it ships."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import WriteRecipe
from running import compress
from small_report import passing

from compressor.errors import StageError
from compressor.files import SealedFolder, file_entries
from compressor.measure import recorded_answers
from compressor.package import publish
from compressor.pipeline.store import Store


def flip(path: Path, seed: int) -> None:
    """Changes one bit, anywhere."""
    content = bytearray(path.read_bytes())
    chance = random.Random(seed)
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(content)


def test_a_run_builds_again_whatever_is_damaged_in_the_store(
    write_recipe: WriteRecipe, classifier: Path, tmp_path: Path
):
    path = write_recipe(model=str(classifier), stages=[{"stage": "quantize"}, {"stage": "export", "targets": ["onnx"]}])
    assert compress("run", path.name, cwd=tmp_path).returncode == 0
    run, entries = tmp_path / "artifacts/tiny", sorted((tmp_path / "artifacts/.store").glob("[!.]*"))
    published = file_entries(run / "model")
    for seed, entry in enumerate(entries):
        flip(random.Random(seed).choice([file for file in entry.rglob("*") if file.is_file()]), seed)
    shown = compress("plan", path.name, cwd=tmp_path).stdout
    assert "damaged" in shown and "cached" not in shown

    result = compress("run", path.name, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    report = json.loads((run / "report.json").read_text())
    assert len(report["notes"]) == len(entries) == result.stderr.count("damaged"), result.stderr
    assert "damaged" in (run / "report.md").read_text() and "damaged" in (run / "report.html").read_text()
    assert not any(stage["from_cache"] for stage in report["stages"])
    names = published.keys() - {"README.md", "manifest.json"}  # which hold times
    again = file_entries(run / "model")
    assert {name: again[name] for name in names} == {name: published[name] for name in names}
    store = Store(tmp_path / "artifacts/.store")
    assert all(store.get(entry.name) for entry in entries)

    assert compress("run", path.name, cwd=tmp_path).returncode == 0
    report = json.loads((run / "report.json").read_text())
    assert report["notes"] == [] and all(stage["from_cache"] for stage in report["stages"])


@pytest.mark.parametrize("part", ["checkpoint/model.safetensors", "measured/verification.json"])
@pytest.mark.parametrize("change", ["flipped", "cut"])
def test_what_changes_between_its_check_and_its_copy_is_not_published(
    classifier: Path, tmp_path: Path, part: str, change: str
):
    shutil.copytree(classifier, tmp_path / "checkpoint")
    (tmp_path / "measured").mkdir()
    logits = {"onnx": np.zeros((1, 1, 2), np.float32)}
    recorded_answers.write(
        tmp_path / "measured" / recorded_answers.FILE, "text-classification", [{"input_ids": [2, 3]}], logits
    )
    (tmp_path / "measured" / "latency.npz").write_text("stays in the store")
    checkpoint, measured = (
        SealedFolder(tmp_path / name, file_entries(tmp_path / name)) for name in ("checkpoint", "measured")
    )
    run = tmp_path / "run"

    def publish_model() -> str | None:
        return publish.publish(passing(), checkpoint, run, "onnxruntime", measured, "recipe: {}\n").manifest_sha256

    assert publish_model()
    shipped = file_entries(run / "model")
    assert shipped.keys() == checkpoint.files.keys() | {recorded_answers.FILE, "README.md", "manifest.json"}
    if change == "flipped":
        flip(tmp_path / part, 0)
    else:
        (tmp_path / part).write_bytes((tmp_path / part).read_bytes()[:-1])
    with pytest.raises(StageError, match=Path(part).name):
        publish_model()
    assert file_entries(run / "model") == shipped, "the model of the run before stays"
