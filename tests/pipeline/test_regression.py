"""`compress run --baseline RUN`: the last stage held against the model that another run left."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import MAX_POSITIONS, WriteRecipe, for_size, recipe_writer, save_encoder
from problems import kinds, refused
from running import compress

from compressor.errors import ExitCode, RecipeError
from compressor.package import manifest as manifests
from compressor.pipeline import plan as plan_module
from compressor.pipeline import regression
from compressor.recipe.resolve import resolve
from compressor.report import model as reports
from compressor.report.markdown import markdown
from compressor.report.model import Report, StageReport

LABELS = ("negative", "positive")
STAGES: list[dict[str, Any]] = [{"stage": "quantize"}, {"stage": "export", "targets": ["onnx"]}]
LOOSE = "regression={accuracy: {max_drop: 0.5}, latency_p50_ms: {max_ratio: 50}, size_bytes: {max_ratio: 1.5}}"
CHANGED = ("--set", "stages.quantize={stage: quantize, scheme: weight_only_int8, block_size: 16}")


@pytest.fixture(scope="module")
def main(tmp_path_factory: pytest.TempPathFactory, classifier: Path) -> Path:
    """The folder of a run that has shipped, its recipe, data and store two folders up."""
    folder = tmp_path_factory.mktemp("main")
    path = recipe_writer(folder, classifier)(stages=STAGES)
    result = compress("run", path.name, cwd=folder)
    assert result.returncode == 0, result.stdout + result.stderr
    return folder / "artifacts" / "tiny"


@pytest.fixture(scope="module")
def branch(main: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of a run with its recipe, data and store, as a branch has it whose cache was restored."""
    return Path(shutil.copytree(main.parents[1], tmp_path_factory.mktemp("branch") / "copy"))


def run(branch: Path, baseline: Path, *arguments: str) -> tuple[int, Report]:
    result = compress("run", "recipe.yaml", "--baseline", baseline, *arguments, cwd=branch)
    assert "Traceback" not in result.stderr
    return result.returncode, reports.read(branch / "artifacts" / "tiny")


def entry(report: Report) -> StageReport:
    """The comparison, which comes last."""
    assert report.stages[-1].name == report.stages[-1].stage == "regression"
    return report.stages[-1]


def gates(report: Report) -> dict[str, tuple[str, str]]:
    assert all(gate.relative_to == "run" for gate in entry(report).gates)
    return {gate.metric: (gate.rule, gate.verdict) for gate in entry(report).gates}


def test_the_same_model_passes_without_being_measured(branch: Path, main: Path):
    code, report = run(branch, main)
    assert code == ExitCode.PASS
    same = {"accuracy": ("max_drop", "pass"), "latency_p50_ms": ("max_ratio", "pass")}
    assert gates(report) == {**same, "size_bytes": ("max_ratio", "pass")}
    assert [gate.observed for gate in entry(report).gates] == [0, 1, 1]
    assert all(gate.low == gate.high == gate.observed for gate in entry(report).gates), "no noise where nothing differs"
    assert entry(report).from_cache
    assert "same file and tokenizer as the model of run tiny" in markdown(report)


def test_another_model_is_measured_beside_it(branch: Path, main: Path):
    code, report = run(branch, main, *CHANGED, "--set", LOOSE)
    assert code == ExitCode.PASS
    compared = entry(report)
    theirs = {name: found.value for name, found in compared.measurements.items()}
    before = reports.read(main).built[-1].measurements
    for metric in ("accuracy", "f1", "size_bytes", "num_parameters", "quantized_coverage"):
        assert theirs[metric] == before[metric].value, "the same rows, the same file"
    assert not set(theirs) & {"parity_label_agreement"}, "its formats were compared when it was made"
    ours = report.built[-1].measurements
    drop, ratio, size = compared.gates
    assert drop.observed == pytest.approx(theirs["accuracy"] - ours["accuracy"].value)
    assert drop.low < drop.high, "a paired bootstrap over 200 rows"
    assert size.observed == ours["size_bytes"].value / theirs["size_bytes"]
    assert ratio.low < ratio.observed < ratio.high, "timed in turn, in one process"
    assert "speedup" not in compared.details
    assert compared.details["manifest_sha256"] == json.loads((main / "report.json").read_text())["manifest_sha256"]
    assert "| regression | pass |" in markdown(report)

    manifest = manifests.read(branch / "artifacts" / "tiny" / "model")
    assert manifest.measured["size_bytes"] == ours["size_bytes"].value, "what ships is the last stage"
    assert manifests.same(manifest.gates, report.gates)
    assert compress("verify", "artifacts/tiny", cwd=branch).returncode == ExitCode.PASS


