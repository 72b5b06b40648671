"""Every file that ships is measured and can be gated; integers that are slower than floats fail a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import WriteRecipe, recipe_writer, share_store
from running import compress

from compressor.errors import Problem, RecipeError
from compressor.gates.judge import judge
from compressor.gates.spec import FLOAT
from compressor.gates.timings import Timings
from compressor.measure import formats
from compressor.measure.client import DISTURBED, PROCESSES
from compressor.measure.token_rows import REFERENCES_FILE, TokenRows
from compressor.recipe.resolve import resolve
from compressor.runtimes.shipped import Format
from compressor.stages.export import ExportSpec

TRAIN = {"stage": "finetune", "epochs": 4, "batch_size": 16, "learning_rate": 3e-3, "max_sequence_length": 24}
QUANTIZE = {"stage": "quantize"}
THREE = {"stage": "quantize", "scheme": ["dynamic_int8", "weight_only_int4", "fp16"]}
SPEEDUP = {"min_speedup": 1, "relative_to": "float"}
PRECISIONS = {"onnx": "float32", "onnx_int8": "int8", "onnx_int4": "int4", "onnx_fp16": "fp16"}
FIXED = {f"{name}_16": precision for name, precision in PRECISIONS.items()}
PRECISIONS |= dict.fromkeys(["torchscript", "ort", "onnx_with_tokenizer"], "int8")
PRECISIONS |= FIXED


def export(**keys: Any) -> dict[str, Any]:
    return {"stage": "export", "targets": ["onnx", "torchscript", "ort"], "tokenizer": "baked", **keys}


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> tuple[Path, dict[str, Any], str]:
    """A run that ships eleven files, with a gate of one of them that it misses by far."""
    folder = tmp_path_factory.mktemp("formats")
    share_store(folder)
    gates = {
        "onnx_int8.accuracy": {"min": 0.5},
        "onnx_with_tokenizer.accuracy": {"min_retention": 0.5},
        "ort.latency_p50_ms": {"max": 1000, "min_speedup": 0.001},
        "torchscript.latency_p95_ms": {"max": 1000},
        "torchscript.parity_label_agreement": {"min": 0.9},
        "torchscript.peak_rss_bytes": {"max": 1e12},
        "onnx_int8.latency_p50_ms": {"min_speedup": 0.001, "relative_to": "float"},
        "onnx_int8.parity_padded_max_abs_diff": {"max": 0.03},
        "ort.size_bytes": {"max": 10},
        "partitions[coreml]": {"max": 40},
        "onnx_16.partitions[coreml]": {"max": 3},
        "onnx_16.nodes[coreml]": {"min": 0.9},
        "onnx_16.parity_max_abs_diff": {"max": 1e-4},
        "onnx_int8_16.parity_padded_label_agreement": {"min": 1},
    }
    path = recipe_writer(folder, encoder)(stages=[TRAIN, THREE, export(gates=gates, fixed_lengths=[16])])
    result = compress("run", path.name, cwd=folder)
    assert result.returncode == 1, result.stdout + result.stderr
    return folder, json.loads((folder / "artifacts/tiny/report.json").read_text()), result.stdout


def test_every_file_is_measured(shipped: tuple[Path, dict[str, Any], str]):
    _, report, _ = shipped
    found = {entry["name"]: entry for entry in report["formats"]}
    assert {name: entry["precision"] for name, entry in found.items()} == PRECISIONS
    deployed = report["stages"][-1]["measurements"]
    for name, entry in found.items():
        measured = entry["measurements"]
        assert ("partitions[nnapi]" in measured) == (name.startswith("onnx") and name != "onnx_with_tokenizer")
        if name in FIXED:
            assert "accuracy" not in measured, "the answers of the graph of free sizes, as parity says"
            assert {"latency_p50_ms", "size_bytes", "peak_rss_bytes"} <= set(measured) and entry["ran"] is True
            continue
        assert {"accuracy", "f1", "latency_p50_ms", "latency_p95_ms", "size_bytes", "peak_rss_bytes"} <= set(measured)
        assert measured["accuracy"]["n"] == 200 and entry["rows"] is None and entry["ran"] is True
        assert measured["latency_p50_ms"]["value"] > 0
        assert (entry["speedup_over_float"] is not None) == (name in ("onnx_int8", "onnx_int4", "torchscript", "ort"))
    assert found["onnx_int8"]["measurements"]["size_bytes"] == deployed["size_bytes"]
    for name in ("onnx_int8", "ort", "onnx_with_tokenizer"):
        assert found[name]["measurements"]["accuracy"] == deployed["accuracy"], "the same integers"
    assert found["torchscript"]["parity"]["against"] == "onnx/model_quantized.onnx"
    assert found["onnx_int8"]["parity"] == {}, "others are held against it"
    padded = {"parity_padded_label_agreement": 1, "parity_padded_max_abs_diff": pytest.approx(0, abs=0.03)}
    for name, entry in found.items():
        given = {metric: entry["measurements"][metric]["value"] for metric in padded if metric in entry["measurements"]}
        others = ("onnx", "onnx_16", "onnx_with_tokenizer")
        assert given == ({} if name in others else padded), name
    fixed = found["onnx_int8_16"]["measurements"]
    assert deployed["partitions[coreml]"] == fixed["partitions[coreml]"], "of the deployed graph, its fixed form"
    assert found["onnx_16"]["parity"]["against"] == "onnx/model.onnx, unpadded"


def test_files_are_gated_by_name(shipped: tuple[Path, dict[str, Any], str]):
    _, report, _ = shipped
    verdicts = {(gate["metric"], gate["rule"]): gate for gate in report["stages"][-1]["gates"]}
    assert verdicts["ort.size_bytes", "max"]["verdict"] == "fail"
    assert [key for key, gate in verdicts.items() if gate["verdict"] == "fail"] == [("ort.size_bytes", "max")]
    assert verdicts["onnx_int8.latency_p50_ms", "min_speedup"]["relative_to"] == "float"
    assert {entry["name"]: entry["verdict"] for entry in report["formats"]}["ort"] == "fail"


def test_every_form_of_the_report_shows_them(shipped: tuple[Path, dict[str, Any], str]):
    folder, report, printed = shipped
    pages = [(folder / "artifacts/tiny" / name).read_text() for name in ("report.md", "report.html")]
    for entry in report["formats"]:
        assert entry["name"] in printed and all(entry["name"] in page for page in pages)
    assert all("Core ML would take 9" in page and "the nodes of onnx_16, in pieces: 1" in page for page in pages)
    assert "ort.size_bytes" in (folder / "artifacts/tiny/junit.xml").read_text()


def problems(path: Path) -> list[Problem]:
    with pytest.raises(RecipeError) as caught:
        resolve(path)
    return caught.value.problems


@pytest.mark.parametrize(
    ("stages", "gate", "kind"),
    [
        ([TRAIN, QUANTIZE, export()], {"onnx_int4.accuracy": {"min": 0.5}}, "unknown"),
        (
            [TRAIN, THREE, export()],
            {"onnx_fp16.latency_p50_ms": SPEEDUP},
            "conflict",
        ),
        ([TRAIN, export()], {"onnx_int8.accuracy": {"min": 0.5}}, "unknown"),
        ([TRAIN, QUANTIZE, export()], {"executorch.latency_p50_ms": {"max": 5}}, "unknown"),
        ([TRAIN, QUANTIZE, export()], {"onnx_int8.num_parameters": {"max": 5}}, "unknown"),
        ([TRAIN, QUANTIZE, export()], {"onnx_int8.spearman": {"min": 0.5}}, "unknown"),
        ([TRAIN, QUANTIZE, export()], {"onnx.parity_padded_max_abs_diff": {"max": 0.03}}, "unknown"),
        ([TRAIN, export()], {"parity_padded_max_abs_diff": {"max": 0.03}}, "conflict"),
        ([TRAIN, export(fixed_lengths=[16])], {"onnx_32.size_bytes": {"max": 5}}, "unknown"),
        ([TRAIN, export(fixed_lengths=[16])], {"onnx_16.accuracy": {"min": 0.5}}, "unknown"),
        ([TRAIN, export()], {"torchscript.partitions[coreml]": {"max": 2}}, "unknown"),
        ([TRAIN, {"stage": "export", "targets": ["torchscript"]}], {"partitions[coreml]": {"max": 2}}, "conflict"),
        ([TRAIN, QUANTIZE, export()], {"onnx_int8.accuracy": {"min": 95}}, "value"),
        ([TRAIN, QUANTIZE, export()], {"onnx_int8.accuracy": {"min_speedup": 1}}, "conflict"),
        ([TRAIN, QUANTIZE, export()], {"onnx.latency_p50_ms": {"min_speedup": 1, "relative_to": "float"}}, "conflict"),
        ([TRAIN, QUANTIZE, export()], {"latency_p50_ms": {"min_speedup": 1, "relative_to": "float"}}, "conflict"),
    ],
)
def test_gates_that_no_file_has_are_refused(write_recipe: WriteRecipe, stages: list[Any], gate: Any, kind: str):
    path = write_recipe(stages=[*stages[:-1], {**stages[-1], "gates": gate}])
    (found,) = problems(path)
    assert found.kind == kind and ".gates." in found.where


def test_size_only_names_files_that_ship(write_recipe: WriteRecipe):
    (found,) = problems(write_recipe(stages=[TRAIN, QUANTIZE, export(size_only=["torchscript", "onnx_int4"])]))
    assert (found.kind, found.where) == ("unknown", "stages[2] (export).size_only")


@pytest.mark.parametrize(
    ("lengths", "targets", "kind"),
    [
        ([16, 16], ["onnx"], "value"),
        ([0], ["onnx"], "value"),
        ([16, 49], ["onnx"], "value"),
        ([16], ["torchscript"], "conflict"),
    ],
)
def test_fixed_lengths_that_no_graph_can_have_are_refused(
    write_recipe: WriteRecipe, lengths: list[int], targets: list[str], kind: str
):
    export = {"stage": "export", "targets": targets, "fixed_lengths": lengths}
    (found,) = problems(write_recipe(stages=[TRAIN, export]))
    assert found.kind == kind and found.where.startswith("stages[1] (export).fixed_lengths")


def test_each_precision_has_a_file_of_its_own(write_recipe: WriteRecipe):
    assert problems_of_scheme(write_recipe, ["dynamic_int8", "weight_only_int4", "fp16"]) == []
    for wrong in (["dynamic_int8", "weight_only_int8"], ["fp16", "fp16"], [], ["int3"], ["dynamic_int8", "int3"]):
        assert problems_of_scheme(write_recipe, wrong), wrong
    assert (
        problems_of_scheme(write_recipe, ["dynamic_int8", "weight_only_int4"], block_size=64, reduce_range=True) == []
    )
    assert problems_of_scheme(write_recipe, ["weight_only_int4", "fp16"], reduce_range=True), "of neither"


def problems_of_scheme(write: WriteRecipe, schemes: list[str], **keys: Any) -> list[Problem]:
    try:
        resolve(write(stages=[TRAIN, {"stage": "quantize", "scheme": schemes, **keys}, export()]))
    except RecipeError as error:
        return error.problems
    return []


def test_only_files_that_ship_have_a_name(write_recipe: WriteRecipe):
    (found,) = problems(write_recipe(stages=[{**TRAIN, "gates": {"onnx.accuracy": {"min": 0.5}}}]))
    assert found.kind == "conflict"


def test_integers_have_to_be_faster_than_floats():
    spec = ExportSpec(stage="export", targets=("onnx", "torchscript", "executorch"), tokenizer="baked")
    gates = spec.file_gates({"int8": False, "fp16": False})
    assert {"onnx_int8.latency_p50_ms", "torchscript.latency_p50_ms"} <= set(gates)
    assert not any(name.startswith(("onnx_fp16", "onnx_with_tokenizer", "onnx.")) for name in gates)
    assert spec.file_gates({}) == {} and spec.file_gates({"int8": True}) == {}, "for its size"
    assert spec.model_copy(update={"size_only": True}).file_gates({"int8": False}) == {}
    some = spec.model_copy(update={"size_only": ("torchscript", "executorch")}).file_gates({"int8": False})
    assert list(some) == ["onnx_int8.latency_p50_ms"]

    gate = some["onnx_int8.latency_p50_ms"]
    random = np.random.default_rng(0)
    times = {speed: Timings(random.normal(speed, 0.01, 200), 0.5, (50,) * 4) for speed in (1.0, 0.5, 1.5)}
    floats = Timings(random.normal(1, 0.01, 200), 0.5, (50,) * 4)
    verdicts = {
        speed: judge("onnx_int8.latency_p50_ms", gate, times[speed], {FLOAT: floats})[0].verdict for speed in times
    }
    assert verdicts == {1.0: "inconclusive", 0.5: "pass", 1.5: "fail"}


def test_a_slow_file_answers_a_sample_of_the_rows(tmp_path: Path):
    TokenRows.of([{"input_ids": [1, 2]}] * 100, 0).save(tmp_path / "rows.npz")
    form = Format("onnx", "onnxruntime", Path("onnx/model.onnx"))

    def asked(milliseconds: float, batch_size: int = 1, **references: Any) -> list[int] | None:
        times = {"format:onnx": np.full(60, milliseconds), PROCESSES: np.array([60])}
        np.savez(tmp_path / "latency.npz", **times, **{DISTURBED: np.array("")})
        np.savez(tmp_path / REFERENCES_FILE, **references)
        return formats.sampled(tmp_path, form, tmp_path / "rows.npz", batch_size)

    labels = np.arange(100)
    assert asked(10, labels=labels) is None
    some = asked(6000, labels=labels)
    assert some is not None and len(some) == 10 and (some[0], some[-1]) == (0, 99)
    assert len(asked(6000, batch_size=4, labels=labels) or ()) == 40, "a call answers four"
    assert formats.taken({"labels": labels}, some)["labels"].tolist() == some
    assert asked(6000, labels=labels, counts=np.ones(40)) is None, "a question has several rows"
