"""Accuracy-aware quantization of sentence encoders: what ruins vectors stays in float, and raw text says what does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import SATURATES, make_tokenizer, sentences
from running import compress, report_of, stage_of
from sentence_recipes import write_recipe

from compressor.models import loading
from compressor.runtimes import RUNTIMES
from compressor.tasks.scoring.cosine import cosines

WHOLE = "encoder.layer.1.attention.output.dense"


@pytest.fixture(scope="module")
def outlier(encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The encoder, one channel of a layer's values 2^14 times as large, and what reads it as much smaller.

    In float nothing changes; of integers, all steps of a tensor's range go to the one channel.
    """
    model = loading.load_model(encoder)
    layer = model.base_model.encoder.layer[1].attention
    with torch.no_grad():
        layer.output.dense.weight *= 4  # or what the layer adds would be too little to be missed
        layer.self.value.weight[3] *= 2**14
        layer.self.value.bias[3] *= 2**14
        layer.output.dense.weight[:, 3] /= 2**14
    folder = tmp_path_factory.mktemp("outlier")
    loading.save(folder, model, make_tokenizer())
    return folder


def run(folder: Path, model: Path, quantize: dict[str, Any], *before: dict[str, Any], **keys: Any) -> dict[str, Any]:
    stages = [*before, {"stage": "quantize", "reduce_range": SATURATES, **quantize}]
    path = write_recipe(folder, model, [*stages, {"stage": "export", "size_only": True}], **keys)
    result = compress("run", path.name, "--allow-inconclusive", cwd=folder)
    assert result.returncode == 0, result.stdout + result.stderr
    return stage_of(report_of(folder), "quantize")


PAIRS = {"train": "sts.tsv", "text": "a", "text_pair": "b", "score": "s"}


@pytest.mark.parametrize(
    ("scheme", "data"), [("static_int8", {}), ("dynamic_int8", {}), ("static_int8", {"data": PAIRS})]
)
def test_what_ruins_vectors_stays_in_float(scheme: str, data: dict[str, Any], tmp_path: Path, outlier: Path):
    limit = 0.01
    stage = run(tmp_path, outlier, {"scheme": scheme, "accuracy": {"max_drop": limit}}, **data)
    told = stage["details"]["selection"]
    assert told["float"] == pytest.approx(1, abs=1e-9)
    assert told["quantized"] < 1 - limit <= told["chosen"]
    assert told["matrices"][0]["name"].endswith(WHOLE), "the dearest is the one that was broken"
    assert told["kept"] == 1, told
    folder = tmp_path / "artifacts" / "tiny" / "model"
    texts = [text for text, _ in sentences(60, 8)]
    found = []
    for name in ("model.onnx", "model_quantized.onnx"):
        session, tokenizer = RUNTIMES["onnxruntime"].session(folder / "onnx" / name, 1), loading.load_tokenizer(folder)
        rows = [dict(tokenizer([text], return_tensors="np")) for text in texts]
        found.append(np.concatenate([session.predict(row)["sentence_embedding"] for row in rows]))
    assert cosines(found[1], found[0]).mean() > 1 - 2 * limit, "of texts that chose nothing, too"
    report = (tmp_path / "artifacts" / "tiny" / "report.md").read_text()
    assert "the mean cosine with the vectors in float drops by at most" in report


def test_rows_that_choose_are_not_trained_on(tmp_path: Path, encoder: Path):
    distill = {"stage": "distill", "epochs": 1, "batch_size": 32}
    stage = run(tmp_path, encoder, {"scheme": "static_int8", "accuracy": {"max_drop": 0.5}}, distill)
    assert stage["details"]["selection"]["kept"] == 0
    report = (tmp_path / "artifacts" / "tiny" / "report.md").read_text()
    assert "training rows are not trained on: a budget of quality chooses on them" in report


def test_cosines_of_odd_vectors():
    given = np.array([[3.0, 4.0], [0.0, 0.0], [0.0, 0.0], [np.nan, 1.0], [1.0, 0.0]])
    other = np.array([[4.0, 3.0], [0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [-2.0, 0.0]])
    assert cosines(given, other) == pytest.approx([0.96, 1, 0, -1, -1])
