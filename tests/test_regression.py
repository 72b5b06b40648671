"""`compress run --baseline RUN`: the last stage held against the model that another run left."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import WriteRecipe, compress

from compressor import manifest as manifests
from compressor import plan as planning
from compressor import regression
from compressor.errors import ExitCode, RecipeError
from compressor.report import model as reports
from compressor.report import text
from compressor.report.model import Report, StageReport
from compressor.validate import resolve

LABELS = ("negative", "positive")
LOOSE = "regression={accuracy: {max_drop: 0.5}, latency_p50_ms: {max_ratio: 50}, size_bytes: {max_ratio: 1.01}}"
ANOTHER_SEED = ("--set", "seed=3", "--set", LOOSE)


@pytest.fixture(scope="module")
def branch(published: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of a run with its recipe, data and store, as a branch has it whose cache was restored."""
    return Path(shutil.copytree(published.parents[1], tmp_path_factory.mktemp("branch") / "copy"))


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


def refused(path: Path, own: Path) -> str:
    with pytest.raises(RecipeError) as error:
        regression.find(path, own)
    return str(error.value)


def test_the_same_model_passes_without_being_measured(branch: Path, published: Path):
    code, report = run(branch, published)
    assert code == ExitCode.PASS
    same = {"accuracy": ("max_drop", "pass"), "latency_p50_ms": ("max_ratio", "pass")}
    assert gates(report) == {**same, "size_bytes": ("max_ratio", "pass")}
    assert [gate.observed for gate in entry(report).gates] == [0, 1, 1]
    assert all(gate.low == gate.high == gate.observed for gate in entry(report).gates), "no noise where nothing differs"
    assert entry(report).from_cache
    assert "same file and tokenizer as the model of run tiny" in text.markdown(report)


def test_another_model_is_measured_beside_it(branch: Path, published: Path):
    code, report = run(branch, published, *ANOTHER_SEED)
    assert code == ExitCode.PASS
    compared = entry(report)
    theirs = {name: found.value for name, found in compared.measurements.items()}
    before = reports.read(published).built[-1].measurements
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
    assert compared.details["manifest_sha256"] == json.loads((published / "report.json").read_text())["manifest_sha256"]
    assert "| regression | pass |" in text.markdown(report)

    manifest = manifests.read(branch / "artifacts" / "tiny" / "model")
    assert manifest.measured["size_bytes"] == ours["size_bytes"].value, "what ships is the last stage"
    assert manifests.same(manifest.gates, report.gates)
    assert compress("verify", "artifacts/tiny", cwd=branch).returncode == ExitCode.PASS


def test_its_measurement_is_kept_and_its_gates_are_judged_anew(branch: Path, published: Path):
    _, first = run(branch, published, *ANOTHER_SEED)
    code, again = run(branch, published, *ANOTHER_SEED)
    assert code == ExitCode.PASS and entry(again).from_cache
    assert entry(again).gates == entry(first).gates

    few = ("--set", "regression={accuracy: {max_drop: 0.001}}", "--set", "seed=3")
    code, report = run(branch, published, *few)
    assert code == ExitCode.INCONCLUSIVE, "200 rows cannot exclude a drop of one in a thousand"
    assert gates(report) == {"accuracy": ("max_drop", "inconclusive")} and entry(report).from_cache
    assert run(branch, published, *few, "--allow-inconclusive")[0] == ExitCode.PASS

    code, report = run(branch, published, "--set", "regression.latency_p50_ms.min_speedup=100", "--set", "seed=3")
    assert code == ExitCode.GATE_FAILED
    assert gates(report) == {"latency_p50_ms": ("min_speedup", "fail")}
    assert report.not_run == [] and report.verdict == "fail"
    assert not (branch / "artifacts" / "tiny" / "model").exists(), "what failed is not left to be shipped"

    code, report = run(branch, published, "--set", "regression={}", "--set", "seed=3")
    assert code == ExitCode.PASS and entry(report).gates == []


def test_fresh_forgets_the_comparison_too(branch: Path, published: Path):
    assert not entry(run(branch, published, *ANOTHER_SEED, "--fresh")[1]).from_cache


