"""Whole runs of sentence-similarity: raw text in, a folder out that other libraries open."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import sentences
from running import compress, report_of, stage_of
from sentence_recipes import write_encoder, write_recipe

from compressor.models import loading, small_vectors
from compressor.models.checkpoint import Checkpoint
from compressor.models.heads import EMBEDDINGS
from compressor.models.sentence_embedding import SentenceEmbedding
from compressor.pipeline.keys import checkpoint_inputs
from compressor.runtimes import RUNTIMES

WEIGHTS = {"soft": 1.0, "relation": 1.0, "hard": 0.0, "attention": 0.0, "cosine": 0.0}
COSINES = {"parity_min_cosine": {"min": 0.9999}, "torchscript.parity_min_cosine": {"min": 0.9}}


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> Path:
    folder = tmp_path_factory.mktemp("vectors")
    gates = {
        "recall_at_1[16]": {"max_drop": 0.9},
        "ndcg_at_10[int8]": {"max_drop": 0.9, "relative_to": "previous"},
    }
    stages: list[dict[str, Any]] = [
        {
            **{"stage": "distill", "epochs": 1, "batch_size": 16, "alpha_relation": 1, "dimensions": [32, 16]},
            "gates": gates,
        },
        {"stage": "quantize", "scheme": "dynamic_int8"},
        {
            **{"stage": "export", "targets": ["onnx", "ort", "torchscript"], "size_only": True},
            "gates": {**COSINES, "onnx.spearman[16,binary]": {"min": -1}},
        },
    ]
    smaller = {"dimensions": [16], "precisions": ["int8", "binary"]}
    path = write_recipe(folder, encoder, stages, embedding=smaller)
    result = compress("run", path.name, "--allow-inconclusive", cwd=folder)
    assert result.returncode == 0, result.stdout + result.stderr
    return folder


def test_everything_is_measured(shipped: Path):
    report = report_of(shipped)
    for stage in ("baseline", "distill", "quantize", "export"):
        measured = stage_of(report, stage)["measurements"]
        assert {"spearman", "ndcg_at_10", "mrr_at_10", "recall_at_1", "recall_at_10"} <= measured.keys()
    assert stage_of(report, "distill")["details"]["weights"] == WEIGHTS
    assert {entry["name"] for entry in report["formats"]} == {"onnx", "onnx_int8", "ort", "torchscript"}


def test_smaller_vectors_are_measured_and_gated(shipped: Path):
    report = report_of(shipped)
    for stage in (*report["stages"], *report["formats"]):
        for form in ("16", "int8", "binary", "16,int8", "16,binary"):
            found = stage["measurements"][f"recall_at_1[{form}]"]
            assert 0 <= found["value"] <= 1 and found["low"] < found["high"] and found["n"] == 60, (stage["name"], form)
    gates = {gate["metric"]: gate for stage in report["stages"] for gate in stage["gates"]}
    own = stage_of(report, "distill")["measurements"]["recall_at_1[16]"]["value"]
    teachers = stage_of(report, "baseline")["measurements"]["recall_at_1[16]"]["value"]
    assert gates["recall_at_1[16]"]["observed"] == pytest.approx(teachers - own)
    drop = gates["ndcg_at_10[int8]"]
    assert drop["low"] < drop["observed"] < drop["high"] and "onnx.spearman[16,binary]" in gates
    for name in ("report.md", "report.html"):
        assert "Vectors in smaller forms" in (shipped / "artifacts" / "tiny" / name).read_text()


def test_formats_give_the_vectors_of_torch(shipped: Path):
    folder = shipped / "artifacts" / "tiny" / "model"
    model, tokenizer = loading.load_model(folder).eval(), loading.load_tokenizer(folder)
    texts = ["the film was good", "an awful plot with long music and a dull actor"]
    expected = model(**tokenizer(texts, padding=True, return_tensors="pt")).sentence_embedding.detach().numpy()
    inputs = dict(tokenizer(texts, padding=True, return_tensors="np"))
    for name, file, least in (
        ("onnxruntime", "onnx/model.onnx", 0.999999),
        ("onnxruntime", "onnx/model_quantized.onnx", 0.97),
        ("torchscript", "torchscript/model.pt", 0.97),
    ):
        given = RUNTIMES[name].session(folder / file, 1).predict(inputs)
        assert given.keys() == {"sentence_embedding", "token_embeddings", *EMBEDDINGS.values()}
        assert np.array_equal(given[EMBEDDINGS["int8"]], small_vectors.integers(given["sentence_embedding"])), file
        assert np.array_equal(given[EMBEDDINGS["binary"]], np.packbits(given["sentence_embedding"] > 0, axis=1)), file
        assert (given["sentence_embedding"] * expected).sum(axis=1).min() > least, file
        assert given["token_embeddings"].shape == (*inputs["input_ids"].shape, 32)


def test_the_least_cosine_of_all_files_and_of_one_is_gated(shipped: Path):
    report = report_of(shipped)
    export, files = stage_of(report, "export"), {entry["name"]: entry for entry in report["formats"]}
    observed = {gate["metric"]: gate["observed"] for gate in export["gates"]}
    for metric, name in zip(COSINES, ("onnx", "torchscript"), strict=True):
        assert observed[metric] == files[name]["parity"]["min_cosine"], "the only one in float; the file of that name"
        assert files[name]["measurements"]["parity_min_cosine"]["value"] == observed[metric]
    assert observed["torchscript.parity_min_cosine"] < observed["parity_min_cosine"] <= 1 + 1e-6
    assert "parity_min_cosine" not in files["onnx_int8"]["measurements"], "others are held against it"


def test_verify_asks_again(shipped: Path):
    result = compress("verify", "artifacts/tiny/model", "--json", cwd=shipped)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "have the vector of torch" in result.stdout and "recorded vector, numbers differ by" in result.stdout
    checks = json.loads(result.stdout)["checks"]
    assert not any("label" in check["message"] for check in checks)


def test_reports_speak_of_vectors(shipped: Path):
    for name in ("report.md", "report.html", "model/README.md"):
        text = (shipped / "artifacts" / "tiny" / name).read_text()
        assert "same vector" in text and "same label" not in text, name


def test_the_card_and_the_config_have_the_scale(shipped: Path):
    folder = shipped / "artifacts" / "tiny" / "model"
    settings = Checkpoint(folder).config["sentence_embedding"]
    assert settings["precisions"] == ["int8", "binary"] and settings["int8_scale"] == small_vectors.int8_scale(32)
    card = (folder / "README.md").read_text()
    assert "`sentence_embedding_int8`" in card and repr(settings["int8_scale"]) in card and "numpy.packbits" in card


def test_the_folder_is_sentence_transformers(shipped: Path):
    folder = shipped / "artifacts" / "tiny" / "model"
    assert {"modules.json", "1_Pooling/config.json", "sentence_bert_config.json"} <= {
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    }
    assert Checkpoint(folder).config["architectures"] == ["DistilBertModel"], "as others know it"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert "1_Pooling/config.json" in manifest["files"]


@pytest.mark.skipif(importlib.util.find_spec("sentence_transformers") is None, reason="needs sentence-transformers")
def test_sentence_transformers_gives_the_same_vectors(shipped: Path):
    from sentence_transformers import SentenceTransformer

    texts = [text for text, _ in sentences(40, 9)] + ["good " * 100]
    folder = shipped / "artifacts" / "tiny" / "model"
    opened = SentenceTransformer(str(folder), device="cpu")
    model, tokenizer = loading.load_model(folder).eval(), loading.load_tokenizer(folder)
    inputs = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
    expected = model(**inputs).sentence_embedding.detach().numpy()
    assert np.abs(opened.encode(texts) - expected).max() < 1e-5
    assert opened.max_seq_length == Checkpoint(folder).max_sequence_length()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("data.retrieval=null data.validation=null", "has nothing to score the vectors on"),
        ("data.corpus=null", "has no texts to learn from"),
        ("data.train=sts.tsv", "stands beside data.train"),
        ("data.text_pair=null", "rows of data.train and data.validation are pairs of texts"),
        ("data.negative=b2", "pairs have a score, or a negative"),
        ("stages.distill.alpha_hard=1", "the recipe has raw text alone"),
        ("stages.distill.alpha_soft=0", "are all 0: nothing to learn from"),
        ("data.score=null stages.distill.gates={spearman:{min:0.5}}", "is not measured of these data"),
        ("task=text-classification embedding={pooling:cls}", "embedding: is for sentence-similarity"),
        ("stages.distill.dimensions=[64]", "dimensions: has 64, and vectors have 32 numbers"),
        ("data.retrieval={source:reviews.txt,split:dev}", "split: is for a folder with qrels"),
        ("data.group=a", "data.group: is for"),
        ("stages.distill.gates={'recall_at_1[16]':{min:0.5}}", "add `embedding: {dimensions: [16]}` to the recipe"),
        ("stages.distill.gates={'mrr_at_10[8,int8]':{min:0.5}}", "embedding: {dimensions: [8], precisions: [int8]}"),
        ("stages.distill.gates={'spearman[int4]':{min:0.5}}", "'int4' is no smaller form of vectors"),
        ("stages.distill.gates={'f1[16]':{min:0.5}}", "'f1[16]' is not measured in sentence-similarity"),
        (
            "data.retrieval=null embedding.precisions=[int8] stages.distill.gates={'recall_at_1[int8]':{min:0.5}}",
            "is not measured of these data",
        ),
        ("embedding.dimensions=[64]", "embedding.dimensions: has 64, and vectors have 32 numbers; at most 32"),
        ("embedding.dimensions=[16,16]", "has 16 twice"),
        ("embedding.precisions=[int4]", "'int4'"),
        (
            "embedding.precisions=[binary] model=odd stages=[{stage:quantize}]",
            "has binary, and vectors have 7 numbers, which do not fill whole bytes; drop binary, or",
        ),
        ("embedding={pooling:last}", "is 'last'; allowed: mean, cls, max"),
    ],
)
def test_mistakes(keys: str, message: str, tmp_path: Path, encoder: Path):
    path = write_recipe(tmp_path, encoder, [{"stage": "distill"}])
    write_encoder(tmp_path / "odd", SentenceEmbedding(dense=7))
    given = [
        word for key in keys.split() for word in ("--set", key.replace("{", "{ ").replace(":", ": ").replace("}", " }"))
    ]
    result = compress("validate", path.name, *given, cwd=tmp_path)
    assert result.returncode == 2 and message in " ".join(result.stderr.split()), result.stderr


def test_how_vectors_are_made_is_in_the_checkpoints_key(encoder: Path):
    found = [checkpoint_inputs(encoder, given) for given in (None, {}, {"pooling": "cls"})]
    assert all(one != other for index, one in enumerate(found) for other in found[:index])


@pytest.mark.parametrize("score", ["s", None])
def test_pairs_make_a_teacher(score: str | None, tmp_path: Path, encoder: Path):
    data = {"train": "sts.tsv", "text": "a", "text_pair": "b", **({"score": score} if score else {})}
    stages = [{"stage": "finetune", "epochs": 1, "batch_size": 16, "dimensions": [32, 8]}]
    path = write_recipe(tmp_path, encoder, stages, data=data)
    result = compress("run", path.name, "--allow-inconclusive", cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    measured = stage_of(report_of(tmp_path), "finetune")["measurements"]
    assert ("spearman" in measured) == bool(score) and ("ndcg_at_10" in measured) != bool(score)


@pytest.mark.parametrize(
    "stage",
    [
        {"stage": "share", "num_hidden_groups": 1},
        {"stage": "factorize", "embedding_size": 8},
        {"stage": "prune", "heads": 0.25, "ffn": 0.25},
        {"stage": "distill", "layers": "importance", "num_hidden_layers": 2},
    ],
    ids=lambda stage: stage["stage"],
)
def test_every_surgery_leaves_a_sentence_encoder(stage: dict[str, Any], tmp_path: Path, encoder: Path):
    stages = [{**stage, "epochs": 1, "batch_size": 32}, {"stage": "export"}]
    path = write_recipe(tmp_path, encoder, stages)
    result = compress("run", path.name, "--allow-inconclusive", cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    folder = tmp_path / "artifacts" / "tiny" / "model"
    inputs = dict(loading.load_tokenizer(folder)("the film was good", return_tensors="np"))
    (given,) = RUNTIMES["onnxruntime"].session(folder / "onnx/model.onnx", 1).predict(inputs)["sentence_embedding"]
    assert np.linalg.norm(given) == pytest.approx(1, abs=1e-5) and len(given) == 32
