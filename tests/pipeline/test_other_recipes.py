"""Runs of other recipes than the usual one: other starts, tasks, runtimes and objectives."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import torch
import yaml
from conftest import WriteRecipe, sentences
from running import compress, report_of, stage_of
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from compressor.data.corpus import stream
from compressor.data.spec import CorpusSpec


def test_a_fine_tuned_checkpoint_is_its_own_teacher(write_recipe: WriteRecipe, classifier: Path, tmp_path: Path):
    recipe = yaml.safe_load(write_recipe().read_text())
    # As an earlier run left it: with an export and a manifest of its own, which are neither measured nor shipped.
    shutil.copytree(classifier, tmp_path / "earlier")
    (tmp_path / "earlier" / "onnx").mkdir()
    (tmp_path / "earlier" / "onnx" / "model_quantized.onnx").write_bytes(b"not what is asked for")
    (tmp_path / "earlier" / "manifest.json").write_text("{}")
    path = write_recipe(model="earlier", stages=[{**recipe["stages"][2], "gates": {}}, recipe["stages"][3]])
    result = compress("run", path.name, "--allow-inconclusive", cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    report = report_of(tmp_path)
    assert [entry["name"] for entry in report["stages"]] == ["baseline", "quantize", "export"]
    assert stage_of(report, "baseline")["measurements"]["quantized_coverage"]["value"] == 0
    manifest = json.loads((tmp_path / "artifacts" / "tiny" / "model" / "manifest.json").read_text())
    assert "manifest.json" not in manifest["files"] and "onnx/model_quantized.onnx" in manifest["files"]


def test_sentence_pairs_and_torchscript_as_the_measured_runtime(write_recipe: WriteRecipe, tmp_path: Path):
    rows = [
        (text, other, label) for (text, label), (other, _) in zip(sentences(300, 4), sentences(300, 5), strict=True)
    ]
    lines = [json.dumps({"premise": a, "hypothesis": b, "gold": label == "positive"}) for a, b, label in rows]
    (tmp_path / "pairs.jsonl").write_text("\n".join(lines) + "\n")
    recipe = yaml.safe_load(write_recipe().read_text())
    distill = {**recipe["stages"][1], "architecture": "bert", "gates": {}}
    path = write_recipe(
        data={"train": "pairs.jsonl", "text": "premise", "text_pair": "hypothesis", "label": "gold"},
        measure={"runtime": "torchscript", "sequence_length": 16, "runs": 60},
        stages=[{**recipe["stages"][0], "gates": {}}, distill, {"stage": "export", "targets": ["torchscript"]}],
    )
    result = compress("run", path.name, "--allow-inconclusive", cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    report = report_of(tmp_path)
    assert stage_of(report, "export")["measurements"]["parity_label_agreement"]["value"] == 1
    config = json.loads((tmp_path / "artifacts" / "tiny" / "model" / "config.json").read_text())
    assert config["id2label"] == {"0": "false", "1": "true"}


def pretraining_stages() -> list[dict]:
    train = {"batch_size": 16, "learning_rate": 3e-3, "max_sequence_length": 24}
    return [
        {"stage": "finetune", "epochs": 4, **train},
        {"stage": "finetune", "name": "lm", "objective": "pretraining", "epochs": 2, **train},
        {
            "stage": "distill",
            "name": "pre",
            "objective": "pretraining",
            "layers": "importance",
            "masking": "whole_word",
            "epochs": 2,
            **train,
            "gates": {"loss": {"max_ratio": 1.5}},
        },
        {"stage": "finetune", "name": "student", "epochs": 4, **train, "gates": {"accuracy": {"min_retention": 0.8}}},
        {"stage": "export", "targets": ["onnx", "torchscript"]},
    ]


def write_corpus(path: Path) -> Path:
    """Texts that are mostly the same, so that there is something to guess."""
    words = [text.split() for text, _ in sentences(1500, seed=9)]
    path.write_text("\n".join(f"{first} the film was good and the plot was fine {last}" for first, *_, last in words))
    return path


def test_the_papers_path_pretrain_then_fine_tune(write_recipe: WriteRecipe, tmp_path: Path):
    corpus, held_out = write_corpus(tmp_path / "corpus.txt"), [text for text, _ in sentences(200, seed=2)]
    corpus.write_text("\n".join([corpus.read_text(), *held_out[:40]]))
    path = write_recipe(stages=pretraining_stages())
    recipe = yaml.safe_load(path.read_text())
    path = write_recipe(stages=recipe["stages"], data={**recipe["data"], "corpus": "corpus.txt"})
    result = compress("run", path.name, cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    report = report_of(tmp_path)
    names = ["baseline", "baseline (masked-lm)", "finetune", "lm", "pre", "student", "export"]
    assert [entry["name"] for entry in report["stages"]] == names
    assert [entry["task"] for entry in report["stages"]][3:5] == ["masked-lm", "masked-lm"]
    taught = {text for text in held_out[:40] if not stream.held_out(text, CorpusSpec(source="x").validation_fraction)}
    shared = f"{sum(text in taught for text in held_out)} of 200 validation rows"
    assert shared in stage_of(report, "baseline (masked-lm)")["details"]["notes"][-1]
    pretrained = stage_of(report, "pre")
    assert pretrained["measurements"]["accuracy"]["value"] > 0.2, "many words can be guessed"
    assert pretrained["measurements"]["perplexity"]["value"] < 20
    terms = pretrained["details"]["terms"]
    assert sorted(terms) == ["cosine", "mlm", "soft"]
    assert all(curve[-1][1] < curve[0][1] for curve in terms.values())
    assert len(pretrained["details"]["importance"]) == 2
    assert pretrained["details"]["maskings"] == 2
    parameters = {
        name: stage_of(report, name)["measurements"]["num_parameters"]["value"] for name in ("baseline", "student")
    }
    assert parameters["student"] < 0.7 * parameters["baseline"]
    markdown = (tmp_path / "artifacts/tiny/report.md").read_text()
    assert "| pre | cosine |" in markdown and "masked-lm 0." in markdown
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "artifacts/tiny/model")
    assert type(model).__name__ == "DistilBertForSequenceClassification"

    # The teacher's guesses are kept: another student of the same teacher does not make it read again.
    again = compress("run", path.name, "--set", "stages.pre.learning_rate=1e-3", "--until", "pre", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    log = (tmp_path / "artifacts/tiny/run.log").read_text().split("the teacher reads")
    assert len(log) == 1 + 2 * 2, "when it began and ended, for each masking, in the first run alone"


def test_masked_lm_is_a_task_of_its_own(write_recipe: WriteRecipe, encoder: Path, tmp_path: Path):
    from transformers import AutoModelForMaskedLM

    write_corpus(tmp_path / "corpus.txt")
    train = {"batch_size": 16, "learning_rate": 3e-3, "max_sequence_length": 24, "epochs": 2}
    stages = [
        {"stage": "finetune", **train, "gates": {"perplexity": {"max": 40}, "accuracy": {"min": 0.1}}},
        {"stage": "distill", **train, "gates": {"accuracy": {"min_retention": 0.7}}},
        {"stage": "quantize", "gates": {"quantized_coverage": {"min": 0.9}}},
        {"stage": "export", "targets": ["onnx", "torchscript"]},
    ]
    path = write_recipe(task="masked-lm", data={"corpus": {"source": "corpus.txt"}}, stages=stages)
    result = compress("run", path.name, cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    assert stage_of(report_of(tmp_path), "export")["measurements"]["parity_label_agreement"]["value"] == 1
    folder = tmp_path / "artifacts" / "tiny" / "model"
    model, info = AutoModelForMaskedLM.from_pretrained(folder, output_loading_info=True)
    assert type(model).__name__ == "DistilBertForMaskedLM"
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight, "tied"
    batch = AutoTokenizer.from_pretrained(folder)("the good film [MASK] was good", return_tensors="pt")
    with torch.no_grad():
        expected = model.eval()(**batch).logits.numpy()
    (given,) = onnxruntime.InferenceSession(str(folder / "onnx" / "model.onnx")).run(
        None, {name: value.numpy() for name, value in batch.items()}
    )
    assert np.abs(given - expected).max() < 1e-4
    assert "fill-mask" in (folder / "README.md").read_text()


def test_hidden_states_without_logits_and_stronger_task_distillation(
    write_recipe: WriteRecipe, distilbert: Path, tmp_path: Path
):
    write_corpus(tmp_path / "corpus.txt")
    train = {"batch_size": 16, "learning_rate": 3e-3, "max_sequence_length": 24, "epochs": 3}
    transfer = {"alpha_cosine": 1.0, "alpha_attention": 1.0}
    stages = [
        {"stage": "finetune", **train},
        {"stage": "distill", "name": "pre", "objective": "pretraining", "alpha_soft": 0, **train, "max_steps": 8},
        {"stage": "distill", "name": "task", **transfer, **train, "gates": {"accuracy": {"min_retention": 0.8}}},
        {"stage": "distill", "name": "narrow", "hidden_size": 16, "alpha_cosine": 1.0, **train},
        {
            "stage": "distill",
            "name": "ready",
            "student": str(distilbert),
            "layer_map": [0, 1, 2, 3],
            **transfer,
            **train,
        },
    ]
    recipe = yaml.safe_load(write_recipe().read_text())
    path = write_recipe(stages=stages, data={**recipe["data"], "corpus": "corpus.txt"})
    result = compress("run", path.name, "--allow-inconclusive", cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    report = report_of(tmp_path)
    details = {name: stage_of(report, name)["details"] for name in ("pre", "task", "narrow", "ready")}
    assert details["pre"]["steps"] == 8 and details["pre"]["rows"] == 8 * 16, "no more is read than the steps need"
    assert sorted(details["pre"]["terms"]) == ["cosine", "mlm"]
    assert details["task"]["layers"] == [0, 1], "half of the teacher's is what came in, so all of it stays"
    assert details["task"]["layer_map"] == [1, 3]
    for name in ("task", "ready"):
        assert sorted(details[name]["terms"]) == ["attention", "cosine", "hard", "soft"]
    assert details["narrow"]["terms"]["cosine"][-1][1] < details["narrow"]["terms"]["cosine"][0][1]
    assert details["ready"]["layer_map"] == [0, 1, 2, 3]
    narrow, ready = (stage_of(report, name)["measurements"]["num_parameters"]["value"] for name in ("narrow", "ready"))
    assert narrow < stage_of(report, "task")["measurements"]["num_parameters"]["value"] / 1.8 < ready
