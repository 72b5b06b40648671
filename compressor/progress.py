"""Progress bars on a terminal, lines elsewhere; and the way an interrupt reaches a running step."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.progress import TaskID


_SHOW_AFTER_S = 2.0
"""Work that is shorter gets no line of its own."""


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

    def check_interrupted(self) -> None:
        """Raises KeyboardInterrupt if the run was asked to stop and did not."""
        self._progress.check_interrupted()

    def update(self, completed: float, total: float | None = None) -> None:
        """Sets how much is done, and maybe of how much."""
        self.check_interrupted()
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
            # Output of libraries belongs into the log, not above the bars, where rich would put it.
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
        """Raises KeyboardInterrupt if the run was asked to stop and did not."""
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
