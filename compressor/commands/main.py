"""The `compress` command, which collects the commands of `COMMANDS`, and the only place that ends the process.

Whatever happens in a command becomes one message and an exit code here; 1 means that a gate failed, and nothing else.
"""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

import click

from compressor import __version__
from compressor.commands import COMMANDS
from compressor.commands.options import EXIT_CODES
from compressor.errors import CompressError, ExitCode
from compressor.progress import echo, output
from compressor.training import processes


class _Carried(Exception):
    """An error that click would end the process for, with its own exit code."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(error)
        self.error = error


class Commands(click.Group):
    """The group of all commands. A command returns its exit code, or nothing for 0."""

    def main(self, *args: Any, standalone_mode: bool = True, **options: Any) -> Any:
        """Runs a command line, and ends the process with its exit code unless `standalone_mode` is false."""
        run: Callable[..., Any] = super().main
        if not standalone_mode:
            return run(*args, standalone_mode=False, **options)
        _prepare_streams()
        sys.exit(_exit_code(lambda: run(*args, standalone_mode=False, **options)))

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command that the command line names."""
        try:
            return super().invoke(ctx)
        except (EOFError, OSError, KeyboardInterrupt) as error:
            raise _Carried(error) from error


def _prepare_streams() -> None:
    """Makes the standard streams ones that can always be written to."""
    for descriptor in range(3):  # one that is closed would be given to the next file that is opened
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        setattr(sys, name, open(os.devnull, "w", encoding="utf-8") if stream is None else output(stream))  # noqa: PTH123 -- open as long as the process


def _exit_code(command: Callable[[], Any]) -> int:
    """The exit code of a command, once its output is written and its errors are told."""
    try:
        code = int(command() or 0)
        sys.stdout.flush()
        return code
    except click.ClickException as error:  # of click's own exit codes, one is that of a failed gate
        text = io.StringIO()
        error.show(text)
        return _told(text.getvalue(), ExitCode.USAGE)
    except CompressError as error:
        return _failed(error)
    except (KeyboardInterrupt, Exception, SystemExit) as error:  # a library that ends the process gives no verdict
        return _unexpected(error.error if isinstance(error, _Carried) else error)


def _unexpected(error: BaseException) -> int:
    if isinstance(error, KeyboardInterrupt | click.Abort):
        return _told("\nstopped; run the same command again to resume", ExitCode.INTERRUPTED)
    from compressor.pipeline.unexpected import explained

    return _failed(explained(error, None))


def _failed(error: CompressError) -> int:
    return _told(f"error: {error}", error.exit_code)


def _told(text: str, code: int) -> int:
    """Says why a command fails; of processes that train together, only the first that fails says so."""
    if processes.count() > 1:  # a launcher ends all once one has ended: what is told here is not to be cut off
        for sent in (signal.SIGTERM, signal.SIGINT):
            signal.signal(sent, signal.SIG_IGN)
    others = processes.first_to_fail(code)
    if others is None:
        echo(text, sys.stderr)
    return code if others is None else others


@click.group(cls=Commands, epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="compress")
def main() -> None:
    """Compress BERT checkpoints for devices: run a recipe, measure and gate every stage.

    \b
    Example:
      compress run recipes/mobile_int8.yaml
    """


for name in COMMANDS:
    main.add_command(getattr(import_module(f"compressor.commands.{name}"), name))
