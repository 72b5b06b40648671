"""Quantization-aware training: a plain checkpoint that answers as its file does, and the same after a kill."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import transformers
from conftest import WriteRecipe, compress, make_tokenizer, passing, sentences
from kinds import export, make_model, rows
from rich.console import Console
from safetensors import safe_open

from compressor import checkpoint
from compressor.progress import Progress
from compressor.quantization import Settings, calibration, fake
from compressor.recipe_deployment import CalibrationSpec
from compressor.training import trainer
from compressor.training.objectives import Labels

TRAIN = {"batch_size": 16, "learning_rate": 1e-3, "max_sequence_length": 24}
TEACHER = {"stage": "finetune", "epochs": 4, **TRAIN, "learning_rate": 3e-3}
QAT = {"stage": "quantize", "scheme": "qat_int8"}
GATE = {"gates": {"accuracy": {"min_retention": 0.9}}}


def quantized(folder: Path) -> Path:
    return folder / "artifacts/tiny/model/onnx/model_quantized.onnx"


def test_what_is_trained_ships_as_integers_beside_a_plain_checkpoint(write_recipe: WriteRecipe, tmp_path: Path):
    stages = passing(write_recipe, tmp_path, [TEACHER, {**QAT, **TRAIN, **GATE}, {"stage": "export"}])
    details, measured = stages["quantize"]["details"], stages["quantize"]["measurements"]
    assert details["steps"] == 25 and details["weights"]["soft"] == 0.9
    assert details["calibration"] == {"method": "min_max", "percentile": 99.99, "samples": 256}
    assert measured["quantized_coverage"]["value"] == 1
    kinds = {node.op_type for node in onnx.load(str(quantized(tmp_path))).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear", "MatMul"} <= kinds and "MatMulInteger" not in kinds

    path = tmp_path / "artifacts/tiny/model"
    model, info = transformers.AutoModelForSequenceClassification.from_pretrained(path, output_loading_info=True)
    assert not any(info.values()), info
    with safe_open(path / "model.safetensors", "pt") as file:
        assert set(file.keys()) == {name for name, _ in model.named_parameters()}
    assert "fake" not in (path / "config.json").read_text()
    inputs = make_tokenizer()(["a good film", "the dull story was awful"], padding=True, return_tensors="np")
    inputs = {name: np.asarray(array, dtype=np.int64) for name, array in inputs.items()}
    session = onnxruntime.InferenceSession(quantized(tmp_path), providers=["CPUExecutionProvider"])
    given = session.run(["logits"], {entry.name: inputs[entry.name] for entry in session.get_inputs()})[0]
    with torch.no_grad():
        logits = model.eval()(**{name: torch.from_numpy(array) for name, array in inputs.items()}).logits.numpy()
    assert (given.argmax(-1) == logits.argmax(-1)).all()
    assert 0 < np.abs(given - logits).max() < 0.3


def test_without_epochs_it_is_static(write_recipe: WriteRecipe, tmp_path: Path):
    files = []
    for stage in ({**QAT, "epochs": 0}, {"stage": "quantize", "scheme": "static_int8"}):
        stages = passing(write_recipe, tmp_path, [TEACHER, stage])
        assert "steps" not in stages["quantize"]["details"]
        files.append(quantized(tmp_path).read_bytes())
    assert files[0] == files[1]


def test_a_language_model_learns_too(write_recipe: WriteRecipe, tmp_path: Path):
    lines = [f"the film was {word} and the plot was {word} too" for word in ("good", "bad", "long", "fine")] * 60
    (tmp_path / "corpus.txt").write_text("\n".join(f"{line} {n % 7} {n % 5}" for n, line in enumerate(lines)))
    stages = passing(
        write_recipe,
        tmp_path,
        [{"stage": "finetune", "epochs": 1, **TRAIN}, {"stage": "share", "epochs": 0}, {**QAT, **TRAIN}],
        task="masked-lm",
        data={"corpus": "corpus.txt"},
    )
    assert set(stages["quantize"]["details"]["terms"]) == {"soft", "mlm", "cosine"}
    assert stages["quantize"]["measurements"]["quantized_coverage"]["value"] == 1
    config = json.loads((tmp_path / "artifacts/tiny/model/config.json").read_text())
    assert (config["model_type"], config["architectures"]) == ("albert", ["AlbertForMaskedLM"])
