"""Checkpoints of a training that is under way: written by the clock, found again after a kill."""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from compressor.files import differences, file_entries, write_atomic
from compressor.progress import Step
from compressor.training import processes

SAVE_EVERY = "COMPRESS_SAVE_EVERY_S"
"""Environment variable: seconds between two training checkpoints."""

LAST = "last_checkpoint.json"
"""File beside the training checkpoints: which of them is the last whole one, its step, and digests of its files."""

_SAVE_EVERY_S = 20.0
_SAVE_SHARE = 0.05
"""Without the variable: seconds between two checkpoints, and the largest share of the time that saving may take."""


class CheckpointKeeper(TrainerCallback):  # type: ignore[misc]  # transformers is untyped here
    """Moves the progress bar and decides when to save.

    Of processes that train together the first decides, since to save is to do something together. A checkpoint counts
    once every process has written its part, and only then the one before it goes.
    """

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
        due = time.monotonic() - self._last > self._due()
        if state.global_step < state.max_steps and _first_says(due, args.device):
            self._last = time.monotonic()
            control.should_save = True

    def _due(self) -> float:
        """Seconds after a training checkpoint when the next one is written."""
        if given := os.environ.get(SAVE_EVERY):
            return float(given)
        return max(_SAVE_EVERY_S, self._cost / _SAVE_SHARE)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Makes the checkpoint count, and remembers how long saving took."""
        _meet(args.device)
        if processes.rank() == 0:
            _make_last(Path(args.output_dir) / f"checkpoint-{state.global_step}", state.global_step)
        self._cost = time.monotonic() - self._last
        self._last = time.monotonic()


def _first_says(due: bool, device: torch.device) -> bool:
    """What process 0 says, to all."""
    if processes.count() == 1:
        return due
    said = torch.tensor(int(due), device=device)
    torch.distributed.broadcast(said, src=0)
    return bool(said.item())


def _meet(device: torch.device) -> None:
    """Goes on once all processes are here."""
    if processes.count() > 1:
        here = torch.ones(1, device=device)
        torch.distributed.all_reduce(here)
        here.item()


def _make_last(folder: Path, step: int) -> None:
    """Makes a checkpoint the one to go on from, its files being on the disk, and deletes those before it."""
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    entry = {"folder": folder.name, "step": step, "files": file_entries(folder)}
    write_atomic(folder.parent / LAST, json.dumps(entry))
    for other in folder.parent.glob("checkpoint-*"):
        if other != folder:
            shutil.rmtree(other, ignore_errors=True)


def last_whole_checkpoint(work: Path) -> Path | None:
    """The latest training checkpoint that was written to its end, if its files are as they were written."""
    try:
        entry = json.loads((work / LAST).read_text(encoding="utf-8"))
        folder = work / str(entry["folder"])
        changed = differences(folder, entry["files"])
    except (OSError, ValueError, KeyError, TypeError):  # there is none
        return None
    if changed:
        logging.getLogger("compressor").warning("%s is damaged (%s): training starts again", folder, changed)
    return None if changed else folder
