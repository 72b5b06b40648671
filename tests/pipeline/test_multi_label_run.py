"""Rows with several labels through the real command: every stage, every file, and other people's software."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import transformers
import yaml
from conftest import for_size, without_saturation
from multi_label_rows import LABELS, marked, write_lists, write_separated
from running import compress, report_of, stage_of
from task_rows import TRAIN

from compressor.measure import recorded_answers
from compressor.models import thresholds
from compressor.models.checkpoint import Checkpoint
from compressor.runtimes.baked_tokenizer import graph as baked
from compressor.tasks import multi_label

TEXTS = [text for text, _ in marked(30, seed=9)]


def write_recipe(folder: Path, model: Path, stages: list[dict[str, Any]], **data: Any) -> Path:
    recipe = {
        "schema_version": 1,
        "name": "tiny",
        "task": "text-classification",
        "model": str(model),
        "data": {"train": "train.jsonl", "validation": "dev.jsonl", "label": "labels", **data},
        "measure": {"sequence_length": 16, "runs": 60},
        "stages": for_size(without_saturation(stages)),
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> Path:
    folder = tmp_path_factory.mktemp("several")
    write_lists(folder / "train.jsonl", marked(400, seed=1))
    write_lists(folder / "dev.jsonl", marked(120, seed=2))
    kept = {"gates": {"f1_micro": {"min_retention": 0.7}, "recall[*]": {"min": 0.3}}}
    stages = [
        {"stage": "finetune", **TRAIN, "gates": {"f1_micro": {"min": 0.7}, "f1[praise]": {"min": 0.5}}},
        {"stage": "distill", "layers": [0, 2], **TRAIN, **kept},
        {"stage": "quantize", "accuracy": {"max_drop": 0.5}, **kept},
        {"stage": "export", "targets": ["onnx", "torchscript"], "tokenizer": "baked" if baked.installed() else "files"},
    ]
    result = compress("run", write_recipe(folder, encoder, stages, tune_thresholds=True).name, cwd=folder)
    assert result.returncode == 0, result.stdout + result.stderr
    return folder


def test_every_stage_is_scored_and_has_thresholds_of_its_own(finished: Path):
    report = report_of(finished)
    assert report["task"] == multi_label.NAME
    for entry in report["stages"]:
        for metric in multi_label.METRICS:
            measured = entry["measurements"][metric]
            assert measured["low"] <= measured["value"] <= measured["high"] and measured["n"] == 120
        assert {"f1[praise]", "recall[blame]", "recall[craft]", "recall[praise]"} <= set(entry["measurements"])
    chosen = [stage_of(report, name)["details"] for name in ("finetune", "distill")]
    assert all(set(entry["thresholds"]) == set(LABELS) for entry in chosen)
    assert chosen[0]["rows"] + chosen[0]["threshold_rows"] == 400 and chosen[0]["threshold_rows"] > 20
    config = json.loads((finished / "artifacts/tiny/model/config.json").read_text())
    assert config["problem_type"] == "multi_label_classification"
    assert config["label_thresholds"] == chosen[1]["thresholds"], "the student's, not the teacher's"
    for form in ("report.html", "report.md"):
        text = (finished / "artifacts/tiny" / form).read_text()
        assert all(f"{value:g}" in text for entry in chosen for value in entry["thresholds"].values())
        assert "Chosen on" in text
    worst = [gate for gate in stage_of(report, "distill")["gates"] if gate["metric"] == "recall[*]"]
    assert worst and worst[0]["verdict"] == "pass"
    parity = {entry["name"]: entry["parity"] for entry in report["formats"]}
    assert parity["onnx"]["label_agreement"] == 1 and parity["torchscript"]["label_agreement"] >= 0.99
    if baked.installed():
        assert parity["onnx_with_tokenizer"]["label_agreement"] == 1
        assert parity["onnx_with_tokenizer"]["max_abs_diff"] < 1e-3


def test_verify_repeats_answers_and_finds_others(finished: Path, tmp_path: Path):
    result = compress("verify", finished / "artifacts/tiny", cwd=finished)
    assert result.returncode == 0, result.stdout + result.stderr
    model = finished / "artifacts/tiny/model"
    answers = recorded_answers.read(model / recorded_answers.FILE)
    assert answers.task == multi_label.NAME and all(answer.sets for answer in answers.answers.values())
    sizes = (answers.answers["torch"].logits > 0).sum(axis=-1)
    assert sizes.min() == 0 and sizes.max() >= 2, "rows without labels and with several"
    other = Path(shutil.copytree(model, tmp_path / "model"))
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "label_thresholds": dict.fromkeys(LABELS, 0.999)}))
    assert compress("verify", other, cwd=tmp_path).returncode == 1, "thresholds are a part of what ships"


def sets_of(logits: np.ndarray, folder: Path) -> list[list[str]]:
    """The labels whose probability is above the threshold that config.json has for them."""
    likely = 1 / (1 + np.exp(-logits.astype(np.float64)))
    config = json.loads((folder / "config.json").read_text())
    names = [config["id2label"][str(index)] for index in range(logits.shape[1])]
    return [
        [name for name, value in zip(names, row, strict=True) if value > config["label_thresholds"][name]]
        for row in likely
    ]


def ours(folder: Path, file: str) -> tuple[np.ndarray, list[list[str]]]:
    """Logits of the texts, each asked alone, and their labels."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    session = onnxruntime.InferenceSession(folder / file)
    names = [entry.name for entry in session.get_inputs()]
    rows = []
    for text in TEXTS:
        inputs = tokenizer(text, return_tensors="np")
        rows.append(session.run(["logits"], {name: inputs[name] for name in names})[0])
    return np.concatenate(rows), sets_of(np.concatenate(rows), folder)


