"""Whether what a plan says is in the store, and if not, why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compressor.pipeline.plan import Step
from compressor.pipeline.store import Store, key_of


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
        if step.half_way or store.get(key_of(step.measure_inputs)):
            return "cached", []
        return "measure", ["not measured under these conditions, on this machine, with this code"]
    reasons = _differences(step, (locked or {}).get("stages", {}).get(step.name))
    if any(store.work_folder(step.key).glob("**/checkpoint-*/trainer_state.json")):
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
    words = {
        "parent": "the checkpoint before it changed",
        "teacher": "the teacher changed",
        "student": "the ready student changed",
        "trial": "how models are tried out changed",
        "texts": "the text whose tokens are counted changed",
        "made_by": "the recipe's name or our version changed, and exported files tell both",
        "data": "the data changed",
        "code": "our code changed",
    }
    reasons += [word for name, word in words.items() if before.get(name) != step.inputs.get(name)]
    if before.get("seed") != step.inputs["seed"]:
        reasons.append(f"seed changed from {before.get('seed')} to {step.inputs['seed']}")
    for library, version in step.inputs["versions"].items():
        old = before.get("versions", {}).get(library)
        if old != version:
            reasons.append(f"{library} changed from {old} to {version}")
    return reasons or ["its artifact is not in the store any more"]
