"""Arguments, options and errors that several commands share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from compressor.errors import Problem, RecipeError

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


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Reports in one line that a file or folder cannot be written."""
    try:
        yield
    except OSError as error:
        raise RecipeError(
            [Problem(str(path), f"cannot be written to: {error.strerror or error}", kind="value")]
        ) from None