def test_its_measurement_is_kept_and_its_gates_are_judged_anew(branch: Path, main: Path):
    _, first = run(branch, main, *CHANGED, "--set", LOOSE)
    code, again = run(branch, main, *CHANGED, "--set", LOOSE)
    assert code == ExitCode.PASS and entry(again).from_cache
    assert entry(again).gates == entry(first).gates

    few = (*CHANGED, "--set", "regression={accuracy: {max_drop: 0.001}}")
    code, report = run(branch, main, *few)
    assert code == ExitCode.INCONCLUSIVE, "200 rows cannot exclude a drop of one in a thousand"
    assert gates(report) == {"accuracy": ("max_drop", "inconclusive")} and entry(report).from_cache
    assert run(branch, main, *few, "--allow-inconclusive")[0] == ExitCode.PASS

    code, report = run(branch, main, *CHANGED, "--set", "regression.latency_p50_ms.min_speedup=100")
    assert code == ExitCode.GATE_FAILED
    assert gates(report) == {"latency_p50_ms": ("min_speedup", "fail")}
    assert report.not_run == [] and report.verdict == "fail"
    assert not (branch / "artifacts" / "tiny" / "model").exists(), "what failed is not left to be shipped"

    code, report = run(branch, main, *CHANGED, "--set", "regression={}")
    assert code == ExitCode.PASS and entry(report).gates == []


def test_fresh_forgets_the_comparison_too(branch: Path, main: Path):
    assert not entry(run(branch, main, *CHANGED, "--set", LOOSE, "--fresh")[1]).from_cache


def test_after_a_failed_gate_nothing_is_compared(branch: Path, main: Path):
    code, report = run(branch, main, "--set", "stages.quantize.gates.size_bytes={max: 1}")
    assert code == ExitCode.GATE_FAILED
    assert report.not_run == ["export", "regression"]


def test_each_model_reads_the_rows_with_its_own_tokenizer(branch: Path, main: Path):
    recipe = yaml.safe_load((branch / "recipe.yaml").read_text())
    trimmed = {"stage": "prune", "vocabulary": {"min_count": 60}, "epochs": 0}
    document = {**recipe, "name": "trimmed", "stages": [trimmed, *for_size(STAGES)]}
    (branch / "trimmed.yaml").write_text(yaml.safe_dump(document))
    result = compress("run", "trimmed.yaml", "--baseline", main, "--set", LOOSE, cwd=branch)
    assert result.returncode == ExitCode.PASS, result.stdout + result.stderr
    report = reports.read(branch / "artifacts" / "trimmed")
    parameters = [stage.measurements["num_parameters"].value for stage in (report.built[-1], entry(report))]
    assert parameters[0] < parameters[1]
    accuracy = reports.read(main).built[-1].measurements["accuracy"].value
    assert entry(report).measurements["accuracy"].value == accuracy, "it was asked in its own tokens"

    result = compress("run", "trimmed.yaml", "--baseline", main, "--until", "prune", cwd=branch)
    assert result.returncode == ExitCode.GATE_FAILED, "a float file is several times as large as an int8 one"
    report = reports.read(branch / "artifacts" / "trimmed")
    assert [stage.name for stage in report.built] == ["prune"], "the last stage that runs is compared"
    assert gates(report)["size_bytes"] == ("max_ratio", "fail")


# What cannot be compared is refused before anything runs.


