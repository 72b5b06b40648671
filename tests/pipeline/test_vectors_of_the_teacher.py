"""Sentence encoders and the store: texts are read by the teacher once, whatever the stages and the runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import make_tokenizer
from running import compress, report_of
from sentence_recipes import write_recipe
from training_rows import batches, rows

from compressor.files import ArrayWriter
from compressor.models import loading
from compressor.tasks import text_classification
from compressor.training.batches import LOGITS
from compressor.training.teacher_outputs import write_answers

STAGES: list[dict[str, Any]] = [
    {"stage": "distill", "num_hidden_layers": 2, "epochs": 1, "batch_size": 32},
    {"stage": "prune", "heads": 0.25, "epochs": 1, "batch_size": 32},
    {"stage": "quantize", "scheme": "static_int8"},
    {"stage": "export", "size_only": True},
]


def teachers(folder: Path) -> dict[Path, int]:
    """The files of a teacher's vectors in the store, and when they were written."""
    return {path: path.stat().st_mtime_ns for path in (folder / "artifacts" / ".store").rglob(LOGITS)}


def test_the_second_run_takes_all_of_it_from_the_store(tmp_path: Path, encoder: Path):
    path = write_recipe(tmp_path, encoder, STAGES)
    for again in (False, True):
        result = compress("run", path.name, "--allow-inconclusive", cwd=tmp_path)
        assert result.returncode == 0, result.stdout + result.stderr
        found = report_of(tmp_path)["stages"]
        assert [stage["from_cache"] for stage in found if stage["stage"] != "baseline"] == [again] * len(STAGES)
        if not again:
            read = teachers(tmp_path)
            (vectors,) = (np.load(file) for file in read)  # one pass for both stages that learn from it
            texts = set((tmp_path / "texts.txt").read_text().splitlines())
            assert vectors.shape[1] == 32 and len(vectors) >= len(texts)
    assert teachers(tmp_path) == read
    given = ["--set", "stages.prune.epochs=2", "--set", "stages.export.gates={size_bytes: {max: 1e7}}"]
    result = compress("run", path.name, "--allow-inconclusive", *given, cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    found = {stage["name"]: stage["from_cache"] for stage in report_of(tmp_path)["stages"]}
    assert found["distill"] and not found["prune"]
    assert teachers(tmp_path) == read, "other training does not ask the teacher again"


def test_vectors_are_written_where_their_rows_are(classifier: Path, tmp_path: Path):
    """The teacher reads long rows first; they are not kept in memory until all are read."""
    model, data = loading.load_model(classifier).eval(), rows(40)
    no_step: Any = type("Step", (), {"done": 0, "update": lambda *_: None})()
    write_answers(model, text_classification, make_tokenizer(), data, tmp_path, hidden=[], attention=[], step=no_step)
    kept = np.load(tmp_path / LOGITS)
    batch = batches(40).batch(list(range(40)))
    expected = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits.detach().numpy()
    assert len(set(data["length"])) > 3 and np.abs(kept - expected).max() < 1e-5


def test_rows_are_put_in_any_order(tmp_path: Path):
    with ArrayWriter(tmp_path / "a.npy", np.float32, (2,), 3) as writer:
        writer.put(np.array([2, 0]), np.array([[5.0, 6.0], [1.0, 2.0]]))
        writer.put(np.array([1]), np.array([[3.0, 4.0]]))
    assert np.load(tmp_path / "a.npy").tolist() == [[1, 2], [3, 4], [5, 6]]
    with pytest.raises(AssertionError, match="whole"), ArrayWriter(tmp_path / "b.npy", np.float32, (2,), 3) as writer:
        writer.put(np.array([1]), np.array([[3.0, 4.0]]))
