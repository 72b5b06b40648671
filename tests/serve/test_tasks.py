"""Every task's answers come back from a device as the measuring process gives them here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import make_tokenizer, save_encoder
from device_results import body, packed, result_of
from exports import quantize, run_export
from in_process import InProcess
from kinds import make_model
from small_report import passing

from compressor.files import file_entries
from compressor.measure import recorded_answers
from compressor.measure.token_rows import TokenRows
from compressor.models import loading, thresholds
from compressor.models.checkpoint import Checkpoint
from compressor.package.manifest import Manifest
from compressor.report.model import read
from compressor.runtimes.shipped import shipped
from compressor.serve import job as jobs
from compressor.serve.job import Job, prepare
from compressor.serve.result import measured
from compressor.serve.serving import Desk

LABELS = {"id2label": {0: "a", 1: "b"}, "label2id": {"a": 0, "b": 1}}
ROWS = 6


def checkpoint_of(task: str, folder: Path) -> Path:
    """A tiny random model of a task."""
    if task == "sentence-similarity":
        return save_encoder(folder, num_hidden_layers=2, initializer_range=0.3)
    heads = {"token-classification": "TokenClassification", "question-answering": "QuestionAnswering"}
    heads |= {"masked-lm": "MaskedLM"}
    model = make_model("bert", heads.get(task, "SequenceClassification"), layers=2)
    if task in ("text-classification", "multi-label-classification"):
        model.config.update(LABELS)
        kind = "multi_label" if task == "multi-label-classification" else "single_label"
        model.config.problem_type = f"{kind}_classification"
    if task == "multi-label-classification":
        model.config.label_thresholds = {"a": 0.9, "b": 0.2}
    if task == "text-regression":
        model = make_model("bert", "SequenceClassification", layers=2)
        model.config.problem_type, model.config.num_labels = "regression", 1
        model.classifier = type(model.classifier)(model.config.hidden_size, 1)
    loading.save(folder, model, make_tokenizer())
    return folder


def rows_of(task: str) -> list[dict[str, list[int]]]:
    """Rows of several lengths, one with a second segment; of a language model with a masked token each."""
    random = np.random.default_rng(3)
    rows = [{"input_ids": random.integers(5, 60, length).tolist()} for length in range(4, 4 + ROWS)]
    rows[2]["token_type_ids"] = [0, 0, 0, 1, 1, 1]
    if task == "masked-lm":
        for row in rows:
            row["labels"] = [-100, -100, 9, *[-100] * (len(row["input_ids"]) - 3)]
    return rows


def published_run(task: str, folder: Path) -> Path:
    """A run's folder with float and int8 graphs, whose answers the measuring process has recorded."""
    model = folder / "run" / "model"
    source = quantize(checkpoint_of(task, folder / "source"), folder)
    model.mkdir(parents=True)
    run_export(source, model, targets=["onnx"])
    checkpoint, rows = Checkpoint(model), TokenRows.of(rows_of(task), 0)
    rows.save(folder / "rows.npz")
    answers = {}
    for entry in shipped(model):
        asked = {
            **{"task": task, "keep": "compared", "runtime": entry.runtime, "path": str(model / entry.file)},
            **{"offsets": thresholds.offsets(checkpoint), "threads": 1, "workers": 1},
            "sets": [{"name": "all", "rows": str(folder / "rows.npz"), "batches": [[row] for row in range(ROWS)]}],
        }
        answers[entry.file.as_posix()] = InProcess().predict(asked)["all"]
    recorded_answers.write(model / recorded_answers.FILE, task, rows.take(range(ROWS)), answers)
    manifest = Manifest("tiny", task, "pass", {}, [], {}, None, ROWS, {}, file_entries(model))
    report = passing(manifest_sha256=manifest.write(model))
    report.write(model.parent / "report.json")
    return model.parent


TASKS = [
    "text-classification",
    "multi-label-classification",
    "text-regression",
    "token-classification",
    "question-answering",
    "masked-lm",
    "sentence-similarity",
]


@pytest.mark.parametrize("task", TASKS)
def test_a_task(task: str, tmp_path: Path):
    run = published_run(task, tmp_path)
    job = prepare(run, 5)
    result = result_of(job)
    found = measured(job, body(result))
    assert len(found.device.files) == 2
    for ran in found.device.files.values():
        assert (ran.rows, ran.label_agreement) == (ROWS, 1.0) and ran.max_abs_diff < 1e-5
    assert set(map(len, found.labels.values())) == ({ROWS} if task == "text-classification" else {0})
    row = result["files"]["onnx"]["rows"][0]
    row.update({name: packed(-100 * _numbers(job, name)) for name in row})
    other = measured(job, body(result)).device.files["onnx"]
    assert other.label_agreement < 1 or (task == "text-regression" and other.max_abs_diff > 0)
    assert Desk(job, None, lambda checks: None).take(body(result_of(job)))["verdict"] == "pass"
    assert set(read(run).devices) == {"Pixel 7"}


def _numbers(job: Job, name: str) -> Any:
    import onnxruntime

    session = onnxruntime.InferenceSession(job.model / job.files[0].file)
    row = job.rows[0]
    return session.run([name], {entry.name: row[entry.name] for entry in session.get_inputs()})[0]


def test_of_a_vocabulary_of_logits_as_many_rows_as_fit_a_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run = published_run("masked-lm", tmp_path)
    vocabulary = Checkpoint(run / "model").vocab_size
    two_rows = (4 + 5) * vocabulary * 4 * 4 / 3 * 2
    monkeypatch.setattr(jobs, "MOST_BYTES", int(2 * two_rows) + 2)
    job = prepare(run, 5)
    assert len(job.rows) == 2
    found = measured(job, body(result_of(job)))
    assert [(ran.rows, ran.label_agreement) for ran in found.device.files.values()] == [(2, 1.0)] * 2
    monkeypatch.setattr(jobs, "MOST_BYTES", 1)
    assert len(prepare(run, 5).rows) == 1
