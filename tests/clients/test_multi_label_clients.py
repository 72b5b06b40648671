"""Pipelines of transformers.js and of transformers give our labels where a text has any number of them."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from conftest import exact_settings, make_tokenizer, save_classifier, sentences
from in_process import InProcess

from compressor.measure.token_rows import TokenRows
from compressor.models import loading, thresholds
from compressor.models.checkpoint import Checkpoint
from compressor.models.quantized import ONNX_FILES
from compressor.quantization import dynamic_int8
from compressor.runtimes import RUNTIMES
from compressor.tasks import multi_label

HERE = Path(__file__).parent
FLOAT, INT8 = "onnx/model.onnx", str(ONNX_FILES["int8"])
DTYPES = {FLOAT: "fp32", INT8: "q8"}
TEXTS = [text for text, _ in sentences(24, seed=5)]
CLEAR = {FLOAT: 1e-4, INT8: 5e-2}
"""Distance from a threshold beyond which a label has to be the same: clients round activations in their own kernels."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A multi-label model with random weights, thresholds in the midst of its probabilities, and its files."""
    source = save_classifier(tmp_path_factory.mktemp("plain"), problem_type="multi_label_classification")
    target = tmp_path_factory.mktemp("several") / "model"
    model = loading.load_model(source)
    with torch.no_grad():
        model.classifier.weight.mul_(20)  # probabilities of all sizes, and the one in the middle is not 0.5
        logits = model.eval()(**make_tokenizer()(TEXTS, padding=True, return_tensors="pt")).logits
        model.classifier.bias -= logits.median(dim=0).values + torch.tensor([1.0, -0.5])
    loading.save(target, model, loading.load_tokenizer(source))
    config = json.loads((target / "config.json").read_text())
    RUNTIMES["onnxruntime"].export(target, target / FLOAT)
    dynamic_int8.write(target / FLOAT, target / INT8, exact_settings())
    middle = np.median(1 / (1 + np.exp(-ours(target, FLOAT))), axis=0)
    chosen = dict(zip(Checkpoint(target).labels, np.clip(middle, 0.02, 0.98).round(3).tolist(), strict=True))
    (target / "config.json").write_text(json.dumps({**config, thresholds.KEY: chosen}))
    return target


def ours(folder: Path, file: str) -> np.ndarray:
    """What the measuring process keeps: logits without the offsets of the thresholds, each text asked alone."""
    tokenizer = loading.load_tokenizer(folder)
    rows = folder.with_name("rows.npz")
    TokenRows.of([{"input_ids": tokenizer(text)["input_ids"]} for text in TEXTS], 0).save(rows)
    job = {
        "task": multi_label.NAME,
        "keep": "answers",
        "runtime": "onnxruntime",
        "path": str(folder / file),
        "threads": 1,
        "workers": 1,
        "offsets": thresholds.offsets(Checkpoint(folder)),
        "sets": [{"name": "rows", "rows": str(rows), "batches": [[index] for index in range(len(TEXTS))]}],
    }
    return InProcess().predict(job)["rows"]


def same_labels(scores: list[dict[str, float]], folder: Path, file: str) -> None:
    """Scores above the thresholds of config.json are our labels, of every text."""
    chosen = json.loads((folder / "config.json").read_text())[thresholds.KEY]
    margins = ours(folder, file)
    given = np.array([[row[name] - chosen[name] for name in Checkpoint(folder).labels] for row in scores])
    clear = np.abs(given) > CLEAR[file]
    assert ((given > 0) == (margins > 0))[clear].all() and clear.mean() > 0.7
    assert ((margins > 0).mean(axis=0) > 0.2).all() and ((margins > 0).mean(axis=0) < 0.8).all(), "of both kinds"
    assert len({tuple(row) for row in margins > 0}) >= 3, "not one label of two"


def test_the_pipeline_of_transformers(folder: Path):
    classify = transformers.pipeline("text-classification", model=str(folder), top_k=None)
    scores = [{entry["label"]: entry["score"] for entry in classify([text])[0]} for text in TEXTS]
    same_labels(scores, folder, FLOAT)
    offsets = np.array(thresholds.offsets(Checkpoint(folder)))
    likely = 1 / (1 + np.exp(-(ours(folder, FLOAT) + offsets)))
    assert likely == pytest.approx(
        np.array([[row[name] for name in Checkpoint(folder).labels] for row in scores]), abs=1e-5
    )


def test_the_pipeline_of_transformers_js(folder: Path):
    if (node := shutil.which("node")) is None:
        pytest.skip("node is not installed")
    if not (HERE / "node_modules").is_dir():
        pytest.skip(f"no {HERE / 'node_modules'}: npm ci --ignore-scripts --prefix {HERE}")
    job = json.dumps({"folder": str(folder), "files": list(DTYPES), "texts": TEXTS, "dtypes": DTYPES})
    command = [node, str(HERE / "transformers_js_labels.mjs")]
    result = subprocess.run(command, input=job, capture_output=True, text=True, timeout=300, check=False, cwd=HERE)
    assert result.returncode == 0, result.stderr
    for file, scores in json.loads(result.stdout).items():
        same_labels(scores, folder, file)
