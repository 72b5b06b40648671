"""What commands write to: streams and consoles; progress bars on a terminal, lines elsewhere.

An interrupt reaches a running step by its progress.
"""

from __future__ import annotations

import contextlib
import errno
import io
import logging
import os
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, TextIO

from compressor.errors import StageError, printable

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.progress import Progress as Bars
    from rich.progress import TaskID
    from rich.segment import Segment


_SHOW_AFTER_S = 2.0
"""Work that is shorter gets no line of its own."""

_WIDE = 160
"""Characters in a line of a table that is not printed on a terminal."""


class Output(io.TextIOWrapper):
    """A standard stream that a command's result does not depend on.

    A character that the stream's encoding lacks is replaced, and what nobody reads any more (`| head`) is dropped: the
    exit code is that of the work.
    """

    def write(self, text: str, /) -> int:
        """Writes a text."""
        try:
            return super().write(text)
        except OSError as error:
            self._drop(error)
            return len(text)

    def flush(self) -> None:
        """Sends what was written."""
        try:
            super().flush()
        except OSError as error:
            self._drop(error)

    def _drop(self, error: OSError) -> None:
        if error.errno != errno.EPIPE:
            raise StageError(f"the output cannot be written: {error.strerror}") from error
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.fileno())  # where the rest of the buffer goes, too
        os.close(nowhere)


def output(stream: TextIO) -> TextIO:
    """A standard stream as an `Output`; the stream itself where it is no file, as under a test's capture."""
    try:
        stream.fileno()
    except (OSError, ValueError):
        return stream
    buffered = stream.line_buffering if isinstance(stream, io.TextIOWrapper) else True
    return Output(stream.buffer, encoding=stream.encoding, errors="replace", line_buffering=buffered)


def echo(text: str, stream: TextIO | None = None) -> None:
    """Prints a message. Names and paths in it may hold escape sequences, which are not sent to the terminal.

    Args:
        text: The message, of one or several lines.
        stream: Where to; None for the standard output.
    """
    stream = stream or sys.stdout
    stream.write(printable(text, keep="\n\t").removesuffix("\n") + "\n")
    stream.flush()


def console(stream: TextIO, quiet: bool = False) -> Console:
    """A console on which every text is shown as it is.

    Names, labels and paths may look like rich's markup, which would be interpreted or end in an error, and may hold
    escape sequences, which the terminal would act on.

    Args:
        stream: Where it prints; tables are wide where this is no terminal, since they must not depend on who reads.
        quiet: Print nothing.
    """
    from rich.console import Console
    from rich.segment import Segment

    class Plain(Console):
        def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
            for part in super().render(renderable, options):
                yield part if part.control else Segment(printable(part.text, keep="\n"), part.style)

    width = None if stream.isatty() else _WIDE
    return Plain(file=stream, width=width, quiet=quiet, markup=False, emoji=False, highlight=False)


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
            TextColumn("{task.description}", markup=False),
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
            self.say(f"  {what}  {seconds:.0f} s")

    def say(self, text: str) -> None:
        """Prints a line above the bars."""
        from rich.text import Text

        self.console.print(Text(text, style="dim"), soft_wrap=True)
