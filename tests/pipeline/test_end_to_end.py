"""A real recipe through the real command, as a user or a CI job runs it.

What is about processes runs in processes of its own: the whole recipe once, with all that measures it, terminals,
signals, kills and torchrun. The rest runs in the tests' process.
"""

from __future__ import annotations

import contextlib
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from conftest import WriteRecipe, recipe_writer, sentences
from running import compress, compress_process, report_of, stage_of
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from compressor.files import file_digest


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
    assert stage_of(report, "baseline")["measurements"]["accuracy"]["n"] == 200
    assert stage_of(report, "distill")["details"]["layers"] == [0, 2]
    assert len(stage_of(report, "distill")["details"]["loss"]) > 5


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
    quantized, baseline = (stage_of(report, name)["measurements"] for name in ("quantize", "baseline"))
    assert baseline["quantized_coverage"]["value"] == 0
    assert quantized["quantized_coverage"]["value"] == 1
    assert quantized["num_parameters"]["value"] < baseline["num_parameters"]["value"]
    gates = {(gate["metric"], gate["rule"]) for gate in stage_of(report, "quantize")["gates"]}
    assert ("quantized_coverage", "min") in gates, "it is gated even though the recipe does not ask for it"


def test_formats_agree_with_torch_on_every_row(finished):
    measured = stage_of(report_of(finished[0]), "export")["measurements"]
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
    failed = [gate for gate in stage_of(report, "distill")["gates"] if gate["verdict"] == "fail"]
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