@pytest.mark.parametrize("name", ["config.json", "onnx/model_quantized.onnx", "manifest.json"])
def test_a_damaged_run_is_refused(main: Path, tmp_path: Path, name: str):
    damaged = Path(shutil.copytree(main, tmp_path / "damaged"))
    content = bytearray((damaged / "model" / name).read_bytes())
    content[len(content) // 2] ^= 1
    (damaged / "model" / name).write_bytes(content)
    with pytest.raises(RecipeError) as error:
        regression.find(damaged, tmp_path)
    where, kind = ("--baseline", "unreadable") if name == "manifest.json" else (name, "changed")
    assert kinds(error.value) == {where: kind}
    assert "--baseline" in str(error.value) and name in str(error.value)
    result = compress("run", main.parents[1] / "recipe.yaml", "--baseline", damaged, cwd=tmp_path)
    assert result.returncode == ExitCode.USAGE and name in result.stderr and "Traceback" not in result.stderr


def test_a_run_is_named_by_its_folder_its_report_or_its_model(main: Path, tmp_path: Path):
    found = {regression.find(main / name, tmp_path).key for name in ("", "report.json", "model")}
    assert len(found) == 1


def test_other_folders_failed_runs_and_the_run_itself_are_refused(main: Path, tmp_path: Path):
    failed = tmp_path / "failed"
    failed.mkdir()
    shutil.copy(main / "report.json", failed)
    for path in (tmp_path / "none", tmp_path, failed):
        with refused("--baseline", "not_found"):
            regression.find(path, tmp_path)
    with refused("--baseline", "conflict"):  # a run would write over the model it is compared with
        regression.find(main, main)


def comparable(recipe: Path, main: Path, *overrides: str, labels: tuple[str, ...] = LABELS, last: int = -1) -> str:
    """Why a plan cannot be compared with another run; nothing if it can."""
    plan = plan_module.make(resolve(recipe, overrides), download=False)
    try:
        regression.check(regression.find(main, recipe), plan, plan.stages[last], labels)
    except RecipeError as error:
        assert kinds(error) == {"--baseline": "conflict"}
        return str(error)
    return ""


def test_models_with_other_labels_and_for_other_runtimes_are_refused(main: Path, write_recipe: WriteRecipe):
    recipe = write_recipe()
    assert comparable(recipe, main) == ""
    said = comparable(recipe, main, labels=("negative", "neutral", "positive"))
    assert "its labels are negative, positive" in said and "negative, neutral, positive" in said
    assert "its labels are" in comparable(recipe, main, labels=LABELS[::-1])
    torchscript = write_recipe(
        measure={"runtime": "torchscript", "sequence_length": 16, "runs": 60},
        stages=[{"stage": "finetune"}, {"stage": "export", "targets": ["torchscript"]}],
    )
    said = comparable(torchscript, main)
    assert "onnx/model_quantized.onnx" in said and "torchscript" in said


def test_language_models_are_compared_with_language_models(main: Path, write_recipe: WriteRecipe, tmp_path: Path):
    (tmp_path / "corpus.txt").write_text("the film was good\n" * 50)
    recipe = write_recipe(task="masked-lm", data={"corpus": "corpus.txt"}, stages=[{"stage": "finetune"}])
    assert "its task is text-classification" in comparable(recipe, main, labels=())
    both: list[dict[str, Any]] = [
        {"stage": "finetune"},
        {"stage": "finetune", "name": "lm", "objective": "pretraining"},
        {"stage": "finetune", "name": "after"},
    ]
    recipe = write_recipe(stages=both)
    data = yaml.safe_load(recipe.read_text())["data"]
    recipe = write_recipe(stages=both, data={**data, "corpus": "corpus.txt"})
    assert "the last stage, lm," in comparable(recipe, main, last=1, labels=())
    assert comparable(recipe, main, last=2) == ""


def test_a_run_in_a_longer_sequence_than_its_model_takes_is_refused(
    main: Path, write_recipe: WriteRecipe, tmp_path: Path
):
    long = save_encoder(tmp_path / "long", max_position_embeddings=4 * MAX_POSITIONS)
    recipe = write_recipe(model=str(long), measure={"sequence_length": 2 * MAX_POSITIONS, "runs": 60})
    said = comparable(recipe, main)
    assert f"{MAX_POSITIONS} tokens" in said and f"{2 * MAX_POSITIONS} are measured" in said


@pytest.mark.parametrize(
    ("value", "where", "named"),
    [
        ("{acuracy: {max_drop: 0.1}}", "regression.acuracy", "'accuracy'"),
        ("{accuracy: {min: 0.1}}", "regression.accuracy", "'min'"),
        ("{accuracy: {max_drop: 0.1, relative_to: previous}}", "regression.accuracy", "'relative_to'"),
        ("{accuracy: {}}", "regression.accuracy", "max_drop, min_retention, min_speedup, max_ratio"),
        ("{size_bytes: {max_drop: 5}}", "regression.size_bytes.max_drop", "allowed: max_ratio"),
        ("{quantized_coverage: {max_drop: 5}}", "regression.quantized_coverage.max_drop", "gate"),
        ("{loss: {max_ratio: 1}}", "regression.loss", "text-classification"),
    ],
)
def test_wrong_regression_gates_are_refused(write_recipe: WriteRecipe, value: str, where: str, named: str):
    with pytest.raises(RecipeError) as error:
        resolve(write_recipe(), (f"regression={value}",))
    (problem,) = error.value.problems
    assert problem.where == where and named in str(problem)


def test_a_stage_cannot_take_the_name_of_the_comparison(write_recipe: WriteRecipe):
    with pytest.raises(RecipeError) as error:
        resolve(write_recipe(), ("stages.0.name=regression",))
    assert [problem.where for problem in error.value.problems] == ["stages[0] (finetune).name"]


def test_left_out_the_main_metric_latency_and_size_are_gated(write_recipe: WriteRecipe):
    found = resolve(write_recipe()).recipe.regression_gates
    assert {name: gate.limits for name, gate in found.items()} == {
        "accuracy": {"max_drop": 0.01},
        "latency_p50_ms": {"max_ratio": 1.1},
        "size_bytes": {"max_ratio": 1.01},
    }
    assert resolve(write_recipe(regression={})).recipe.regression_gates == {}
