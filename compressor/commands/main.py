"""The `compress` command, which collects the commands of `COMMANDS`."""

from __future__ import annotations

from importlib import import_module

import click

from compressor import __version__
from compressor.commands import COMMANDS
from compressor.commands.options import EXIT_CODES


@click.group(epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="compress")
def main() -> None:
    """Compress BERT checkpoints for devices: run a recipe, measure and gate every stage.

    \b
    Example:
      compress run recipes/mobile_int8.yaml
    """


for name in COMMANDS:
    main.add_command(getattr(import_module(f"compressor.commands.{name}"), name))