def test_until_compares_the_last_stage_that_runs(branch: Path, published: Path):
    code, report = run(branch, published, "--until", "finetune")
    assert code == ExitCode.GATE_FAILED, "a float file is four times as large as an int8 one"
    assert gates(report)["size_bytes"] == ("max_ratio", "fail")
    assert [stage.name for stage in report.built] == ["finetune"]


def test_after_a_failed_gate_nothing_is_compared(branch: Path, published: Path):
    code, report = run(branch, published, "--set", "stages.quantize.gates.accuracy.min=1.1")
    assert code == ExitCode.GATE_FAILED
    assert report.not_run == ["export", "regression"]


def test_each_model_reads_the_rows_with_its_own_tokenizer(branch: Path, published: Path, write_recipe: WriteRecipe):
    recipe = yaml.safe_load((branch / "recipe.yaml").read_text())
    trimmed = {"stage": "prune", "vocabulary": {"min_count": 1}, "epochs": 0}
    stages = [recipe["stages"][0], trimmed, *recipe["stages"][1:]]
    (branch / "trimmed.yaml").write_text(yaml.safe_dump({**recipe, "name": "trimmed", "stages": stages}))
    result = compress("run", "trimmed.yaml", "--baseline", published, "--set", LOOSE, cwd=branch)
    assert result.returncode == ExitCode.PASS, result.stdout + result.stderr
    report = reports.read(branch / "artifacts" / "trimmed")
    parameters = [stage.measurements["num_parameters"].value for stage in (report.built[-1], entry(report))]
    assert parameters[0] < parameters[1]
    accuracy = reports.read(published).built[-1].measurements["accuracy"].value
    assert entry(report).measurements["accuracy"].value == accuracy, "it was asked in its own tokens"


# What cannot be compared is refused before anything runs.


