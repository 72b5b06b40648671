"""`compress plan`: shows which stages a run would build, and why."""

from __future__ import annotations

from pathlib import Path

import click

from compressor.commands.options import artifacts_option, overrides_option, recipe_argument
from compressor.progress import echo


@click.command()
@recipe_argument
@overrides_option
@artifacts_option
def plan(recipe: Path, overrides: tuple[str, ...], artifacts: Path) -> None:
    """Show which stages are cached, which would be built, and why; run nothing.

    \b
    Example:
      compress plan recipes/mobile_int8.yaml
    """
    from compressor.pipeline import api

    planned = api.plan(recipe, overrides=overrides, artifacts=artifacts)
    if not planned.downloaded:
        echo(f"model {planned.model}: not downloaded yet; all keys change once it is")
    width = max(len(stage.name) for stage in planned.stages)
    for stage in planned.stages:
        echo(f"{stage.name:<{width}}  {stage.state:<7}  {stage.key}  {'; '.join(stage.reasons)}".rstrip())
