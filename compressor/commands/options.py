"""Arguments, options and error handling that several commands share."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

import click

from compressor.errors import CompressError, ExitCode, Problem, RecipeError

EXIT_CODES = """\b
Exit codes:
  0    every gate passes
  1    a gate failed
  2    the recipe or the command line is wrong
  3    a stage failed
  4    a gate is inconclusive: too few samples, or too noisy, to say
  130  interrupted; the same command goes on from there"""

VERIFY_CODES = """\b
Exit codes:
  0    everything is as it was published, and passed
  1    a check failed, or a gate of the run had
  2    the command line is wrong, or DIR is no folder that a run left
  4    everything is as it was published, but a gate of the run was inconclusive"""

recipe_argument = click.argument("recipe", type=click.Path(path_type=Path))

overrides_option = click.option(
    "--set", "overrides", multiple=True, metavar="PATH=VALUE", help="Override a key, e.g. stages.distill.epochs=2."
)

artifacts_option = click.option(
    "--artifacts",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("artifacts"),
    show_default=True,
    help="Folder for results and the store.",
)


def report_errors(command: Callable[..., None]) -> Callable[..., None]:
    """Turns our errors into one message and an exit code."""

    @wraps(command)
    def wrapper(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except CompressError as error:
            click.echo(f"error: {error}", err=True)
            sys.exit(error.exit_code)
        except KeyboardInterrupt:
            click.echo("\nstopped; the same command goes on from here", err=True)
            sys.exit(ExitCode.INTERRUPTED)

    return wrapper


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Tells in one line that a file or folder cannot be written to."""
    try:
        yield
    except OSError as error:
        raise RecipeError([Problem(str(path), f"cannot be written to: {error.strerror or error}")]) from None
