"""`compress validate`: checks a recipe and everything it points to."""

from __future__ import annotations

from pathlib import Path

import click

from compressor.commands.options import overrides_option, recipe_argument
from compressor.progress import echo


@click.command()
@recipe_argument
@overrides_option
def validate(recipe: Path, overrides: tuple[str, ...]) -> None:
    """Check a recipe and everything it points to, without running it.

    \b
    Example:
      compress validate recipes/mobile_int8.yaml
    """
    from compressor.pipeline import api

    names = api.validate(recipe, overrides).stage_names()
    echo(f"{recipe}: ok, {len(names)} stages: {' → '.join(names)}")
