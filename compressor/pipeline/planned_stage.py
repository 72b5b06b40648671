"""A stage of a plan: its keys, and those of its measurements."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compressor.data.spec import HubDataset, TextSpec
from compressor.gates.spec import Gate
from compressor.pipeline import keys
from compressor.stages.base import StageSpec


@dataclass(frozen=True)
class PlannedStage:
    """One stage of a plan.

    Attributes:
        name: The stage's unique name.
        spec: Its keys in the recipe.
        task: The task of its checkpoint: the recipe's task, or masked-lm in pretraining.
        inputs: The inputs of its key in the store.
        key: That key.
        teacher: Key of the checkpoint it learns from; its own where it makes the teacher.
        baseline: Key of the checkpoint it is compared with.
        measure_inputs: The inputs of its measurement's key.
        device_inputs: Those of its measurements on further devices, by their names.
        student: A ready checkpoint that it starts from; None for its parent.
        texts: Raw text that it counts tokens in, and its settings; None for the training rows.
        gates: Its gates, the recipe's and those that hold unless it says otherwise: metric and limits.
        defers_training: Whether the next stage trains what this one changes. Its checkpoint is of no use alone, so it
            is measured only if a gate asks for it, or if the run ends there.
        teacher_layers: The teacher's layers whose hidden states this or another stage learns from it, so that it reads
            the rows once for all of them. No part of the key: they do not change the checkpoint.
    """

    name: str
    spec: StageSpec
    task: str
    inputs: dict[str, Any]
    key: str
    teacher: str
    baseline: str
    measure_inputs: dict[str, Any]
    device_inputs: dict[str, dict[str, Any]]
    student: Path | None
    texts: tuple[Path | HubDataset, TextSpec] | None
    gates: tuple[tuple[str, Gate], ...]
    defers_training: bool
    teacher_layers: tuple[int, ...] = ()

    @property
    def baseline_inputs(self) -> dict[str, Any]:
        """The inputs of the baseline's measurement."""
        return self._of_baseline(self.measure_inputs)

    @property
    def baseline_device_inputs(self) -> dict[str, dict[str, Any]]:
        """Those of its measurements on further devices."""
        return {name: self._of_baseline(inputs) for name, inputs in self.device_inputs.items()}

    def _of_baseline(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        references = dict.fromkeys(inputs["references"], self.baseline)
        return {**inputs, "checkpoint": self.baseline, "references": references}

    @property
    def measured(self) -> list[dict[str, Any]]:
        """The inputs of all its measurements."""
        return [self.measure_inputs, *self.device_inputs.values()]

    def regression_inputs(self, run: str) -> dict[str, Any]:
        """The inputs of the measurement of another run's model, which is timed in turn with this stage.

        Args:
            run: Key of that model.
        """
        return {**self.measure_inputs, "checkpoint": run, "references": {keys.CURRENT: self.key}}
