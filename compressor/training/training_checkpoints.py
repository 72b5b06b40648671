"""Checkpoints of a training that is under way: written by the clock, found again after a kill."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from compressor.progress import Step

SAVE_EVERY = "COMPRESS_SAVE_EVERY_S"
"""Environment variable: seconds between two training checkpoints."""

_SAVE_EVERY_S = 20.0
_SAVE_SHARE = 0.05
"""Without the variable: seconds between two checkpoints, and the largest share of the time that saving may take."""


class CheckpointKeeper(TrainerCallback):  # type: ignore[misc]  # transformers is untyped here
    """Moves the progress bar and decides when to save."""

    def __init__(self, step: Step) -> None:
        self._step = step
        self._last = time.monotonic()
        self._cost = 0.0
        self.first_step = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Shows how far a resumed training is."""
        self.first_step = state.global_step
        self._last = time.monotonic()
        self._step.update(state.global_step, state.max_steps)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Moves the bar, and asks for a checkpoint when one is due."""
        self._step.update(state.global_step, state.max_steps)
        if time.monotonic() - self._last > self._due() and state.global_step < state.max_steps:
            self._last = time.monotonic()
            control.should_save = True

    def _due(self) -> float:
        """Seconds after a training checkpoint when the next one is written."""
        if given := os.environ.get(SAVE_EVERY):
            return float(given)
        return max(_SAVE_EVERY_S, self._cost / _SAVE_SHARE)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Remembers how long saving took."""
        self._cost = time.monotonic() - self._last
        self._last = time.monotonic()


def last_whole_checkpoint(work: Path) -> Path | None:
    """The latest training checkpoint that was written to its end: the Trainer writes trainer_state.json last."""
    found: list[tuple[int, Path]] = []
    for state in work.glob("checkpoint-*/trainer_state.json"):
        try:
            found.append((int(json.loads(state.read_text(encoding="utf-8"))["global_step"]), state.parent))
        except (ValueError, KeyError):  # cut off in the middle
            continue
    return max(found)[1] if found else None
