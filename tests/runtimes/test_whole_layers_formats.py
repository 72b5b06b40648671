"""Every format of MPNet, DeBERTa and ModernBERT answers as transformers does, for any length, wherever padding is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from conftest import MAX_POSITIONS, exact_settings
from whole_layers import PREFIXES, WINDOW, answers, make, rows, save

from compressor.measure.token_rows import edge_cases
from compressor.models import quantized
from compressor.models.checkpoint import Checkpoint
from compressor.models.quantized import ONNX_FILES, QuantizedFile
from compressor.quantization import SCHEMES
from compressor.runtimes import RUNTIMES, tracing
from compressor.runtimes.onnx.coverage import quantized_coverage

CLASSIFIER = "ForSequenceClassification"
LENGTHS = (1, 2, WINDOW + 1, 30, MAX_POSITIONS)
"""Graphs are traced at 8 tokens."""
FORMATS = [("onnxruntime", 1e-4), ("ort", 1e-4), ("torchscript", 1e-4), ("executorch", 1e-4), ("coreml", 0.05)]


@pytest.fixture(scope="module", params=PREFIXES)
def checkpoint(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a ModernBERT, one whose head averages all tokens."""
    own = {"classifier_pooling": "mean"} if request.param == "ModernBert" else {}
    values = {"num_hidden_layers": 2, **own}
    folder = save(tmp_path_factory.mktemp(request.param), request.param, CLASSIFIER, **values)
    RUNTIMES["onnxruntime"].export(folder, folder / RUNTIMES["onnxruntime"].file)
    return folder


def worst(session: Any, folder: Path, first_padded: bool = True) -> float:
    """The largest difference from transformers; without rows whose first token is padding, if those are no matter."""
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder, attn_implementation="eager").eval()
    found = 0.0
    for length in LENGTHS:
        batch = rows(length, model.config.pad_token_id)
        for index in range(len(batch["input_ids"])):
            row = {name: values[index : index + 1] for name, values in batch.items()}
            if not first_padded and row["attention_mask"][0, 0] == 0:
                continue
            with torch.no_grad():
                (expected,) = answers(model(**row), row["attention_mask"])
            (given,) = answers(session.predict({k: v.numpy() for k, v in row.items()}), row["attention_mask"])
            assert torch.isfinite(given).all(), (length, index)
            found = max(found, float((given - expected).abs().max()))
    return found


@pytest.mark.parametrize(("name", "most"), FORMATS)
def test_floats_answer_as_transformers(checkpoint: Path, name: str, most: float):
    runtime = RUNTIMES[name]
    if missing := runtime.missing():
        pytest.skip(f"needs {missing[0]}")
    path = checkpoint / runtime.file
    if not path.exists():
        runtime.export(checkpoint, path)
    assert worst(runtime.session(path, 1), checkpoint) < most


def test_batches_answer_as_rows(checkpoint: Path):
    session = RUNTIMES["onnxruntime"].session(checkpoint / "onnx/model.onnx", 1)
    edges = edge_cases(MAX_POSITIONS, 60, 1, first_padded=False)
    whole = session.predict(edges.batch(range(len(edges))))["logits"]
    alone = np.concatenate([session.predict(edges.batch([index]))["logits"] for index in range(len(edges))])
    assert np.abs(whole - alone).max() < 1e-4


def test_a_model_that_is_traced_again_answers_as_before():
    """Also an MPNet with as many buckets as distances."""
    own = {"MPNet": {"relative_attention_num_buckets": 2 * (MAX_POSITIONS + 2)}}
    for prefix in PREFIXES:
        model = make(prefix, CLASSIFIER, **own.get(prefix, {}))
        # Not the row that begins with padding: its first token is read, which a ModernBERT computes of padding alone.
        batch = {name: values[[0, 1, 3]] for name, values in rows(30, model.config.pad_token_id).items()}
        with torch.no_grad():
            expected = model(**batch).logits
            for _ in range(2):
                assert torch.allclose(tracing.Traceable(model).eval()(*batch.values()), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("scheme", "most"), [("dynamic_int8", 0.3), ("fp16", 0.05), ("weight_only_int8", 0.3), ("weight_only_int4", 1.5)]
)
def test_small_weights_answer_alike_in_torchscript(checkpoint: Path, tmp_path: Path, scheme: str, most: float):
    how = SCHEMES[scheme]
    folder = tmp_path / "model"
    file = folder / ONNX_FILES[how.precision]
    file.parent.mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        (folder / name).write_bytes((checkpoint / name).read_bytes())
    how.write(checkpoint / "onnx/model.onnx", file, exact_settings(bits=how.bits), None)
    session = RUNTIMES["onnxruntime"].session(file, 1)
    # Padding is zero in products, and the first token, which is read, would be computed of padding alone.
    reads_padding = not (how.integer and Checkpoint(checkpoint).known_family.padding_varies)
    assert worst(session, checkpoint, reads_padding) < most
    if how.integer:
        assert quantized_coverage(file) == 1
    entry = QuantizedFile(
        scheme=scheme,
        precision=how.precision,
        file=ONNX_FILES[how.precision].as_posix(),
        integer_products=how.integer,
        embeddings=how.bits,
        per_channel=True,
        block_size=32 if how.in_blocks else None,
        keep_float=(),
    )
    quantized.write(folder, [entry])
    RUNTIMES["torchscript"].export(folder, folder / "torchscript/model.pt")
    other = RUNTIMES["torchscript"].session(folder / "torchscript/model.pt", 1)
    apart = 0.15 if how.in_blocks else 0.02  # ONNX Runtime rounds the activations of products with blocks
    for length in LENGTHS:
        batch = rows(length, 1)
        row = {name: values[:1].numpy() for name, values in batch.items()}
        assert np.abs(other.predict(row)["logits"] - session.predict(row)["logits"]).max() < apart


@pytest.mark.parametrize(("precision", "most"), [("int8", 0.3), ("fp16", 0.05)])
def test_small_weights_answer_alike_in_executorch(checkpoint: Path, tmp_path: Path, precision: Any, most: float):
    if missing := RUNTIMES["executorch"].missing():
        pytest.skip(f"needs {missing[0]}")
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((checkpoint / name).read_bytes())
    integer = precision == "int8"
    entry = QuantizedFile("any", precision, "model.onnx", integer, 8 if integer else 16, True, None, ())
    quantized.write(tmp_path, [entry])
    RUNTIMES["executorch"].export(tmp_path, tmp_path / "model.pte")
    assert worst(RUNTIMES["executorch"].session(tmp_path / "model.pte", 1), checkpoint) < most
