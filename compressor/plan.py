"""What a run will do, known before anything runs: every stage's key, whether it is there, and why not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from compressor import stages
from compressor.checkpoint import Checkpoint
from compressor.data import hub
from compressor.errors import CompressError, Problem, RecipeError
from compressor.fingerprint import BUILD_LIBRARIES, code_digest, environment, host, versions
from compressor.recipe import HubDataset, StageSpec
from compressor.store import Store, file_digest, key_of, write_atomic
from compressor.validate import Resolved, check_checkpoint

LOCK_FILE = "recipe.lock.yaml"
UNKNOWN = "unknown until it is downloaded"

_MEASURE_CODE = ("compressor.measure.checkpoint", "compressor.measure.worker")


@dataclass(frozen=True)
class Step:
    """One stage of a plan.

    Attributes:
        name: The stage's unique name.
        spec: Its keys.
        inputs: What its key is made of.
        key: Its key in the store.
        measure_inputs: What its measurement's key is made of.
    """

    name: str
    spec: StageSpec
    inputs: dict[str, Any]
    key: str
    measure_inputs: dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """A recipe with all its keys.

    Attributes:
        resolved: The recipe and its sources.
        model: The checkpoint's folder; None for a hub model that is not here yet.
        source_inputs: What the recipe's checkpoint is: the digests of its files.
        source_key: Their key.
        train: The training rows' file, or hub data set at the commit that the key holds.
        validation: The held-out rows' file, or hub data set at its commit; None for a split of `train`.
        data_inputs: What the rows depend on.
        data_key: Their key.
        baseline_key: Key of the teacher.
        baseline_measure: What the teacher's measurement depends on.
        steps: The stages.
    """

    resolved: Resolved
    model: Path | None
    source_inputs: dict[str, Any]
    source_key: str
    train: Path | HubDataset
    validation: Path | HubDataset | None
    data_inputs: dict[str, Any]
    data_key: str
    baseline_key: str
    baseline_measure: dict[str, Any]
    steps: list[Step]

    def lock(self) -> dict[str, Any]:
        """Everything that decides what comes out, resolved: the contents of recipe.lock.yaml."""
        recipe = self.resolved.recipe
        return {
            "recipe": recipe.model_dump(mode="json"),
            "model": {"source": recipe.model, "sha256": Checkpoint(self.model).digest() if self.model else UNKNOWN},
            "data": self.data_inputs,
            "stages": {step.name: {"key": step.key, **step.inputs} for step in self.steps},
            "environment": environment(),
        }


def make(resolved: Resolved, download: bool) -> Plan:
    """Computes every key of a run.

    Args:
        resolved: The recipe.
        download: Fetch what the recipe names on the hub; without, keys below it are of no use.

    Raises:
        CompressError: The hub does not give what the recipe names.
        RecipeError: The downloaded checkpoint does not fit the recipe.
    """
    recipe = resolved.recipe
    model = resolved.model if isinstance(resolved.model, Path) else hub.model_folder(resolved.model, download)
    if model is not None and not isinstance(resolved.model, Path):
        _check_downloaded(resolved, model)
    source_inputs = {"kind": "source", "files": Checkpoint(model).digest() if model else UNKNOWN}
    source_key = key_of(source_inputs)
    data_inputs = _data_inputs(resolved, download)
    data_key = key_of(data_inputs)
    task_module = f"compressor.tasks.{recipe.task.replace('-', '_')}"
    common = {"data": data_key, "task": recipe.task}
    measure = {
        **common,
        "kind": "measure",
        "measure": recipe.measure.model_dump(mode="json"),
        "code": code_digest(*_MEASURE_CODE, task_module),
        "versions": versions(BUILD_LIBRARIES),
        "host": host(),
    }
    parent, steps, baseline_key = source_key, [], source_key
    for index, (name, spec) in enumerate(zip(recipe.stage_names(), recipe.stages, strict=True)):
        inputs = {
            **common,
            "kind": "stage",
            "spec": spec.work(),
            "parent": parent,
            "seed": recipe.seed,
            "code": code_digest(stages.module_name(spec.kind), task_module),
            "versions": versions(BUILD_LIBRARIES),
        }
        key = key_of(inputs)
        if index == 0 and resolved.makes_teacher:
            baseline_key = parent = key
        measured = {**measure, "checkpoint": key, "baseline": baseline_key, "previous": parent}
        steps.append(Step(name, spec, inputs, key, measured))
        parent = key
    baseline_measure = {**measure, "checkpoint": baseline_key, "baseline": baseline_key, "previous": baseline_key}
    train = _pinned(resolved.train, data_inputs["train"])
    validation = None if resolved.validation is None else _pinned(resolved.validation, data_inputs["validation"])
    return Plan(
        resolved=resolved,
        model=model,
        source_inputs=source_inputs,
        source_key=source_key,
        train=train,
        validation=validation,
        data_inputs=data_inputs,
        data_key=data_key,
        baseline_key=baseline_key,
        baseline_measure=baseline_measure,
        steps=steps,
    )


def _check_downloaded(resolved: Resolved, model: Path) -> None:
    from compressor import checkpoint

    found = checkpoint.problems(model, "model")
    if not found:
        check_checkpoint(
            resolved.recipe, Checkpoint(model), lambda at, what, hint: found.append(Problem(str(at[0]), what, hint))
        )
    if found:
        raise RecipeError(found, str(resolved.path))


def _data_inputs(resolved: Resolved, online: bool) -> dict[str, Any]:
    spec = resolved.recipe.data.model_dump(mode="json", exclude={"train", "validation"})
    return {
        "kind": "data",
        "train": _rows_digest(resolved.train, online),
        "validation": None if resolved.validation is None else _rows_digest(resolved.validation, online),
        "spec": spec,
        "seed": resolved.recipe.seed,
        "code": code_digest("compressor.data.rows"),
        "versions": versions(("datasets",)),
    }


def _rows_digest(source: Path | HubDataset, online: bool) -> dict[str, Any]:
    if isinstance(source, Path):
        return {"format": source.suffix, "sha256": file_digest(source)}
    named = source.model_dump(mode="json", exclude={"revision"})
    return {**named, "commit": hub.dataset_commit(source, online) or UNKNOWN}


def _pinned(source: Path | HubDataset, digest: Mapping[str, Any]) -> Path | HubDataset:
    """A hub data set at the very commit that was resolved, so that what is read is what the key says."""
    return source if isinstance(source, Path) else source.model_copy(update={"revision": digest["commit"]})


def state(step: Step, store: Store, locked: Mapping[str, Any] | None) -> tuple[str, list[str]]:
    """Whether a stage is in the store, and if not, why.

    Args:
        step: The stage.
        store: The store.
        locked: The lock of the last run, if any.

    Returns:
        `cached`, `measure` (the checkpoint is there, its measurement is not), `resume` or `run`; and the reasons.
    """
    if store.get(step.key):
        if store.get(key_of(step.measure_inputs)):
            return "cached", []
        return "measure", ["not measured under these conditions, on this machine, with this code"]
    reasons = _differences(step, (locked or {}).get("stages", {}).get(step.name))
    if any(store.work_folder(step.key).glob("checkpoint-*/trainer_state.json")):
        return "resume", ["was stopped while training; goes on from its last training checkpoint"]
    return "run", reasons


def _differences(step: Step, before: Mapping[str, Any] | None) -> list[str]:
    if before is None:
        return ["never run to its end"]
    reasons = []
    for name, value in step.inputs["spec"].items():
        old = before.get("spec", {}).get(name)
        if old != value:
            reasons.append(f"{name} changed from {old} to {value}")
    words = {"parent": "the checkpoint before it changed", "data": "the data changed", "code": "our code changed"}
    reasons += [word for name, word in words.items() if before.get(name) != step.inputs[name]]
    if before.get("seed") != step.inputs["seed"]:
        reasons.append(f"seed changed from {before.get('seed')} to {step.inputs['seed']}")
    for library, version in step.inputs["versions"].items():
        old = before.get("versions", {}).get(library)
        if old != version:
            reasons.append(f"{library} changed from {old} to {version}")
    return reasons or ["its artifact is not in the store any more"]


def read_lock(folder: Path) -> dict[str, Any] | None:
    """The lock of a run's folder; None when there is none that can be read."""
    try:
        lock = yaml.safe_load((folder / LOCK_FILE).read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError):
        return None
    return lock if isinstance(lock, dict) else None


