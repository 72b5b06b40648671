"""Arguments, options and errors that several commands share."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from compressor.errors import Problem, RecipeError

if TYPE_CHECKING:
    from compressor.measure.spec import Device

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
  3    the device cannot be reached
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


device_option = click.option(
    "--device",
    metavar="DEVICE",
    help="Measure there: ssh:HOST, or command:PREFIX, such as 'command:docker exec -i box python3'. Default: here.",
)

device_python_option = click.option(
    "--device-python", metavar="PATH", help="Python on the device; of command:PREFIX, if the prefix starts a shell."
)


def device_of(text: str | None, python: str | None) -> Device:
    """The device that --device names.

    Raises:
        RecipeError: It is none.
    """
    from pydantic import ValidationError

    from compressor.measure.spec import CommandDevice, SshDevice

    if text is None:
        if python is not None:
            raise RecipeError([Problem("--device-python", "is of no device", "add --device", kind="missing")])
        return "local"
    kind, _, rest = text.partition(":")
    more = {} if python is None else {"python": python}
    try:
        if kind == "ssh":
            return SshDevice(ssh=rest, **more)
        if kind == "command":
            return CommandDevice(command=tuple(shlex.split(rest)), **more)
    except (ValidationError, ValueError) as error:
        what = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise RecipeError([Problem("--device", f"{text!r}: {what}")]) from None
    raise RecipeError([Problem("--device", f"is {text!r}", "ssh:HOST or command:PREFIX")])


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
