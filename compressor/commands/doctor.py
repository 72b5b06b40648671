"""`compress doctor`: shows versions, CPU features, the missing libraries of each extra, and what a device is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from compressor.commands.options import device_of, device_option, device_python_option
from compressor.errors import Problem, RecipeError
from compressor.progress import echo

if TYPE_CHECKING:
    from compressor.measure.spec import Device


@click.command()
@device_option
@device_python_option
@click.option("--drop-cache", is_flag=True, help="Delete the models that the device keeps.")
def doctor(device: str | None, device_python: str | None, drop_cache: bool) -> None:
    """Show versions, CPU features and threads, and the missing libraries of each extra; or what a device is.

    \b
    Example:
      compress doctor
      compress doctor --device ssh:pi
    """
    from compressor.host.machine import DISTRIBUTION, environment, missing_libraries

    there = device_of(device, device_python)
    if there != "local":
        _show_device(there, drop_cache)
        return
    if drop_cache:
        raise RecipeError([Problem("--drop-cache", "is of a device", "add --device", kind="missing")])
    for name, value in environment().items():
        echo(f"{name:<16} {value}")
    for extra, absent in sorted(missing_libraries().items()):
        what = f"extra {extra!r}" if extra else "installation"
        hint = f"missing {', '.join(absent)}: pip install '{DISTRIBUTION}[{extra}]'" if absent else "complete"
        echo(f"{what:<16} {hint}")


def _show_device(device: Device, drop_cache: bool) -> None:
    """Asks a device what it is, has, and how it is now; on request it deletes the models that it keeps.

    Raises:
        StageError: It is not there.
    """
    from compressor.errors import printable
    from compressor.measure.client import Client

    with Client(device) as client:
        link = client.start()
        if drop_cache:
            link.do("dropping the cache", "drop", {}, client.timeout_s)
        link.close()
    for part in ("machine", "versions", "state"):
        for name, value in link.hello[part].items():
            echo(printable(f"{name:<16} {value}"))
