"""Models with BPE and Unigram tokenizers through the real command: trimmed, quantized, exported, loaded again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import task_rows
import torch
import transformers
from conftest import WriteRecipe, make_config, passing
from prune_stages import CUT, TEACHER, TRAIN
from running import compress, report_of, stage_of
from tiny_models import other_config
from tiny_tokenizers import TEXT, wrapped

OTHERS = ["unseen wordings", "naïve café", "日本語 Ελληνικά עברית", "😀 ☃", "x" * 90]
"""Texts with characters and words that the rows lack."""


def save(folder: Path, prefix: str, kind: str, **renamed: Any) -> tuple[Any, Any]:
    """A random encoder, as transformers saves it, and its tokenizer."""
    torch.manual_seed(3)
    tokenizer = wrapped(kind)
    config = other_config(prefix, make_config(vocab_size=len(tokenizer)), initializer_range=0.1, **renamed)
    model = getattr(transformers, f"{prefix}Model")(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model, tokenizer


def shipped(folder: Path) -> tuple[Any, Any]:
    path = folder / "artifacts/tiny/model"
    head = json.loads((path / "config.json").read_text())["architectures"][0].partition("For")[2]
    model = getattr(transformers, f"AutoModelFor{head}").from_pretrained(path).eval()
    return model, transformers.AutoTokenizer.from_pretrained(path)


def assert_roles(model: Any, tokenizer: Any) -> None:
    """Special tokens have the ids that the config says, and there is a row for each token."""
    assert model.config.vocab_size == len(tokenizer) == len(model.get_input_embeddings().weight)
    for name in ("pad", "bos", "eos"):
        assert getattr(model.config, f"{name}_token_id") == getattr(tokenizer, f"{name}_token_id"), name
    pair = tokenizer.convert_ids_to_tokens(tokenizer("good", "bad")["input_ids"])
    assert [token for token in pair if token in tokenizer.all_special_tokens] == ["<s>", "</s>", "</s>", "</s>"]


def test_a_roberta_loses_what_its_rows_lack(write_recipe: WriteRecipe, tmp_path: Path):
    _, whole = save(tmp_path / "model", "Roberta", "roberta")
    stages = [
        TEACHER,
        {"stage": "prune", "vocabulary": {"min_count": 1}, "epochs": 1, **TRAIN},
        {**CUT, "name": "number", "vocabulary": {"keep": 290}},
        {"stage": "quantize"},
        {"stage": "export", "targets": ["onnx", "ort", "torchscript"]},
    ]
    found = passing(write_recipe, tmp_path, stages, model="model")
    assert found["prune"]["details"]["vocabulary"]["texts_changed"] == 0
    assert found["prune"]["details"]["weights"]["cosine"] == 1, "rows are split as the teacher splits them"
    assert found["number"]["details"]["vocabulary"]["after"] == 290 < len(whole)
    model, tokenizer = shipped(tmp_path)
    assert_roles(model, tokenizer)
    assert not [
        path for path in (tmp_path / "artifacts/tiny/model").iterdir() if path.name in ("vocab.json", "merges.txt")
    ]
    assert [tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) for text in OTHERS] == OTHERS
    inputs = tokenizer([*TEXT[:5], *OTHERS], padding=True, truncation=True, return_tensors="pt")
    with torch.no_grad():
        logits = model(**inputs).logits.numpy()
    graph = tmp_path / "artifacts/tiny/model/onnx/model.onnx"
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    (given,) = session.run(["logits"], {name: tensor.numpy() for name, tensor in inputs.items()})
    assert np.abs(given - logits).max() < 1e-4
    assert compress("verify", tmp_path / "artifacts/tiny", cwd=tmp_path).returncode == 0


@pytest.mark.parametrize("task", ["token-classification", "question-answering"])
def test_an_xlm_roberta_loses_what_texts_lack(tmp_path: Path, task: str):
    encoder, whole = save(tmp_path / "model", "XLMRoberta", "xlm-r")
    assert whole.mask_token_id == 4
    (tmp_path / "texts.txt").write_text("\n".join(TEXT[::3]))
    stages = [
        {"stage": "finetune", **task_rows.TRAIN, "epochs": 1},
        {**CUT, "vocabulary": {"min_count": 3, "corpus": "texts.txt"}},
        {"stage": "quantize"},
        {"stage": "export", "targets": ["onnx"]},
    ]
    path = task_rows.write_recipe(tmp_path, task, tmp_path / "model", stages)
    result = compress("run", path.name, "--allow-inconclusive", cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    report = report_of(tmp_path)
    finetuned, cut = (stage_of(report, name)["measurements"] for name in ("finetune", "prune"))
    counts = stage_of(report, "prune")["details"]["vocabulary"]
    width = encoder.config.hidden_size
    lost = finetuned["num_parameters"]["value"] - cut["num_parameters"]["value"]
    assert lost == width * (counts["before"] - counts["after"]) > 0
    model, tokenizer = shipped(tmp_path)
    assert_roles(model, tokenizer)
    assert len(tokenizer) == counts["after"]
    for text in [*OTHERS, *TEXT[-3:]]:
        before, after = (each.tokenize(text).count("<unk>") for each in (whole, tokenizer))
        assert after <= before
    assert compress("verify", tmp_path / "artifacts/tiny", cwd=tmp_path).returncode == 0
