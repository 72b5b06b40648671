"""Telling the user what is happening and how long it will take; keeping libraries' chatter in a log file."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

_SHOW_AFTER_S = 2.0
"""A piece of work shorter than this gets no line of its own when the output is not a terminal."""


class Step:
    """One piece of work with a bar. `total` may be set once it is known.

    Attributes:
        done: How much is done.
    """

    def __init__(self, progress: Progress, bars: Bars, task: TaskID) -> None:
        self.done = 0.0
        self._progress = progress
        self._bars = bars
        self._task = task

    def update(self, completed: float, total: float | None = None) -> None:
        """Sets how much is done, and maybe of how much."""
        self._progress.check_interrupted()
        self.done = completed
        self._bars.update(self._task, completed=completed, total=total)


class Progress:
    """Progress bars on a terminal; a line per piece of work elsewhere, such as in CI logs.

    Args:
        console: Where to draw.
    """

    def __init__(self, console: Console) -> None:
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            SpinnerColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )
        from rich.progress import Progress as RichProgress

        self.console = console
        self._interrupted = False
        self._bars = RichProgress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            # What others print belongs into the log, not, as rich would have it, above the bars.
            redirect_stdout=False,
            redirect_stderr=False,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> Progress:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def interrupt(self, *_: object) -> None:
        """Handles a signal: stops the run here, or at the next sign of progress if a library swallows the exception."""
        self._interrupted = True
        raise KeyboardInterrupt

    def check_interrupted(self) -> None:
        """Raises KeyboardInterrupt if the run was told to stop and did not."""
        if self._interrupted:
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def step(self, what: str, total: float | None = None) -> Iterator[Step]:
        """Shows a piece of work while it runs.

        Args:
            what: Such as `distill: training`.
            total: How many units it has, if known.
        """
        self.check_interrupted()
        start = time.monotonic()
        task = self._bars.add_task(what, total=total)
        logging.getLogger("compressor").info("%s", what)
        try:
            yield Step(self, self._bars, task)
        finally:
            self._bars.remove_task(task)
        seconds = time.monotonic() - start
        logging.getLogger("compressor").info("%s: %.1f s", what, seconds)
        if seconds >= _SHOW_AFTER_S:
            self.say(f"  [dim]{what}  {seconds:.0f} s[/dim]")

    def say(self, text: str) -> None:
        """Prints a line above the bars. Rich markup."""
        self.console.print(text, highlight=False)


def stream(standard: TextIO) -> TextIO:
    """A stream of its own onto where `standard` goes now, so that it still gets there when `quiet` diverts the rest."""
    try:
        descriptor = os.dup(standard.fileno())
    except (OSError, ValueError):  # not a real file, as under a test's capture
        return standard
    return os.fdopen(descriptor, "w", encoding="utf-8", errors="replace", buffering=1)


@contextlib.contextmanager
def quiet(log: Path) -> Iterator[None]:
    """Sends everything that anything prints, logs or warns to a log file, native libraries included.

    Args:
        log: The file; lines are appended.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(log, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
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
    """Points a standard stream's descriptor at the log: the only way that also catches C++."""
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
