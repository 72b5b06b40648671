"""Errors that no one expected: one message, and the traceback in a log file."""

from __future__ import annotations

import os
import shutil
import tempfile
import traceback
from pathlib import Path

from compressor.errors import CompressError, StageError, described, printable
from compressor.files import fills_a_disk

_LONGEST = 500
"""Characters of a message that a library made."""


def explained(error: BaseException, log: Path | None, artifacts: Path | None = None) -> CompressError:
    """An unexpected error as one message with the place of its traceback.

    Args:
        error: The error.
        log: The log file of the run; None for a new file in the folder for temporary files.
        artifacts: Folder of the run's results, which may be full.
    """
    written = _log(error, log)
    text = (str(error).strip() or type(error).__name__).splitlines()[0][:_LONGEST]
    if fills_a_disk(error):
        return StageError(f"the disk is full: {printable(text)}\n  {_full(error, artifacts)}\n  {written}")
    if isinstance(error, MemoryError) or "not enough memory" in text:
        return StageError(f"out of memory: {printable(text)}\n  lower batch_size or max_sequence_length\n  {written}")
    return StageError(f"{described(error)}; {printable(written)}")


def _log(error: BaseException, log: Path | None) -> str:
    """Where the traceback was written."""
    text = printable("".join(traceback.format_exception(error)), keep="\n")
    try:
        if log is None:
            descriptor, name = tempfile.mkstemp(prefix="compress-", suffix=".log")
            os.close(descriptor)
            log = Path(name)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a", encoding="utf-8") as file:
            file.write(text)
    except OSError as failure:
        return f"there is no full traceback: {log or 'TMPDIR'} cannot be written to ({failure.strerror or failure})"
    return f"full traceback: {log}"


def _full(error: BaseException, artifacts: Path | None) -> str:
    """The folder that is full, and what to do. What a failed step leaves in it may be deleted by now."""
    temporary = Path(tempfile.gettempdir())
    options = {temporary: "set TMPDIR to a folder on another disk"}
    if artifacts is not None:
        options[artifacts] = "choose another disk with --artifacts"
    named = getattr(error, "filename", None)
    if isinstance(named, str | bytes):
        path = Path(os.fsdecode(named)).absolute()
        for folder, advice in options.items():
            if path.is_relative_to(folder.absolute()):
                return f"{folder} is full: free some space there, or {advice}"
        return f"{path.parent} is full: free some space there"
    free = {folder: shutil.disk_usage(_existing(folder)).free for folder in options}
    least = min(free, key=lambda folder: free[folder])
    shown = ", ".join(f"{folder} has {bytes_free / 1e9:.1f} GB free" for folder, bytes_free in free.items())
    return f"{shown}: free some space in {least}, or {options[least]}"


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one around it that is there."""
    return next(place for place in (folder.absolute(), *folder.absolute().parents) if place.is_dir())