def test_a_pipeline_of_transformers_gives_the_same_labels(finished: Path):
    folder = finished / "artifacts/tiny/model"
    logits, labels = ours(folder, "onnx/model.onnx")
    classify = transformers.pipeline("text-classification", model=str(folder), top_k=None)
    above = json.loads((folder / "config.json").read_text())["label_thresholds"]
    for text, row, names in zip(TEXTS, logits, labels, strict=True):
        scores = {entry["label"]: entry["score"] for entry in classify([text])[0]}
        assert [scores[name] for name in LABELS] == pytest.approx(1 / (1 + np.exp(-row)), abs=1e-5)
        assert [name for name in LABELS if scores[name] > above[name]] == names
    assert {len(names) for names in labels} >= {0, 1, 2}


@pytest.mark.skipif(not baked.installed(), reason="needs onnxruntime-extensions")
def test_a_file_with_its_tokenizer_gives_the_labels_of_its_graph(finished: Path):
    folder = finished / "artifacts/tiny/model"
    logits, labels = ours(folder, "onnx/model_quantized.onnx")
    session = baked.load(str(folder / baked.FILE))
    rows = [session.run(["label", "probabilities"], {"text": np.array([text], dtype=object)}) for text in TEXTS]
    assert [[name for name in given[0] if name] for given, _ in rows] == labels
    assert np.concatenate([likely for _, likely in rows]) == pytest.approx(1 / (1 + np.exp(-logits)), abs=1e-5)
    other = folder.parent / "alone" / "onnx"
    assert rows[0][0].shape == (1, len(LABELS)) and not other.exists()


def test_the_card_says_how_to_use_it(finished: Path):
    folder = finished / "artifacts/tiny/model"
    card = (folder / "README.md").read_text()
    code = card.partition("```python\n")[2].partition("```")[0].replace('"model"', repr(str(folder)))
    assert "pipeline_tag: text-classification" in card and "sigmoid" in code
    found: dict[str, Any] = {}
    exec(code, found)  # as a reader would run it
    _, labels = ours(folder, "onnx/model.onnx")
    assert [found["labels_of"](text) for text in TEXTS[:8]] == labels[:8]
    assert set(found["labels_of"](*TEXTS[:2])) <= set(LABELS), "of a pair of texts, too"
    for name, value in zip(LABELS, thresholds.thresholds(Checkpoint(folder)), strict=True):
        assert f"| {name} | {value:g} |" in card


