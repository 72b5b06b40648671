"""`--baseline RUN`: compares the last stage's model with the model of another run, such as main's.

The numbers in RUN's report are not used: its model is measured again, on this machine, on the same rows, and timed in
turn with the new one. Milliseconds of another machine, or scores on other rows, cannot be compared.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from compressor.errors import CompressError, Problem, RecipeError
from compressor.files import file_digest
from compressor.gates.estimate import Evidence
from compressor.gates.exact import Exact
from compressor.gates.judge import comparisons, judge_measured, overall
from compressor.gates.metrics import ANY_LABEL, metric_of
from compressor.gates.spec import REGRESSION, RegressionGate
from compressor.measure.measurement import deployed_file
from compressor.models.checkpoint import Checkpoint
from compressor.models.loading import load_tokenizer
from compressor.models.tokenizer_files import splitting_digest
from compressor.package import manifest as manifests
from compressor.package.manifest import Manifest
from compressor.pipeline.entry import key_of
from compressor.pipeline.keys import CURRENT
from compressor.pipeline.measuring import CONFIDENCE, Measured, Measurer, measurements
from compressor.pipeline.plan import Plan
from compressor.pipeline.plan_data import score_length
from compressor.pipeline.planned_stage import PlannedStage
from compressor.pipeline.prepared import Prepared
from compressor.report import model as reports
from compressor.report.model import StageReport
from compressor.tasks import MASKED_LM
from compressor.tasks.scoring.per_label import names_of

_OPTION = "--baseline"
_MOST_PROBLEMS = 5


@dataclass(frozen=True)
class OtherRun:
    """A run that was published, and its model.

    Attributes:
        path: The run, as the user named it.
        folder: Its model.
        manifest: The model's manifest.
        digest: SHA-256 of the manifest, which holds those of its files.
    """

    path: Path
    folder: Path
    manifest: Manifest
    digest: str

    @property
    def key(self) -> str:
        """The model's key, as checkpoints in the store have one."""
        return key_of({"kind": "run", "manifest_sha256": self.digest})


def find(path: Path, own: Path) -> OtherRun:
    """Finds another run's model, and checks that its files are those that were published.

    Args:
        path: The run's folder, its report.json, or its `model/`.
        own: The folder of the run that is about to start.

    Raises:
        RecipeError: It is not a run, is damaged, or is the new run's own folder.
    """
    run, folder = manifests.locate(path, _OPTION)
    if folder.resolve() == (own / "model").resolve():
        what = f"{path} is the folder of this run, which replaces the model in it"
        hint = "copy it first, or run with another --artifacts"
        raise RecipeError([Problem(_OPTION, what, hint, kind="conflict")])
    if run is not None and (run / "report.json").is_file() and (until := reports.read(run).until) is not None:
        what = f"{path} is a partial run, which stopped after {until} (--until) and published no model"
        hint = f"run it without --until, or name {folder} for the model of the run before" if folder.exists() else ""
        raise RecipeError([Problem(_OPTION, what, hint or "run it without --until", kind="not_found")])
    if not folder.exists():
        what = f"{path} has no model/: a gate of that run failed"
        raise RecipeError([Problem(_OPTION, what, "name a run that passed", kind="not_found")])
    try:
        manifest = manifests.read(folder)
    except CompressError as error:
        raise RecipeError([Problem(_OPTION, str(error), kind="unreadable")]) from None
    if wrong := manifests.check_files(folder, manifest.files):
        problems = [Problem(check.subject, check.message, kind="changed") for check in wrong[:_MOST_PROBLEMS]]
        raise RecipeError(problems, f"{_OPTION}: {folder} differs from its manifest")
    return OtherRun(path, folder, manifest, file_digest(folder / manifests.NAME))


