"""`compress schema`: the recipe's JSON Schema, or the reference of every key."""

from __future__ import annotations

import click

from compressor.progress import echo


@click.command()
@click.option("--format", "form", type=click.Choice(["json", "markdown"]), default="json", show_default=True)
def schema(form: str) -> None:
    """Print the recipe's JSON Schema, or the reference of every key.

    \b
    Example:
      compress schema > recipe.schema.json
    """
    from compressor.recipe import reference as schemas

    echo(schemas.json_schema() if form == "json" else schemas.markdown())
