"""A real recipe through the real command, as a user or a CI job runs it.

What is about processes runs in processes of its own: the whole recipe once, with all that measures it, terminals,
signals, kills and torchrun. The rest runs in the tests' process.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
import yaml
from conftest import WriteRecipe, recipe_writer, sentences
from running import compress, compress_process
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from compressor.files import file_digest


def report_of(folder: Path) -> dict:
    return json.loads((folder / "artifacts" / "tiny" / "report.json").read_text())


def stage(report: dict, name: str) -> dict:
    return next(entry for entry in report["stages"] if entry["name"] == name)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """One run of the whole recipe in a process of its own, looked at by several tests."""
    folder = tmp_path_factory.mktemp("run")
    path = recipe_writer(folder, encoder)()
    return folder, compress_process("run", path.name, cwd=folder)


def test_run_passes_and_reports_every_stage(finished):
    folder, result = finished
    assert result.returncode == 0, result.stdout + result.stderr
    report = report_of(folder)
    assert report["schema_version"] == 1
    assert report["verdict"] == "pass"
    assert [entry["name"] for entry in report["stages"]] == ["baseline", "finetune", "distill", "quantize", "export"]
    assert report["stages"][0]["stage"] == "baseline"
    for entry in report["stages"]:
        for metric in (
            "accuracy",
            "latency_p50_ms",
            "latency_p95_ms",
            "size_bytes",
            "num_parameters",
            "peak_rss_bytes",
        ):
            measured = entry["measurements"][metric]
            assert measured["low"] <= measured["value"] <= measured["high"], (entry["name"], metric)
        assert not entry["from_cache"] or entry["name"] == "finetune"
    assert stage(report, "baseline")["measurements"]["accuracy"]["n"] == 200
    assert stage(report, "distill")["details"]["layers"] == [0, 2]
    assert len(stage(report, "distill")["details"]["loss"]) > 5


def test_chatter_of_libraries_is_in_the_log_only(finished):
    folder, result = finished
    for word in ("Warning", "warning", "Loading weights", "newly initialized", "Traceback"):
        assert word not in result.stdout + result.stderr
    assert "newly initialized" in (folder / "artifacts/tiny/run.log").read_text()


def test_a_terminal_shows_bars_and_no_chatter(write_recipe: WriteRecipe, tmp_path: Path):
    path = write_recipe()
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "compressor", "run", path.name, "--until", "finetune"]
    process = subprocess.Popen(command, cwd=tmp_path, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # how a pseudo-terminal says that it was closed
        while chunk := os.read(ours, 65536):
            shown += chunk
    os.close(ours)
    assert process.wait(timeout=60) == 0
    text = shown.decode(errors="replace")
    assert "finetune: training on 400 rows" in text and "left" in text
    assert "All gates pass" in text
    for word in ("Loading weights", "newly initialized", "Warning"):
        assert word not in text


def test_smaller_and_really_int8(finished):
    report = report_of(finished[0])
    quantized, baseline = (stage(report, name)["measurements"] for name in ("quantize", "baseline"))
    assert baseline["quantized_coverage"]["value"] == 0
    assert quantized["quantized_coverage"]["value"] == 1
    assert quantized["num_parameters"]["value"] < baseline["num_parameters"]["value"]
    gates = {(gate["metric"], gate["rule"]) for gate in stage(report, "quantize")["gates"]}
    assert ("quantized_coverage", "min") in gates, "it is gated even though the recipe does not ask for it"


def test_formats_agree_with_torch_on_every_row(finished):
    measured = stage(report_of(finished[0]), "export")["measurements"]
    assert measured["parity_label_agreement"]["value"] == 1
    assert measured["parity_max_abs_diff"]["value"] < 1e-4


def test_model_folder_loads_with_plain_libraries(finished):
    model_folder = finished[0] / "artifacts" / "tiny" / "model"
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    model = AutoModelForSequenceClassification.from_pretrained(model_folder).eval()
    assert type(model).__name__ == "DistilBertForSequenceClassification"
    texts, labels = zip(*sentences(40, seed=3), strict=True)
    batch = tokenizer(list(texts), padding=True, return_tensors="pt")
    with torch.no_grad():
        logits = model(**batch).logits
    named = [model.config.id2label[index] for index in logits.argmax(-1).tolist()]
    assert np.mean([name == label for name, label in zip(named, labels, strict=True)]) > 0.8

    feed = {name: value.numpy() for name, value in batch.items()}
    for name, tolerance in (("model.onnx", 1e-4), ("model_quantized.onnx", 1.0)):
        session = onnxruntime.InferenceSession(str(model_folder / "onnx" / name))
        (given,) = session.run(None, feed)
        assert np.abs(given - logits.numpy()).max() < tolerance
    scripted = torch.jit.load(str(model_folder / "torchscript" / "model.pt"))
    answers = scripted(batch["input_ids"], batch["attention_mask"]).numpy()
    assert np.abs(answers - given).max() < 0.1, "as the quantized graph answers"
    assert np.median(np.abs(answers - given)) < 1e-5


def test_manifest_lists_every_file_with_its_digest(finished):
    model_folder = finished[0] / "artifacts" / "tiny" / "model"
    files = json.loads((model_folder / "manifest.json").read_text())["files"]
    there = {str(p.relative_to(model_folder)) for p in model_folder.rglob("*") if p.is_file()} - {"manifest.json"}
    assert set(files) == there
    assert all(file_digest(model_folder / name) == entry["sha256"] for name, entry in files.items())


def test_reports_are_written_again_from_report_json(finished):
    run_folder = finished[0] / "artifacts" / "tiny"
    names = ("report.html", "report.md", "junit.xml")
    before = {name: (run_folder / name).read_text() for name in names}
    gates = sum(len(entry["gates"]) for entry in report_of(finished[0])["stages"])
    told = f"All {gates} gates pass."
    assert told in before["report.html"] and told in before["report.md"]
    assert before["junit.xml"].count("<testcase ") == gates
    for name in names:
        (run_folder / name).unlink()
    assert compress("report", run_folder, cwd=finished[0]).returncode == 0
    assert {name: (run_folder / name).read_text() for name in names} == before
    assert report_of(finished[0])["command"] == "compress run recipe.yaml"
    assert "compress run recipe.yaml --locked" in before["report.html"]


def test_a_jobs_step_shows_the_report(finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    summary = tmp_path / "summary.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    result = compress("run", "recipe.yaml", cwd=finished[0])
    assert result.returncode == 0, result.stderr
    assert summary.read_text() == f"\n{(finished[0] / 'artifacts/tiny/report.md').read_text()}\n"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path))
    result = compress("run", "recipe.yaml", cwd=finished[0])
    assert result.returncode == 0, "a summary that cannot be written is no failure"
    assert "GITHUB_STEP_SUMMARY" in result.stderr and "Traceback" not in result.stderr


def test_second_run_is_all_cache_and_gates_are_judged_anew(finished):
    folder, _ = finished
    again = compress("run", "recipe.yaml", cwd=folder)
    assert again.returncode == 0, again.stderr
    assert all(entry["from_cache"] for entry in report_of(folder)["stages"])

    impossible = compress("run", "recipe.yaml", "--set", "stages.distill.gates.size_bytes={max: 1}", cwd=folder)
    assert impossible.returncode == 1
    report = report_of(folder)
    assert report["verdict"] == "fail"
    assert [entry["name"] for entry in report["stages"]] == ["baseline", "finetune", "distill"], "the rest is not run"
    assert all(entry["from_cache"] for entry in report["stages"]), "a gate is no input of a stage"
    failed = [gate for gate in stage(report, "distill")["gates"] if gate["verdict"] == "fail"]
    assert [(gate["metric"], gate["rule"], gate["limit"]) for gate in failed] == [("size_bytes", "max", 1)]
    assert "FAIL" in impossible.stdout and "distill: size_bytes" in impossible.stdout
    assert not (folder / "artifacts" / "tiny" / "model").exists(), "what failed is not left to be shipped"

    assert compress("run", "recipe.yaml", cwd=folder).returncode == 0


def test_too_few_runs_are_inconclusive(finished):
    folder, _ = finished
    few = ["--set", "measure.runs=20", "--set", "stages.finetune.gates={latency_p95_ms: {max: 1e6}}"]
    command = ["run", "recipe.yaml", "--until", "finetune", *few]
    assert compress(*command, cwd=folder).returncode == 4
    assert report_of(folder)["verdict"] == "inconclusive"
    junit = folder / "artifacts/tiny/junit.xml"
    assert '<failure type="inconclusive"' in junit.read_text()
    assert compress(*command, "--allow-inconclusive", cwd=folder).returncode == 0
    assert "<skipped" in junit.read_text() and "<failure" not in junit.read_text()


def test_a_changed_stage_reruns_it_and_those_after_it(finished):
    folder, _ = finished
    change = ("--set", "stages.quantize.per_channel=false")
    plan = compress("plan", "recipe.yaml", *change, cwd=folder).stdout.splitlines()
    assert [line.split()[:2] for line in plan] == [
        ["finetune", "cached"],
        ["distill", "cached"],
        ["quantize", "run"],
        ["export", "run"],
    ]
    assert "per_channel changed from True to False" in plan[2]
    assert "the checkpoint before it changed" in plan[3]
    result = compress("run", "recipe.yaml", "--until", "quantize", *change, cwd=folder)
    assert result.returncode == 0, result.stderr
    cached = {entry["name"]: entry["from_cache"] for entry in report_of(folder)["stages"]}
    assert cached == {"baseline": True, "finetune": True, "distill": True, "quantize": False}


def test_locked_refuses_what_differs(finished):
    folder, _ = finished
    assert compress("run", "recipe.yaml", cwd=folder).returncode == 0
    assert compress("run", "recipe.yaml", "--locked", cwd=folder).returncode == 0
    refused = compress("run", "recipe.yaml", "--locked", "--set", "seed=3", cwd=folder)
    assert refused.returncode == 2
    assert "seed: is 3, locked is 0" in refused.stderr


def test_several_processes_train_together(write_recipe: WriteRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COMPRESS_SAVE_EVERY_S", "0.2")
    path = write_recipe()
    result = compress_process("run", path.name, "--until", "distill", cwd=tmp_path, together=2)
    assert result.returncode == 0, result.stdout + result.stderr
    report = report_of(tmp_path)
    for name in ("finetune", "distill"):
        assert stage(report, name)["details"]["steps"] == 4 * math.ceil(400 / (2 * 16)), (
            "two processes, twice the batch"
        )
    assert result.stdout.count("All gates pass") == 1, "one of them speaks"
    again = compress_process("run", path.name, "--until", "finetune", "--fresh", cwd=tmp_path, together=2)
    assert again.returncode == 0, again.stdout + again.stderr
    assert not stage(report_of(tmp_path), "finetune")["from_cache"], "all of them forget, and train again"
    plan = compress("plan", path.name, cwd=tmp_path).stdout.splitlines()
    assert "run" in plan[0] and "processes of training changed from 2 to 1" in plan[0]


def test_killed_in_training_goes_on_from_the_last_checkpoint(write_recipe: WriteRecipe, tmp_path: Path):
    path = write_recipe()
    # Long enough to be killed in the middle, with a training checkpoint behind it, here made every half second.
    longer = ("--set", "stages.finetune.max_steps=500", "--until", "finetune")
    command = [sys.executable, "-m", "compressor", "run", path.name, *longer]
    often = {**os.environ, "COMPRESS_SAVE_EVERY_S": "0.5"}
    process = subprocess.Popen(command, cwd=tmp_path, env=often, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    store = tmp_path / "artifacts" / ".store"
    deadline = time.monotonic() + 120
    while not any(store.glob(".work/*/last_checkpoint.json")):
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert "resume" in compress("plan", path.name, *longer[:2], cwd=tmp_path).stdout.splitlines()[0]

    result = compress("run", path.name, *longer, cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    details = stage(report_of(tmp_path), "finetune")["details"]
    assert details["steps"] == 500
    assert details["resumed_from_step"] > 0
    assert not list(store.glob(".work/*/*")), "the training checkpoints are gone once the stage is done"


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_says_so_and_leaves_nothing_half_written(write_recipe: WriteRecipe, tmp_path: Path, sent: int):
    path = write_recipe()
    command = [sys.executable, "-m", "compressor", "run", path.name, "--set", "stages.0.max_steps=100000"]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell starts what runs in its background with Ctrl-C ignored; this is to be as in the foreground.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    log = tmp_path / "artifacts" / "tiny" / "run.log"
    while not log.exists() or "finetune: training" not in log.read_text():
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(sent)
    try:
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "run the same command again" in errors
    assert "Traceback" not in errors
    assert not (tmp_path / "artifacts" / "tiny" / "model").exists()
    assert not list((tmp_path / "artifacts" / ".store" / ".partial").glob("*"))


def test_a_loss_that_is_not_finite_stops_the_stage(write_recipe: WriteRecipe, tmp_path: Path):
    path = write_recipe()
    result = compress("run", path.name, "--set", "stages.0.learning_rate=1e30", cwd=tmp_path)
    assert result.returncode == 3
    assert "the loss is" in result.stderr and "lower learning_rate" in result.stderr
    assert "Traceback" not in result.stdout + result.stderr
    assert compress("run", path.name, "--until", "finetune", cwd=tmp_path).returncode == 0, "a failure is not stored"


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
    assert stage(report, "baseline")["measurements"]["quantized_coverage"]["value"] == 0
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
    assert stage(report, "export")["measurements"]["parity_label_agreement"]["value"] == 1
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
    write_corpus(tmp_path / "corpus.txt")
    path = write_recipe(stages=pretraining_stages())
    recipe = yaml.safe_load(path.read_text())
    path = write_recipe(stages=recipe["stages"], data={**recipe["data"], "corpus": "corpus.txt"})
    result = compress("run", path.name, cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    report = report_of(tmp_path)
    names = ["baseline", "baseline (masked-lm)", "finetune", "lm", "pre", "student", "export"]
    assert [entry["name"] for entry in report["stages"]] == names
    assert [entry["task"] for entry in report["stages"]][3:5] == ["masked-lm", "masked-lm"]
    pretrained = stage(report, "pre")
    assert pretrained["measurements"]["accuracy"]["value"] > 0.2, "many words can be guessed"
    assert pretrained["measurements"]["perplexity"]["value"] < 20
    terms = pretrained["details"]["terms"]
    assert sorted(terms) == ["cosine", "mlm", "soft"]
    assert all(curve[-1][1] < curve[0][1] for curve in terms.values())
    assert len(pretrained["details"]["importance"]) == 2
    assert pretrained["details"]["maskings"] == 2
    parameters = {
        name: stage(report, name)["measurements"]["num_parameters"]["value"] for name in ("baseline", "student")
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
    assert stage(report_of(tmp_path), "export")["measurements"]["parity_label_agreement"]["value"] == 1
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
    details = {name: stage(report, name)["details"] for name in ("pre", "task", "narrow", "ready")}
    assert details["pre"]["steps"] == 8 and details["pre"]["rows"] == 8 * 16, "no more is read than the steps need"
    assert sorted(details["pre"]["terms"]) == ["cosine", "mlm"]
    assert details["task"]["layers"] == [0, 1], "half of the teacher's is what came in, so all of it stays"
    assert details["task"]["layer_map"] == [1, 3]
    for name in ("task", "ready"):
        assert sorted(details[name]["terms"]) == ["attention", "cosine", "hard", "soft"]
    assert details["narrow"]["terms"]["cosine"][-1][1] < details["narrow"]["terms"]["cosine"][0][1]
    assert details["ready"]["layer_map"] == [0, 1, 2, 3]
    narrow, ready = (stage(report, name)["measurements"]["num_parameters"]["value"] for name in ("narrow", "ready"))
    assert narrow < stage(report, "task")["measurements"]["num_parameters"]["value"] / 1.8 < ready
