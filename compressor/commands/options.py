"""Arguments, options and error handling that several commands share."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from compressor.errors import CompressError, ExitCode, Problem, RecipeError

if TYPE_CHECKING:
    from rich.console import Console

EXIT_CODES = """\b
Exit codes:
  0    every gate passes
  1    a gate failed
  2    the recipe or the command line is wrong
  3    a stage failed
  4    a gate is inconclusive: the samples are too few or too noisy to decide
  130  interrupted; run the same command again to resume"""

VERIFY_CODES = """\b
Exit codes:
  0    every check and every recorded gate passes
  1    a check failed, or a gate failed in the run
  2    the command line is wrong, or DIR is not a run folder
  4    every check passes, but a gate was inconclusive in the run"""

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


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")


def console() -> Console:
    """The terminal, or a wide page where the output is piped: a table must not depend on who reads it."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 160)


def report_errors(command: Callable[..., None]) -> Callable[..., None]:
    """Turns the errors of this package into one message and an exit code."""

    @wraps(command)
    def wrapper(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except CompressError as error:
            click.echo(f"error: {error}", err=True)
            sys.exit(error.exit_code)
        except KeyboardInterrupt:
            click.echo("\nstopped; run the same command again to resume", err=True)
            sys.exit(ExitCode.INTERRUPTED)

    return wrapper


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Reports in one line that a file or folder cannot be written."""
    try:
        yield
    except OSError as error:
        raise RecipeError(
            [Problem(str(path), f"cannot be written to: {error.strerror or error}", kind="value")]
        ) from None