def check(run: OtherRun, plan: Plan, last: PlannedStage, labels: tuple[str, ...]) -> None:
    """Checks that another run's model can be compared with the result of a plan.

    Args:
        run: The other run.
        plan: The plan.
        last: Its last stage that runs.
        labels: Names of the head's outputs, in order.

    Raises:
        RecipeError: It cannot.
    """
    recipe, checkpoint = plan.resolved.recipe, Checkpoint(run.folder)
    found: list[tuple[str, str]] = []
    length = max(recipe.measure.sequence_length, score_length(recipe) if recipe.task == MASKED_LM else 0)
    if last.task != recipe.task:
        what = f"the last stage, {last.name}, is a {last.task} model"
        found.append((what, f"run until a stage whose task is {recipe.task}"))
    elif run.manifest.task != recipe.task:
        found.append((f"its task is {run.manifest.task}, the recipe's {recipe.task}", "name a run of the same task"))
    elif labels and checkpoint.labels != list(labels):
        there, here = ", ".join(checkpoint.labels), ", ".join(labels)
        found.append((f"its labels are {there}; the recipe's are {here}", "name a run with the same labels"))
    elif recipe.task == MASKED_LM and _splitting(run.folder) != _splitting(plan.model):
        what = "its tokenizer splits texts differently, so it would guess other tokens"
        found.append((what, "name a run that started with the same tokenizer"))
    if checkpoint.max_position_embeddings < length:
        what = f"its model takes at most {checkpoint.max_position_embeddings} tokens, and {length} are measured"
        found.append((what, "lower measure.sequence_length"))
    if run.manifest.file is not None and deployed_file(run.folder, recipe.measure.runtime) is None:
        what = f"it ships {run.manifest.file}, which {recipe.measure.runtime} cannot run"
        found.append((what, "name a run that was measured in the same runtime"))
    if found:
        problems = [Problem(_OPTION, f"{run.path}: {what}", hint, kind="conflict") for what, hint in found]
        raise RecipeError(problems)


def _splitting(folder: Path | None) -> str:
    """Digest of how a checkpoint's tokenizer splits texts."""
    assert folder is not None, "a run has its model"
    return splitting_digest(load_tokenizer(folder))


def compare(
    run: OtherRun,
    stage: PlannedStage,
    measured: Measured,
    gates: Mapping[str, RegressionGate],
    measurer: Measurer,
    prepared: Prepared,
) -> StageReport:
    """Measures another run's model in turn with a stage's, and judges the stage by it.

    Args:
        run: The other run.
        stage: The stage.
        measured: The stage's measurement.
        gates: The recipe's regression gates, by metric.
        measurer: Measures.
        prepared: The rows that both are scored on.

    Returns:
        An entry of the report: measurements of the other run's model, and the verdict on the stage.
    """
    start = time.monotonic()
    name = f"run {run.manifest.recipe} (manifest {run.digest[:12]})"
    notes = [f"this row is the model of {name}, measured again; the gates compare {stage.name} with it."]
    theirs: Mapping[str, Evidence]
    ours: Mapping[str, Evidence]
    if measurer.same(run.key, stage.key):
        # The same bytes give the same answers at the same speed: a sample of either would only add noise.
        notes = [f"{stage.name} has the same file and tokenizer as the model of {name}: nothing was measured again."]
        shown, from_cache = measurements(measured.evidence), True
        theirs = {
            metric: Exact(evidence.estimate(CONFIDENCE).value, evidence.n)
            for metric, evidence in measured.evidence.items()
        }
        ours = theirs
    else:
        other = measurer.measure(REGRESSION, stage.regression_inputs(run.key), prepared, parity=False)
        theirs, ours = other.evidence, other.references[CURRENT]
        shown, from_cache = measurements(theirs), other.from_cache
    single = [metric for metric in gates if metric_of(metric).label != ANY_LABEL]
    if absent := sorted(metric for metric in single if metric not in ours or metric not in theirs):
        what = "is not measured of both models"
        raise RecipeError(
            [Problem(f"{REGRESSION}.{metric}", what, "remove the gate", kind="unsupported") for metric in absent]
        )
    noisy = comparisons([gates], len(names_of(prepared.task, prepared.labels)))
    results = [
        result
        for metric, gate in gates.items()
        for result in judge_measured(metric, gate, ours, {gate.relative_to: theirs}, noisy)
    ]
    return StageReport(
        name=REGRESSION,
        stage=REGRESSION,
        task=stage.task,
        verdict=overall([result.verdict for result in results]),
        seconds=round(time.monotonic() - start, 2),
        from_cache=from_cache,
        measurements=shown,
        gates=results,
        details={"run": run.manifest.recipe, "manifest_sha256": run.digest, "notes": notes},
    )
