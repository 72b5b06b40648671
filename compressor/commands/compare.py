"""`compress compare`: shows runs and recipes side by side."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from compressor.commands.options import artifacts_option, json_option, overrides_option, writing
from compressor.progress import console, echo


@click.command()
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=click.Path(path_type=Path))
@overrides_option
@artifacts_option
@click.option("--stages", "every_stage", is_flag=True, help="Show the result of every stage, not only of the last.")
@click.option("--without", multiple=True, metavar="STAGE", help="Run recipes a second time without this stage.")
@json_option
@click.option("--markdown", "as_markdown", is_flag=True, help="Print Markdown instead of tables.")
@click.option("--html", "page", type=click.Path(path_type=Path, dir_okay=False), help="Write a page with drawings.")
def compare(
    paths: tuple[Path, ...],
    overrides: tuple[str, ...],
    artifacts: Path,
    every_stage: bool,
    without: tuple[str, ...],
    as_json: bool,
    as_markdown: bool,
    page: Path | None,
) -> None:
    """Show runs side by side: quality, latency, memory, size, parameters, and which models are Pareto-optimal.

    A PATH is a run's folder, its report.json, or a recipe, which is run first, reusing cached stages. The tables list
    each run's baseline and its last measured stage; runs of different tasks are in different tables. To time models in
    one process, use `compress bench`.

    \b
    Example:
      compress compare artifacts/mobile_int8 artifacts/albert_int8 --html compare.html
      compress compare recipes/study/*.yaml --stages --without prune --html study.html
    """
    from compressor.files import suffix, write_atomic
    from compressor.measure.client import Client
    from compressor.pipeline import study
    from compressor.report import comparison, comparison_html, markdown, terminal

    if as_json and as_markdown:
        raise click.UsageError("--json and --markdown exclude each other; choose one")
    recipes = [path for path in paths if suffix(path) in study.SUFFIXES]
    if not recipes and (overrides or without):
        raise click.UsageError("--set and --without change recipes, but none of the paths is a recipe (*.yaml)")
    parts = study.forms(recipes, overrides, without)
    runs = [path for path in paths if path not in recipes]
    study.check_runs(runs, parts, artifacts)
    with Client() as client:
        made = study.run(parts, artifacts, client)
    groups = comparison.compare([*runs, *made], every_stage)
    if page is not None:
        with writing(page):
            write_atomic(page, comparison_html.document(groups))
    if as_json:
        echo(json.dumps(comparison.to_json(groups), indent=2))
    elif as_markdown:
        echo(markdown.comparison(groups))
    else:
        terminal.print_comparison(groups, console(sys.stdout))
