"""Every task through the real command: trained, distilled, pruned, quantized, exported, verified."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import transformers
from running import compress
from task_rows import METRIC, TRAIN, write_recipe

TASKS = list(METRIC)
CLASSES = {
    "token-classification": "ForTokenClassification",
    "question-answering": "ForQuestionAnswering",
    "text-regression": "ForSequenceClassification",
}


def report_of(folder: Path) -> dict[str, dict[str, Any]]:
    report = json.loads((folder / "artifacts/tiny/report.json").read_text())
    return {entry["name"]: entry for entry in report["stages"]}


@pytest.fixture(scope="module", params=TASKS)
def finished(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, encoder: Path):
    task, folder = request.param, tmp_path_factory.mktemp(request.param)
    metric = METRIC[task]
    gates = {"gates": {metric: {"min_retention": 0.7}}}
    stages = [
        {"stage": "finetune", **TRAIN, "gates": {metric: {"min": 0.5}}},
        {"stage": "distill", "layers": [0, 2], "alpha_cosine": 1.0, **TRAIN, **gates},
        {"stage": "prune", "heads": 0.25, "ffn": 0.25, **TRAIN, **gates},
        {"stage": "quantize", **gates},
        {"stage": "export", "targets": ["onnx", "torchscript"]},
    ]
    path = write_recipe(folder, task, encoder, stages)
    result = compress("run", path.name, cwd=folder)
    assert result.returncode == 0, result.stdout + result.stderr
    return task, folder


def test_it_is_learned_and_kept(finished):
    task, folder = finished
    stages = report_of(folder)
    assert list(stages) == ["baseline", "finetune", "distill", "prune", "quantize", "export"]
    for entry in stages.values():
        measured = entry["measurements"][METRIC[task]]
        assert measured["low"] <= measured["value"] <= measured["high"]
        assert measured["n"] == 100
    assert stages["distill"]["details"]["weights"]["soft"] == 0.9
    soft = stages["distill"]["details"]["terms"]["soft"]
    assert soft[-1][1] < soft[0][1]
    assert stages["quantize"]["measurements"]["quantized_coverage"]["value"] == 1


def test_what_ships_is_of_the_task_and_verifies(finished):
    task, folder = finished
    model = folder / "artifacts/tiny/model"
    config = json.loads((model / "config.json").read_text())
    assert config["architectures"][0].endswith(CLASSES[task])
    loaded = getattr(transformers, f"AutoModel{CLASSES[task]}").from_pretrained(model)
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    inputs = tokenizer("was it good", "the film was lovely", return_tensors="pt")
    outputs = loaded.eval()(**inputs)
    session = onnxruntime.InferenceSession(model / "onnx/model.onnx")
    names = [output.name for output in session.get_outputs()]
    assert names == (["start_logits", "end_logits"] if task == "question-answering" else ["logits"])
    given = session.run(None, {entry.name: inputs[entry.name].numpy() for entry in session.get_inputs()})
    for name, values in zip(names, given, strict=True):
        assert np.abs(values - outputs[name].detach().numpy()).max() < 1e-4
    result = compress("verify", model.parent, cwd=folder)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("task", "scheme"),
    [
        ("token-classification", {"scheme": "static_int8", "accuracy": {"max_drop": 0.5}}),
        ("question-answering", {"scheme": "qat_int8", **TRAIN, "max_steps": 4}),
    ],
)
def test_stages_that_learn_from_answers_know_the_task(task: str, scheme: dict[str, Any], tmp_path: Path, encoder: Path):
    short = {**TRAIN, "max_steps": 4}
    stages = [
        {"stage": "finetune", **short},
        {"stage": "share", "share": "attention", **short},
        {"stage": "quantize", **scheme},
    ]
    path = write_recipe(tmp_path, task, encoder, stages)
    result = compress("run", path.name, cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    assert report_of(tmp_path)["quantize"]["measurements"][METRIC[task]]["n"] == 100


@pytest.mark.parametrize(
    ("task", "override", "message"),
    [
        (
            "token-classification",
            "data.text=sentence",
            "is for text-classification, text-regression, sentence-similarity, not for",
        ),
        (
            "question-answering",
            "data.tags=tags",
            "of these keys question-answering has question, context, answers, stride",
        ),
        (
            "text-regression",
            "stages.finetune.gates={accuracy: {min: 0.5}}",
            "'accuracy' is not measured in text-regression",
        ),
        ("token-classification", "data.train=recipe.yaml", "allowed: .conll, .txt, .tsv, .bio"),
        ("question-answering", "data.train=dev.csv", "allowed: .json, .jsonl, .parquet"),
        (
            "token-classification",
            "stages.export={stage: export, tokenizer: baked}",
            "token-classification does not give one",
        ),
    ],
)
def test_mistakes(task: str, override: str, message: str, tmp_path: Path, encoder: Path):
    (tmp_path / "dev.csv").write_text("a,b\n1,2\n")
    path = write_recipe(tmp_path, task, encoder, [{"stage": "finetune"}, {"stage": "export"}])
    result = compress("validate", path.name, "--set", override, cwd=tmp_path)
    assert result.returncode == 2 and message in " ".join(result.stderr.split()), result.stderr


def test_mistakes_of_a_file_are_reported_with_their_lines(tmp_path: Path, encoder: Path):
    path = write_recipe(tmp_path, "token-classification", encoder, [{"stage": "finetune"}])
    train = tmp_path / "train.conll"
    train.write_text("good\tB-praise\nfilm\n\nbad\tperson\n")
    result = compress("run", path.name, cwd=tmp_path)
    message = " ".join(result.stderr.split())
    assert result.returncode == 2 and "Traceback" not in message
    assert "train.conll, line 2: 'film'" in message and "train.conll, line 4: the token 'bad'" in message
    assert not (tmp_path / "artifacts/tiny/model").exists()
