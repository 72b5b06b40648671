"""The inputs that keys in the store are made of."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compressor import __version__
from compressor.data import hub
from compressor.data.spec import HubDataset
from compressor.errors import StageError
from compressor.files import file_digest, file_entries, suffix
from compressor.measure import device_facts
from compressor.measure.spec import Device, MeasureSpec
from compressor.models.checkpoint import Checkpoint
from compressor.pipeline.code_digest import made_with
from compressor.recipe.document import Recipe
from compressor.runtimes import RUNTIMES
from compressor.stages.base import StageSpec
from compressor.training import devices, processes
from compressor.training.spec import RecoverySpec, TrainingSpec

UNKNOWN = "unknown until it is downloaded"

CURRENT = "current"
"""Name of a stage among the references of another run's model."""

_TRIAL_CODE = ("compressor.measure.trial", "compressor.device.worker")
_MEASURE_CODE = ("compressor.measure.measurement", "compressor.device.worker", "compressor.tasks")
_JUDGING_CODE = tuple(f"compressor.gates.{name}" for name in ("estimate", "exact", "rows", "timings"))
"""Code that turns a trial's answers and times into the numbers by which a stage chooses."""

STAGE_CODE = ("compressor.pipeline.building",)
"""Modules above the stages that decide what a stage is given."""


def checkpoint_inputs(checkpoint: Path | None, embedding: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The inputs of a checkpoint of the user's, as stages read it.

    Args:
        checkpoint: Its folder; None for a hub model that is not downloaded yet.
        embedding: See `importing.bring_in`.
    """
    files = UNKNOWN if checkpoint is None else Checkpoint(checkpoint).digest()
    return {
        "kind": "source",
        "files": files,
        **({} if embedding is None else {"embedding": dict(embedding)}),
        **made_with("compressor.models.importing"),
    }


def check_unchanged(where: str, source: Path | HubDataset | None, keyed: Mapping[str, Any] | str | None) -> None:
    """Checks that what was read is what the key was made of.

    Args:
        where: The recipe's key that names it.
        source: A file, a checkpoint's folder, or what cannot change.
        keyed: Its digest in the key: of a checkpoint those of its files.

    Raises:
        StageError: It was written while the run went on.
    """
    if not isinstance(source, Path) or not isinstance(keyed, Mapping):
        return
    changed = Checkpoint(source).digest() != keyed if source.is_dir() else file_digest(source) != keyed["sha256"]
    if changed:
        what = f"{source} was changed after this run looked at it first, so nothing that is made of it is kept"
        raise StageError(f"{where}: {what}; run again")


def trial_inputs(recipe: Recipe, spec: StageSpec) -> dict[str, Any]:
    """Further inputs of a stage that tries models out: how they are exported, timed and scored."""
    measure = recipe.measure.conditions()
    conditions: dict[str, Any] = {"runtime": measure["runtime"]}
    if spec.trial is None:
        return {}
    if spec.trial == "quality":
        conditions |= {"batch_size": measure["batch_size"], "processor": _without_cores(recipe.measure.device)}
    elif spec.trial == "latency":
        conditions = {**measure, "host": device_facts.of(recipe.measure.device)}
    return {
        "trial": {
            **conditions,
            **made_with(*_TRIAL_CODE, own=_JUDGING_CODE, extras=RUNTIMES[recipe.measure.runtime].requires),
        }
    }


def _without_cores(device: Device) -> dict[str, Any]:
    """A device without its number of cores: the part that decides results, not speed."""
    return {name: value for name, value in device_facts.of(device).items() if name != "cores"}


def training_inputs(spec: StageSpec) -> dict[str, Any]:
    """Further inputs of a stage that trains, or changes a model for one that does: what it is computed on, and how.

    The number of processes decides the rows of a step, of which `batch_size` is each one's share.
    """
    device = {"device": devices.kind()}
    if not isinstance(spec, TrainingSpec) or not spec.trains:
        return {"training": device} if isinstance(spec, RecoverySpec) and not spec.quantizes else {}
    precision = devices.planned_precision(spec.precision, spec.max_sequence_length)
    return {"training": {"processes": processes.count(), "precision": precision, **device}}


def export_inputs(recipe: Recipe, spec: StageSpec) -> dict[str, Any]:
    """Further inputs of stages that write files: the outputs of vectors; of those that ship, whose name they hold."""
    found: dict[str, Any] = {}
    if (spec.ships or spec.quantizes) and recipe.vector_precisions:
        found["precisions"] = list(recipe.vector_precisions)
    return found | ({"made_by": {"recipe": recipe.name, "compressor": __version__}} if spec.ships else {})


def measure_inputs(
    measure: MeasureSpec, task: str, data: str, key: str, baseline: str, previous: str, name: str = "the device"
) -> dict[str, Any]:
    """The inputs of a stage's measurement on one device.

    Args:
        measure: The conditions, and the device.
        task: The checkpoint's task.
        data: Key of the task's data.
        key: Key of the checkpoint.
        baseline: Key of the baseline, which is timed in turn with it.
        previous: Key of the stage before it, which is timed in turn with it.
        name: What messages call the device.
    """
    return {
        "kind": "measure",
        "data": data,
        "task": task,
        "measure": measure.conditions(),
        **made_with(*_MEASURE_CODE, own=("compressor.pipeline.measuring",), extras=RUNTIMES[measure.runtime].requires),
        "host": device_facts.of(measure.device, name),
        "checkpoint": key,
        "references": {"baseline": baseline, "previous": previous},
    }


def source_inputs(source: Path | HubDataset, where: str, online: bool) -> tuple[Path | HubDataset, dict[str, Any]]:
    """A source as it is read, and its inputs: the digest of a file, or of the files of a data set on the hub.

    The data set is at the commit whose files the digest is of. The commit itself is no input: one that changes only the
    text of the card changes no rows.

    Args:
        source: The source.
        where: The recipe's key that names it, for errors.
        online: Whether the hub may be asked.
    """
    if isinstance(source, Path) and source.is_dir():
        return source, {"files": {name: entry["sha256"] for name, entry in file_entries(source).items()}}
    if isinstance(source, Path):
        return source, {"format": suffix(source), "sha256": file_digest(source)}
    named = source.model_dump(mode="json", exclude={"revision"})
    found = hub.resolve(source, where, online)
    return (source, {**named, "sha256": UNKNOWN}) if found is None else (found[0], {**named, "sha256": found[1]})
