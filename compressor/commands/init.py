"""`compress init`: drafts a recipe for a checkpoint and rows."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from compressor.commands.options import writing
from compressor.errors import Problem, RecipeError
from compressor.progress import echo


@click.command()
@click.argument("checkpoint")
@click.option(
    "--data",
    metavar="FILE",
    help="Rows: csv, tsv, jsonl, parquet, CoNLL, SQuAD's json, a text, a folder with train and dev files, or package:.",
)
@click.option("--target", "limits", metavar="LIMITS", help="Limits on what ships, such as size=10MB,latency=5ms.")
@click.option("-o", "--output", metavar="FILE", type=click.Path(path_type=Path), help="Write the recipe to a file.")
@click.option("--force", is_flag=True, help="Replace the file if it is there.")
def init(checkpoint: str, data: str | None, limits: str | None, output: Path | None, force: bool) -> None:
    """Draft a recipe for CHECKPOINT (a folder, package:PKG/path or a hub id) and rows; it validates as written.

    Finds the task, the columns, the head, the labels and the lengths of the rows, and chooses stages whose file is
    estimated to be within the limits. What it is not sure of stands in the recipe as "assumed".

    \b
    Example:
      compress init path/to/bert --data reviews.csv --target size=10MB -o recipe.yaml
      compress run recipe.yaml
    """
    from compressor.drafting import target
    from compressor.drafting.draft import draft
    from compressor.files import write_atomic

    if output is not None:
        _check_output(output, data, force)
    wanted = target.Budget() if limits is None else target.parse(limits)
    drafted = draft(checkpoint, data, wanted, output)
    if output is None:
        echo(drafted.text.rstrip("\n"))
        return
    with writing(output):
        write_atomic(output, drafted.text)
    names = drafted.recipe.stage_names()
    echo(f"{output}: {drafted.recipe.task}, {len(names)} stages: {' → '.join(names)}")
    for assumed in drafted.assumed:
        echo(assumed, sys.stdout)


def _check_output(output: Path, data: str | None, force: bool) -> None:
    """Raises RecipeError where the recipe cannot, or should not, be written to a file."""
    if output.is_dir():
        what, hint, kind = "is a folder", f"name a file in it: {output / 'recipe.yaml'}", "conflict"
    elif data is not None and output.exists() and Path(data).exists() and output.samefile(data):
        what, hint, kind = "holds the rows", "name another file for the recipe", "conflict"
    elif output.exists() and not force:
        what, hint, kind = "is there already", "give --force to replace it", "conflict"
    elif not output.parent.is_dir():
        what, hint, kind = f"cannot be written: there is no folder {output.parent}", "make it first", "not_found"
    else:
        return
    raise RecipeError([Problem(str(output), what, hint, kind=kind)])
