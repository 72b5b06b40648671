"""`--baseline RUN`: the model that another run left, such as main's, and whether this run's last stage is as good.

Nothing that RUN's report says is compared: its model is measured again, here and now, on the same rows and in turn with
the new one. Another machine's milliseconds, or another day's rows, would tell nothing.
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
from compressor.gates.judge import judge, overall
from compressor.gates.spec import REGRESSION, RegressionGate
from compressor.measure.measurement import deployed_file
from compressor.models.checkpoint import Checkpoint, splitting_digest
from compressor.models.loading import load_tokenizer
from compressor.package import manifest as manifests
from compressor.package.manifest import Manifest
from compressor.pipeline.keys import CURRENT
from compressor.pipeline.measuring import CONFIDENCE, Measured, Measurer, measurements
from compressor.pipeline.plan import Plan, PlannedStage, run_measure, score_length
from compressor.pipeline.prepared import Prepared
from compressor.pipeline.store import key_of
from compressor.report.model import StageReport
from compressor.tasks import MASKED_LM

_OPTION = "--baseline"
_MOST_PROBLEMS = 5


@dataclass(frozen=True)
class OtherRun:
    """The model that another run left.

    Attributes:
        path: The run, as it was named.
        folder: The model.
        manifest: What it says of itself.
        digest: SHA-256 of its manifest, which holds those of its files.
    """

    path: Path
    folder: Path
    manifest: Manifest
    digest: str

    @property
    def key(self) -> str:
        """Stands for the model where others have their key in the store."""
        return key_of({"kind": "run", "manifest_sha256": self.digest})


def find(path: Path, own: Path) -> OtherRun:
    """The model of another run, if all its files are what was published.

    Args:
        path: The run's folder, its report.json, or its `model/`.
        own: The folder of the run that is about to start.

    Raises:
        RecipeError: It is no such folder, is damaged, or is the new run's own.
    """
    _, folder = manifests.locate(path, _OPTION)
    if folder.resolve() == (own / "model").resolve():
        what = f"{path} is where this run leaves its own model, or none if a gate fails"
        raise RecipeError([Problem(_OPTION, what, "copy it first, or run with another --artifacts")])
    if not folder.exists():
        what = f"{path} has no model/: a run whose gate fails leaves none"
        raise RecipeError([Problem(_OPTION, what, "give one that passed")])
    try:
        manifest = manifests.read(folder)
    except CompressError as error:
        raise RecipeError([Problem(_OPTION, str(error))]) from None
    if wrong := manifests.check_files(folder, manifest.files):
        problems = [Problem(check.subject, check.told) for check in wrong[:_MOST_PROBLEMS]]
        raise RecipeError(problems, f"{_OPTION}: {folder} is not what was published")
    return OtherRun(path, folder, manifest, file_digest(folder / manifests.NAME))


def check(run: OtherRun, plan: Plan, last: PlannedStage, labels: tuple[str, ...]) -> None:
    """Whether another run's model can be compared with what a plan makes.

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
        found.append((f"the last stage, {last.name}, is {last.task}", f"run until one that is {recipe.task}"))
    elif run.manifest.task != recipe.task:
        found.append((f"its task is {run.manifest.task}, the recipe's {recipe.task}", "give a run of the same task"))
    elif labels and checkpoint.labels != list(labels):
        there, here = ", ".join(checkpoint.labels), ", ".join(labels)
        found.append((f"its labels are {there}; here they are {here}", "give a run with the same labels"))
    elif recipe.task == MASKED_LM and _splits(run.folder) != _splits(plan.model):
        what = "its tokenizer splits texts otherwise, so it would guess other tokens"
        found.append((what, "give a run that started with the same tokenizer"))
    if checkpoint.max_position_embeddings < length:
        what = f"its model takes {checkpoint.max_position_embeddings} tokens, and {length} are measured"
        found.append((what, "measure fewer"))
    if run.manifest.file is not None and deployed_file(run.folder, recipe.measure.runtime) is None:
        what = f"it ships {run.manifest.file}, which {recipe.measure.runtime} does not run"
        found.append((what, "give a run that was measured in the same runtime"))
    if found:
        raise RecipeError([Problem(_OPTION, f"{run.path}: {what}", hint) for what, hint in found])


def _splits(folder: Path | None) -> str:
    assert folder is not None, "a run has its model"
    return splitting_digest(load_tokenizer(folder))


def compare(
    run: OtherRun,
    step: PlannedStage,
    measured: Measured,
    gates: Mapping[str, RegressionGate],
    measurer: Measurer,
    prepared: Prepared,
) -> StageReport:
    """Measures another run's model in turn with a stage's, and judges the stage by it.

    Args:
        run: The other run.
        step: The stage.
        measured: What was measured of the stage.
        gates: What is demanded of the stage, by metric.
        measurer: Measures.
        prepared: The rows that both are scored on.

    Returns:
        An entry of the report: measurements of the other run's model, and the verdict on the stage.
    """
    start = time.monotonic()
    name = f"run {run.manifest.recipe} (manifest {run.digest[:12]})"
    notes = [f"the row of this name is the model of {name}, measured again; the gates compare {step.name} with it."]
    theirs: Mapping[str, Evidence]
    ours: Mapping[str, Evidence]
    if measurer.same(run.key, step.key):
        # The same bytes give the same answers at the same speed: a sample of either would only add noise.
        notes = [f"{step.name} has the same file and tokenizer as the model of {name}; nothing had to be measured."]
        shown, from_cache = measurements(measured.evidence), True
        theirs = {
            metric: Exact(evidence.estimate(CONFIDENCE).value, evidence.n)
            for metric, evidence in measured.evidence.items()
        }
        ours = theirs
    else:
        other = measurer.measure(REGRESSION, run_measure(step, run.key), prepared, parity=False)
        theirs, ours = other.evidence, other.references[CURRENT]
        shown, from_cache = measurements(theirs), other.from_cache
    if absent := sorted(metric for metric in gates if metric not in ours or metric not in theirs):
        what = "is not measured of both models"
        raise RecipeError([Problem(f"{REGRESSION}.{metric}", what, "drop the gate") for metric in absent])
    results = [
        result
        for metric, gate in gates.items()
        for result in judge(metric, gate, ours[metric], {gate.relative_to: theirs[metric]})
    ]
    return StageReport(
        name=REGRESSION,
        stage=REGRESSION,
        task=step.task,
        verdict=overall([result.verdict for result in results]),
        seconds=round(time.monotonic() - start, 2),
        from_cache=from_cache,
        measurements=shown,
        gates=results,
        details={"run": run.manifest.recipe, "manifest_sha256": run.digest, "notes": notes},
    )