def write_lock(plan: Plan, folder: Path) -> None:
    """Writes a run's lock."""
    header = "# Written by `compress run`: what this run resolved to. `compress run --locked` refuses anything else.\n"
    write_atomic(folder / LOCK_FILE, header + yaml.safe_dump(plan.lock(), sort_keys=False, allow_unicode=True))


def check_locked(plan: Plan, folder: Path) -> None:
    """Refuses a plan that differs from the lock in values, data, versions or code; the machine may differ.

    Raises:
        CompressError: There is no lock.
        RecipeError: What differs.
    """
    lock = read_lock(folder)
    if lock is None:
        error = CompressError(f"--locked: {folder / LOCK_FILE} is missing; run once without --locked to write it")
        error.exit_code = RecipeError.exit_code
        raise error
    problems = [
        Problem(where, f"is {new!r}, locked is {old!r}")
        for where, old, new in _changes(lock, plan.lock())
        if not where.endswith(".key") and not where.startswith("environment.")
    ]
    if problems:
        raise RecipeError(problems, str(folder / LOCK_FILE))


def _changes(old: Any, new: Any, where: str = "") -> list[tuple[str, Any, Any]]:
    if isinstance(old, dict) and isinstance(new, dict):
        names = [*old, *(name for name in new if name not in old)]
        return [
            change
            for name in names
            for change in _changes(old.get(name), new.get(name), f"{where}.{name}" if where else str(name))
        ]
    return [] if old == new else [(where, old, new)]