def test_a_given_checkpoint_is_known_and_its_names_are_mapped(finished: Path, tmp_path: Path):
    """Its head and thresholds are kept where nothing trains, of rows in another form with other names."""
    rows = [(text, [name.upper() for name in names]) for text, names in marked(60, seed=3)]
    write_separated(tmp_path / "rows.tsv", rows, " ; ")
    model = finished / "artifacts/tiny/model"
    data = {
        "train": "rows.tsv", "validation": "rows.tsv", "label_separator": ";", "labels": {"BLAME": "blame"},
    }  # fmt: skip
    stages = [{"stage": "quantize", "gates": {"recall[*]": {"min": 0.1}}}]
    result = compress("run", write_recipe(tmp_path, model, stages, **data).name, cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    report = report_of(tmp_path)
    assert "'BLAME' is 'blame'" in json.dumps(report) and "'CRAFT' is 'craft'" in json.dumps(report)
    config = json.loads((tmp_path / "artifacts/tiny/model/config.json").read_text())
    assert config["label_thresholds"] == json.loads((model / "config.json").read_text())["label_thresholds"]
    wrong = write_recipe(tmp_path, model, stages, **{**data, "label_separator": None, "multi_label": False})
    result = compress("validate", wrong.name, cwd=tmp_path)
    assert result.returncode == 2 and "problem_type: multi_label_classification" in " ".join(result.stderr.split())


def test_a_label_that_is_lost_fails_the_run_by_its_name(finished: Path, tmp_path: Path):
    stages = [{"stage": "quantize", "gates": {"precision[*]": {"min": 0.9999}}}]
    write_lists(tmp_path / "rows.jsonl", [(text, [*names, "craft"]) if index % 3 else (text, names)
                                          for index, (text, names) in enumerate(marked(300, seed=4))])  # fmt: skip
    data = {"train": "rows.jsonl", "validation": "rows.jsonl"}
    stages = [{"stage": "quantize", "gates": {"recall[*]": {"min": 0.9}}}]
    path = write_recipe(tmp_path, finished / "artifacts/tiny/model", stages, **data)
    result = compress("run", path.name, cwd=tmp_path)
    assert result.returncode == 1 and "craft" in result.stdout


def test_every_other_stage_learns_several_labels(tmp_path: Path, encoder: Path):
    """Sharing, factorizing, pruning by gradients and training with integers: of pairs, with thresholds of 0.5."""
    rows = [json.dumps({"text": text, "other": "music", "labels": names}) for text, names in marked(200, seed=5)]
    (tmp_path / "rows.jsonl").write_text("\n".join(rows))
    short = {**TRAIN, "max_steps": 6}
    stages = [
        {"stage": "finetune", **TRAIN},
        {"stage": "share", "share": "attention", **short},
        {"stage": "factorize", "embedding_size": 16, **short},
        {"stage": "prune", "heads": 0.25, "ffn": 0.25, "scoring": "taylor", **short},
        {"stage": "distill", "layers": "importance", "num_hidden_layers": 2, "alpha_cosine": 1.0, **short},
        {"stage": "quantize", "scheme": "qat_int8", **short},
    ]
    data = {"train": "rows.jsonl", "validation": "rows.jsonl", "text_pair": "other", "max_validation_samples": 50}
    result = compress("run", write_recipe(tmp_path, encoder, stages, **data).name, cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    report = report_of(tmp_path)
    for entry in report["stages"]:
        assert entry["measurements"]["average_precision"]["n"] == 50 and "thresholds" not in entry["details"]
    terms = stage_of(report, "distill")["details"]["terms"]
    assert {"soft", "hard", "cosine"} <= set(terms)
    config = json.loads((tmp_path / "artifacts/tiny/model/config.json").read_text())
    assert config["problem_type"] == "multi_label_classification" and "label_thresholds" not in config
