"""Vectors with fewer numbers, from a recipe to a folder that others open; and what is refused."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import sentences
from running import compress, report_of, stage_of
from sentence_recipes import write_encoder, write_recipe

from compressor.errors import RecipeError
from compressor.models import loading
from compressor.models.checkpoint import Checkpoint
from compressor.models.sentence_embedding import SentenceEmbedding
from compressor.recipe import resolve
from compressor.runtimes import RUNTIMES

VECTORS = {"dimensions": 16, "texts": 100}


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> Path:
    folder = tmp_path_factory.mktemp("vectors")
    stages: list[dict[str, Any]] = [
        {"stage": "prune", "vectors": VECTORS, "gates": {"recall_at_10[16]": {"max_drop": 1.0}}},
        {"stage": "prune", "name": "both", "ffn": 0.5, "epochs": 1, "vectors": {"dimensions": 8, "reduction": "first"}},
        {"stage": "distill", "epochs": 1, "num_hidden_layers": 1},
        {"stage": "quantize"},
        {"stage": "export", "targets": ["onnx", "torchscript"], "size_only": True},
    ]
    path = write_recipe(folder, encoder, stages, embedding={"dimensions": [16], "precisions": ["int8", "binary"]})
    result = compress("run", path.name, "--allow-inconclusive", cwd=folder)
    assert result.returncode == 0, result.stdout + result.stderr
    return folder


def test_the_report_says_what_is_left(shipped: Path):
    report = report_of(shipped)
    first, both = (stage_of(report, name)["details"] for name in ("prune", "both"))
    assert first["vectors"]["before"] == 32 and first["vectors"]["after"] == 16 and first["vectors"]["texts"] == 100
    assert 0.5 < first["vectors"]["kept"] <= 1 and "Vectors have 16 numbers instead of 32" in first["notes"][0]
    assert both["vectors"] == {"before": 16, "after": 8, "reduction": "first"} and "neurons" in both
    measured = {stage["name"]: stage["measurements"] for stage in report["stages"]}
    whole, small = measured["baseline"], measured["prune"]
    assert small["recall_at_10[16]"]["value"] == small["recall_at_10"]["value"] and "recall_at_10[16]" in whole
    assert "recall_at_10[16]" not in measured["export"] and "recall_at_10[int8]" in measured["export"]


def test_later_stages_go_on_with_it(shipped: Path):
    folder = shipped / "artifacts" / "tiny" / "model"
    assert Checkpoint(folder).embedding.dense == 8 and Checkpoint(folder).num_hidden_layers == 1
    inputs = dict(loading.load_tokenizer(folder)("the film was good", return_tensors="np"))
    for name, file in (("onnxruntime", "onnx/model_quantized.onnx"), ("torchscript", "torchscript/model.pt")):
        given = RUNTIMES[name].session(folder / file, 1).predict(inputs)
        assert [given[output].shape for output in ("sentence_embedding", "sentence_embedding_binary")] == [
            (1, 8),
            (1, 1),
        ]
    result = compress("verify", "artifacts/tiny/model", cwd=shipped)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.skipif(importlib.util.find_spec("sentence_transformers") is None, reason="needs sentence-transformers")
def test_sentence_transformers_opens_it(shipped: Path):
    from sentence_transformers import SentenceTransformer

    folder, texts = shipped / "artifacts" / "tiny" / "model", [text for text, _ in sentences(10, 9)]
    model, tokenizer = loading.load_model(folder).eval(), loading.load_tokenizer(folder)
    expected = model(**tokenizer(texts, padding=True, return_tensors="pt")).sentence_embedding.detach().numpy()
    assert np.abs(SentenceTransformer(str(folder), device="cpu").encode(texts) - expected).max() < 1e-5


@pytest.mark.parametrize(
    ("stage", "keys", "message"),
    [
        ({"vectors": {"dimensions": 33}}, {}, "vectors.dimensions: is 33, and 32 numbers come in"),
        ({"vectors": {"dimensions": 32, "reduction": "first"}}, {}, "at most 31"),
        ({"vectors": {"dimensions": 8}, "epochs": 1}, {}, "vectors alone trains nothing; drop epochs"),
        ({"vectors": {"dimensions": 0}}, {}, "dimensions"),
        ({"vectors": {"dimensions": 8, "reduction": "svd"}}, {}, "'svd'"),
        ({"vectors": 8}, {}, "vectors"),
        ({"vectors": {"dimensions": 8}}, {"model": "tanh"}, "use reduction: first, which keeps its first numbers"),
        ({"vectors": {"dimensions": 8}, "objective": "pretraining"}, {}, "the stage pretrains a language model"),
        ({"vectors": {"dimensions": 8}}, {"task": "text-classification"}, "vectors: is for sentence-similarity"),
        (
            {"vectors": {"dimensions": 8}, "gates": {"recall_at_1[16]": {"min": 0.1}}},
            {"embedding": {"dimensions": [16]}},
            "is of 16 numbers, and the stage leaves vectors of 8",
        ),
    ],
)
def test_mistakes(stage: dict[str, Any], keys: dict[str, Any], message: str, tmp_path: Path, encoder: Path):
    write_encoder(tmp_path / "tanh", SentenceEmbedding(dense=20, activation="tanh"))
    path = write_recipe(tmp_path, encoder, [{"stage": "prune", **stage}], **keys)
    with pytest.raises(RecipeError) as caught:
        resolve.resolve(path)
    assert message in str(caught.value)