@pytest.mark.parametrize("name", ["config.json", "onnx/model_quantized.onnx", "manifest.json"])
def test_a_damaged_run_is_refused(published: Path, tmp_path: Path, name: str):
    damaged = Path(shutil.copytree(published, tmp_path / "damaged"))
    content = bytearray((damaged / "model" / name).read_bytes())
    content[len(content) // 2] ^= 1
    (damaged / "model" / name).write_bytes(content)
    said = refused(damaged, tmp_path)
    assert "--baseline" in said and name in said and "make" in said
    result = compress("run", published.parents[1] / "recipe.yaml", "--baseline", damaged, cwd=tmp_path)
    assert result.returncode == ExitCode.USAGE and name in result.stderr and "Traceback" not in result.stderr


def test_a_run_is_named_by_its_folder_its_report_or_its_model(published: Path, tmp_path: Path):
    found = {regression.find(published / name, tmp_path).key for name in ("", "report.json", "model")}
    assert len(found) == 1


def test_what_is_no_run_is_refused(published: Path, tmp_path: Path):
    assert "is no folder" in refused(tmp_path / "none", tmp_path)
    assert "neither manifest.json nor report.json" in refused(tmp_path, tmp_path)
    failed = tmp_path / "failed"
    failed.mkdir()
    shutil.copy(published / "report.json", failed)
    assert "a run whose gate fails leaves none; give one that passed" in refused(failed, tmp_path)
    assert "copy it first" in refused(published, published), "a run would write over what it is compared with"


def comparable(recipe: Path, published: Path, *overrides: str, labels: tuple[str, ...] = LABELS, last: int = -1) -> str:
    """What a plan is told of another run; nothing if they can be compared."""
    plan = planning.make(resolve(recipe, overrides), download=False)
    try:
        regression.check(regression.find(published, recipe), plan, plan.steps[last], labels)
    except RecipeError as error:
        return str(error)
    return ""


def test_models_of_other_tasks_labels_lengths_and_runtimes_are_refused(
    published: Path, write_recipe: WriteRecipe, tmp_path: Path
):
    recipe = write_recipe()
    assert comparable(recipe, published) == ""
    said = comparable(recipe, published, labels=("negative", "neutral", "positive"))
    assert "its labels are negative, positive; here they are negative, neutral, positive" in said
    assert "its labels are" in comparable(recipe, published, labels=LABELS[::-1])
    torchscript = write_recipe(
        measure={"runtime": "torchscript", "sequence_length": 16, "runs": 60},
        stages=[{"stage": "finetune"}, {"stage": "export", "targets": ["torchscript"]}],
    )
    assert comparable(torchscript, published) == "", "it has that format"
    shutil.copytree(published, tmp_path / "less")
    shutil.rmtree(tmp_path / "less" / "model" / "torchscript")
    manifest = manifests.read(tmp_path / "less" / "model")
    files = {name: found for name, found in manifest.files.items() if not name.startswith("torchscript")}
    manifests.Manifest(**{**vars(manifest), "files": files}).write(tmp_path / "less" / "model")
    said = comparable(torchscript, tmp_path / "less")
    assert "it ships onnx/model_quantized.onnx, which torchscript does not run" in said


def test_language_models_are_compared_with_language_models(published: Path, write_recipe: WriteRecipe, tmp_path: Path):
    (tmp_path / "corpus.txt").write_text("the film was good\n" * 50)
    recipe = write_recipe(task="masked-lm", data={"corpus": "corpus.txt"}, stages=[{"stage": "finetune"}])
    assert "its task is text-classification, the recipe's masked-lm" in comparable(recipe, published, labels=())
    both: list[dict[str, Any]] = [
        {"stage": "finetune"},
        {"stage": "finetune", "name": "lm", "objective": "pretraining"},
        {"stage": "finetune", "name": "after"},
    ]
    recipe = write_recipe(stages=both)
    data = yaml.safe_load(recipe.read_text())["data"]
    recipe = write_recipe(stages=both, data={**data, "corpus": "corpus.txt"})
    assert "the last stage, lm, is masked-lm" in comparable(recipe, published, last=1, labels=())
    assert comparable(recipe, published, last=2) == ""


def test_a_run_in_a_longer_sequence_than_its_model_takes_is_refused(
    published: Path, write_recipe: WriteRecipe, tmp_path: Path
):
    from conftest import MAX_POSITIONS, save_encoder

    long = save_encoder(tmp_path / "long", max_position_embeddings=4 * MAX_POSITIONS)
    recipe = write_recipe(model=str(long), measure={"sequence_length": 2 * MAX_POSITIONS, "runs": 60})
    said = comparable(recipe, published)
    assert f"its model takes {MAX_POSITIONS} tokens, and {2 * MAX_POSITIONS} are measured" in said


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("{acuracy: {max_drop: 0.1}}", "regression.acuracy: unknown metric 'acuracy'; did you mean 'accuracy'?"),
        ("{accuracy: {min: 0.1}}", "regression.accuracy: unknown key 'min'"),
        ("{accuracy: {max_drop: 0.1, relative_to: previous}}", "unknown key 'relative_to'"),
        ("{accuracy: {}}", "no rule; give at least one of max_drop, min_retention, min_speedup, max_ratio"),
        ("{size_bytes: {max_drop: 5}}", "max_drop makes no sense for size_bytes; allowed: max_ratio"),
        ("{quantized_coverage: {max_drop: 5}}", "max_drop makes no sense for quantized_coverage; drop the gate"),
        ("{loss: {max_ratio: 1}}", "'loss' is not measured in text-classification"),
    ],
)
def test_wrong_regression_gates_are_told(write_recipe: WriteRecipe, value: str, message: str):
    with pytest.raises(RecipeError) as error:
        resolve(write_recipe(), (f"regression={value}",))
    assert message in str(error.value)


def test_a_stage_cannot_take_the_name_of_the_comparison(write_recipe: WriteRecipe):
    with pytest.raises(RecipeError, match="'regression' names the comparison with another run"):
        resolve(write_recipe(), ("stages.0.name=regression",))


def test_left_out_the_main_metric_latency_and_size_are_gated(write_recipe: WriteRecipe):
    found = resolve(write_recipe()).recipe.regression_gates
    assert {name: gate.limits for name, gate in found.items()} == {
        "accuracy": {"max_drop": 0.01},
        "latency_p50_ms": {"max_ratio": 1.1},
        "size_bytes": {"max_ratio": 1.01},
    }
    assert resolve(write_recipe(regression={})).recipe.regression_gates == {}
