"""Whether a planned stage is in the store, and if not, why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from compressor.pipeline.entry import key_of
from compressor.pipeline.planned_stage import PlannedStage
from compressor.pipeline.store import Store

_REASONS = {
    "parent": "the checkpoint before it changed",
    "teacher": "the teacher changed",
    "student": "the ready student changed",
    "trial": "how models are tried out changed",
    "texts": "the text whose tokens are counted changed",
    "made_by": "the recipe's name or our version changed, and exported files hold both",
    "data": "the data changed",
    "code": "our code changed",
}
"""Inputs of a stage that are shown without their values."""


@dataclass(frozen=True)
class StageState:
    """A stage and the store.

    Attributes:
        name: The stage's name.
        key: Its key in the store.
        state: `cached`; `measure` where the checkpoint is there and its measurement is not; `resume` where training was
            stopped; `run`.
        reasons: Why it is not cached.
    """

    name: str
    key: str
    state: Literal["cached", "measure", "resume", "run"]
    reasons: list[str]


def state(stage: PlannedStage, store: Store, locked: Mapping[str, Any] | None) -> StageState:
    """Looks a stage up in the store.

    Args:
        stage: The stage.
        store: The store.
        locked: The lock of the last run, if any.
    """
    if store.get(stage.key):
        if stage.defers_training or all(store.get(key_of(inputs)) for inputs in stage.measured):
            return StageState(stage.name, stage.key, "cached", [])
        reasons = ["not measured under these conditions, on this machine, with this code"]
        return StageState(stage.name, stage.key, "measure", reasons)
    if damage := store.damage(stage.key):
        return StageState(stage.name, stage.key, "run", [f"is damaged in the store: {damage}"])
    if any(store.work_folder(stage.key).glob("**/last_checkpoint.json")):
        reasons = ["was stopped while training; goes on from its last training checkpoint"]
        return StageState(stage.name, stage.key, "resume", reasons)
    before = (locked or {}).get("stages", {}).get(stage.name)
    return StageState(stage.name, stage.key, "run", _differences(stage, before))


def _differences(stage: PlannedStage, before: Mapping[str, Any] | None) -> list[str]:
    if before is None:
        return ["not in the last run"]
    reasons = []
    for name, value in stage.inputs["spec"].items():
        old = before.get("spec", {}).get(name)
        if old != value:
            reasons.append(f"{name} changed from {old} to {value}")
    reasons += [reason for name, reason in _REASONS.items() if before.get(name) != stage.inputs.get(name)]
    for name, value in stage.inputs.get("training", {}).items():
        old = (before.get("training") or {}).get(name)
        if old != value:
            reasons.append(f"{name} of training changed from {old} to {value}")
    if before.get("seed") != stage.inputs["seed"]:
        reasons.append(f"seed changed from {before.get('seed')} to {stage.inputs['seed']}")
    for library, version in stage.inputs["versions"].items():
        old = before.get("versions", {}).get(library)
        if old != version:
            reasons.append(f"{library} changed from {old} to {version}")
    return reasons or ["its artifact is not in the store any more"]
