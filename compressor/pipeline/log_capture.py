"""Sends the output of libraries to a log file."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from compressor.errors import printable
from compressor.progress import Output


def stream(standard: TextIO) -> TextIO:
    """A new stream to the present target of `standard`, which `quiet` does not divert."""
    try:
        descriptor = os.dup(standard.fileno())
    except (OSError, ValueError):  # not a real file, as under a test's capture
        return standard
    return Output(os.fdopen(descriptor, "wb"), encoding=standard.encoding, errors="replace", line_buffering=True)


class _Printable(logging.Formatter):
    """Writes records without characters that whoever reads the log would see acted on."""

    def format(self, record: logging.LogRecord) -> str:
        """A record as text; only line ends stay, which tracebacks have."""
        return printable(super().format(record), keep="\n")


@contextlib.contextmanager
def quiet(log: Path) -> Iterator[None]:
    """Sends all prints, log records and warnings to a log file, those of native libraries included.

    Args:
        log: The file; lines are appended.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(log, encoding="utf-8")
    handler.setFormatter(_Printable("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    logging.captureWarnings(True)
    with _diverted(sys.stdout, log), _diverted(sys.stderr, log):
        try:
            yield
        finally:
            logging.captureWarnings(False)
            root.removeHandler(handler)
            root.setLevel(level)
            handler.close()


@contextlib.contextmanager
def _diverted(standard: TextIO, log: Path) -> Iterator[None]:
    """Points a standard stream's file descriptor at the log, which also catches the output of C++ code."""
    try:
        descriptor = standard.fileno()
        saved = os.dup(descriptor)
    except (OSError, ValueError):
        yield
        return
    target = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        standard.flush()
        os.dup2(target, descriptor)
        yield
    finally:
        standard.flush()
        os.dup2(saved, descriptor)
        os.close(saved)
        os.close(target)
