"""Texts in, vectors out: sentence encoders with the tokenizer in the file, against the plain file and its tokenizer."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import SATURATES, sentences
from running import compress, report_of
from sentence_recipes import write_recipe

from compressor.models import loading
from compressor.runtimes import RUNTIMES
from compressor.runtimes.baked_tokenizer import graph
from compressor.runtimes.baked_tokenizer.probes import PROBES

pytestmark = pytest.mark.skipif(not graph.installed(), reason="needs onnxruntime-extensions")

PROMPTS = {"query": "film ", "document": "story: "}
TEXTS = [*(text for text, _ in sentences(20, 5)), *PROBES]


@pytest.fixture(scope="module", params=["int8", "float"])
def shipped(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    small: list[dict[str, Any]] = [{"stage": "quantize", "reduce_range": SATURATES}]
    stages = [*(small if request.param == "int8" else []), {"stage": "export", "tokenizer": "baked", "size_only": True}]
    path = write_recipe(folder, encoder, stages, embedding={"prompts": PROMPTS, "pooling": "mean"})
    result = compress("run", path.name, "--allow-inconclusive", cwd=folder)
    assert result.returncode == 0, result.stdout + result.stderr
    return folder


def plain_of(folder: Path) -> Path:
    small = folder / "onnx" / "model_quantized.onnx"
    return small if small.is_file() else folder / "onnx" / "model.onnx"


def test_a_text_has_the_vector_of_the_plain_file(shipped: Path):
    folder = shipped / "artifacts" / "tiny" / "model"
    session, tokenizer = graph.load(str(folder / graph.FILE)), loading.load_tokenizer(folder)
    plain = RUNTIMES["onnxruntime"].session(plain_of(folder), 1)
    for text in TEXTS:
        inputs = dict(tokenizer([text], truncation=True, return_tensors="np"))
        given = session.run(["sentence_embedding"], {"text": np.array([text], object)})[0]
        assert np.abs(given - plain.predict(inputs)["sentence_embedding"]).max() < 1e-5, text
    together = dict(tokenizer(TEXTS, padding=True, truncation=True, return_tensors="np"))
    vectors, tokens = session.run(["sentence_embedding", "token_embeddings"], {"text": np.array(TEXTS, object)})
    expected = plain.predict(together)
    assert np.abs(vectors - expected["sentence_embedding"]).max() < 1e-5
    assert tokens.shape == expected["token_embeddings"].shape
    assert np.abs((tokens - expected["token_embeddings"])[together["attention_mask"] == 1]).max() < 1e-4


def test_inputs_and_outputs(shipped: Path):
    session = graph.load(str(shipped / "artifacts" / "tiny" / "model" / graph.FILE))
    (text,), (vector, tokens) = session.get_inputs(), session.get_outputs()
    assert (text.name, text.type, text.shape) == ("text", "tensor(string)", ["batch_size"])
    assert (vector.name, vector.shape) == ("sentence_embedding", ["batch_size", 32])
    assert (tokens.name, tokens.shape[2]) == ("token_embeddings", 32)


def test_it_is_scored_with_the_prompts_and_compared_with_what_it_holds(shipped: Path):
    report = report_of(shipped)
    folder = shipped / "artifacts" / "tiny"
    parity = report["stages"][-1]["details"]["parity"]["formats"]["onnx_with_tokenizer"]
    assert parity["label_agreement"] == 1 and parity["min_cosine"] > 0.999999
    small = plain_of(folder / "model").name == "model_quantized.onnx"
    entries = {entry["name"]: entry["measurements"] for entry in report["formats"]}
    for metric in ("spearman", "ndcg_at_10"):
        same = entries["onnx_int8" if small else "onnx"][metric]["value"]
        assert entries["onnx_with_tokenizer"][metric]["value"] == pytest.approx(same, abs=1e-6)
    recorded = json.loads((folder / "model" / "verification.json").read_text())
    starts = {text.split()[0] for (text,) in recorded["texts"]}
    assert "story:" in starts and any(text.startswith("film ") for (text,) in recorded["texts"])


def test_verify_asks_it_texts(shipped: Path):
    result = compress("verify", "artifacts/tiny/model", "--json", cwd=shipped)
    assert result.returncode == 0, result.stdout + result.stderr
    subjects = {entry["subject"] for entry in json.loads(result.stdout)["checks"] if entry["kind"] == "parity"}
    assert {str(graph.FILE), f"{graph.FILE}, recorded"} <= subjects
    card = (shipped / "artifacts" / "tiny" / "model" / "README.md").read_text()
    assert "prompts are put in front of" in card


@pytest.mark.skipif(importlib.util.find_spec("sentence_transformers") is None, reason="needs sentence-transformers")
def test_sentence_transformers_prompts_are_put_in_front_by_the_app(shipped: Path):
    from sentence_transformers import SentenceTransformer

    folder = shipped / "artifacts" / "tiny" / "model"
    opened = SentenceTransformer(str(folder), device="cpu")
    expected = opened.encode(["the plot was good"], prompt_name="query")
    prompt = opened.prompts["query"]
    session = graph.load(str(folder / graph.FILE))
    given = session.run(["sentence_embedding"], {"text": np.array([f"{prompt}the plot was good"], object)})[0]
    least = 0.99 if plain_of(folder).name == "model_quantized.onnx" else 0.999999
    assert (given * expected).sum() > least
