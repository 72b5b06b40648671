"""Answers that are sets of labels: compared row by row, recorded whole, with the offsets of thresholds taken off."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import save_classifier
from in_process import InProcess

from compressor.measure import parity, recorded_answers
from compressor.measure.token_rows import TokenRows
from compressor.models import thresholds
from compressor.models.checkpoint import Checkpoint
from compressor.runtimes import RUNTIMES
from compressor.runtimes.baked_tokenizer import graph as baked
from compressor.tasks import multi_label

LOGITS = np.array(
    [[[3, -1, 2, -2, 1, 4, 5, 6]], [[-1, -2, -3, -4, -5, -6, -7, -8]], [[1, -1, -1, -1, -1, -1, -1, -1]]], np.float32
)


def test_a_row_agrees_if_all_its_labels_do():
    other = LOGITS.copy()
    other[0, 0, 1] = 0.5  # one of eight decisions on one of three rows
    assert parity.agreement(LOGITS, LOGITS, sets=True) == 1
    assert parity.agreement(other, LOGITS, sets=True) == pytest.approx(2 / 3)
    assert parity.agreement(other, LOGITS) == 1, "the likeliest label is the same"
    other[0, 0, 1] = np.nan
    assert parity.agreement(other, LOGITS, sets=True) == 1, "the difference shows that it is no number"
    assert parity._differences(other, LOGITS).max() == np.inf


def test_sets_are_recorded_whole(tmp_path: Path):
    path, rows = tmp_path / "it.json", [{"input_ids": [1]}] * 3
    other = LOGITS.copy()
    other[1, 0, 7] = 0.1
    recorded_answers.write(path, multi_label.NAME, rows, {"torch": LOGITS, "onnx": other})
    found = recorded_answers.read(path).answers
    assert (found["torch"].logits > 0).sum(axis=-1).ravel().tolist() == [6, 0, 1], "more than the highest five"
    assert found["torch"].fits(LOGITS) and found["torch"].label_agreement(LOGITS) == 1
    assert found["torch"].max_abs_diff(LOGITS) == 0
    assert found["torch"].label_agreement(other) == found["torch"].agreement(found["onnx"]) == pytest.approx(2 / 3)
    assert found["torch"].agreement(found["torch"]) == 1


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("sets") / "model"
    save_classifier(target, problem_type="multi_label_classification")
    RUNTIMES["onnxruntime"].export(target, target / "onnx/model.onnx")
    return target


def with_thresholds(folder: Path, target: Path, values: list[float]) -> Path:
    shutil.copytree(folder, target)
    config = json.loads((target / "config.json").read_text())
    labels = Checkpoint(target).labels
    chosen = {thresholds.KEY: dict(zip(labels, values, strict=True))}
    (target / "config.json").write_text(json.dumps({**config, **chosen}))
    return target


def kept(folder: Path, work: Path) -> np.ndarray:
    """What the measuring process keeps of rows of one token each."""
    rows = work / "rows.npz"
    TokenRows.of([{"input_ids": [index]} for index in range(5, 25)], 0).save(rows)
    job: dict[str, Any] = {
        "task": multi_label.NAME,
        "keep": "compared",
        "runtime": "onnxruntime",
        "path": str(folder / "onnx/model.onnx"),
        "threads": 1,
        "workers": 1,
        "offsets": thresholds.offsets(Checkpoint(folder)),
        "sets": [{"name": "rows", "rows": str(rows), "batches": [list(range(20))]}],
    }
    return InProcess().predict(job)["rows"]


def test_logits_are_kept_without_the_offsets_of_thresholds(folder: Path, tmp_path: Path):
    plain = kept(folder, tmp_path)
    values = [0.3, 0.9]
    given = kept(with_thresholds(folder, tmp_path / "it", values), tmp_path)
    assert plain - given == pytest.approx(np.broadcast_to([math.log(0.3 / 0.7), math.log(9)], given.shape), abs=1e-6)
    assert ((given > 0) == (1 / (1 + np.exp(-plain.astype(np.float64))) > values)).all()


@pytest.mark.skipif(not baked.installed(), reason="needs onnxruntime-extensions")
def test_a_file_with_its_tokenizer_decides_as_its_graph_does_where_a_text_is_at_its_threshold(
    folder: Path, tmp_path: Path
):
    """Thresholds that are the probabilities of a text, as near as numbers come: the hardest rows there are."""
    texts = np.array(["good film", "bad plot", "", "the end of a story", "music"], dtype=object)
    baked.write(folder, folder / "onnx/model.onnx", folder / baked.FILE, pairs=False)
    likely = RUNTIMES["onnx_with_tokenizer"].session(folder / baked.FILE, 1).predict({"text": texts})["logits"]
    for index, row in enumerate(1 / (1 + np.exp(-likely.astype(np.float64)))):
        there = with_thresholds(folder, tmp_path / str(index), np.clip(row, 0.001, 0.999).tolist())
        baked.write(there, there / "onnx/model.onnx", there / baked.FILE, pairs=False)
        session = baked.load(str(there / baked.FILE))
        said = session.run(["label"], {"text": texts})[0] != ""
        given = RUNTIMES["onnx_with_tokenizer"].session(there / baked.FILE, 1).predict({"text": texts})["logits"]
        margins = given - np.array(thresholds.offsets(Checkpoint(there)), np.float32)
        assert ((margins > 0) == said).all(), "what came out, not what the rounded probabilities say"
        assert np.abs(given - likely).max() < 1e-3
