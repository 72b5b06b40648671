"""`compress schema`: the recipe's JSON Schema, or the reference of every key."""

from __future__ import annotations

import click

from compressor.commands.options import report_errors


@click.command()
@click.option("--format", "form", type=click.Choice(["json", "markdown"]), default="json", show_default=True)
@report_errors
def schema(form: str) -> None:
    """Print the recipe's JSON Schema, or the reference of every key.

    \b
    Example:
      compress schema > recipe.schema.json
    """
    from compressor.recipe import reference as schemas

    click.echo(schemas.json_schema() if form == "json" else schemas.markdown(), nl=False)
