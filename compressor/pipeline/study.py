"""Recipes that are run to be compared: one after the other, each from what others have left in the store."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from pathlib import Path

import click

from compressor.errors import Problem, RecipeError
from compressor.measure.client import Client
from compressor.pipeline import session
from compressor.pipeline.log_capture import quiet, stream
from compressor.progress import Progress
from compressor.recipe import resolve
from compressor.recipe.reading import load
from compressor.recipe.resolve import Resolved
from compressor.report.numbers import duration

SUFFIXES = (".yaml", ".yml")
"""Of recipes; anything else is a run."""


def forms(recipes: Sequence[Path], overrides: tuple[str, ...], without: Sequence[str]) -> list[Resolved]:
    """Each recipe as it is, and without each of some stages, if it has them.

    Args:
        recipes: The recipes.
        overrides: `--set` values for all of them.
        without: Names of stages.

    Raises:
        RecipeError: What is wrong with any of them, all at once.
    """
    found: list[Resolved] = []
    problems: list[Problem] = []
    left = set(without)
    for path in recipes:
        try:
            recipe = load(path, overrides)
            names = recipe.stage_names()
            left -= set(names)
            for form in _forms(recipe.name, overrides, [stage for stage in without if stage in names]):
                found.append(resolve.resolve(path, form))
        except RecipeError as error:
            problems += [Problem(f"{path}: {p.where}", p.what, p.hint, p.line) for p in error.problems]
    if left and not problems:
        problems.append(Problem("--without", f"no recipe has a stage {', '.join(sorted(left))}", "give stages' names"))
    if problems:
        raise RecipeError(problems)
    return found


def _forms(name: str, overrides: tuple[str, ...], without: Sequence[str]) -> Iterator[tuple[str, ...]]:
    yield overrides
    for stage in without:
        yield (*overrides, f"stages.{stage}=null", f"name={name}-without-{stage}")


def run(study: Sequence[Resolved], artifacts: Path, client: Client) -> list[Path]:
    """Runs recipes, and gives the runs' folders; all that is told on the way goes to the standard error.

    What was run before comes from the store, and a study that was stopped goes on where it was. A gate that fails ends
    its own run only: what was measured until there is compared.
    """
    if not study:
        return []
    with redirect_stdout(sys.stderr):
        click.echo(_amount(study, artifacts))
        for index, resolved in enumerate(study, start=1):
            click.echo(f"\n{index} of {len(study)}: {resolved.recipe.name}")
            session.run_on_terminal(resolved, session.Options(artifacts, allow_inconclusive=True), client)
    return [artifacts / resolved.recipe.name for resolved in study]


def _amount(study: Sequence[Resolved], artifacts: Path) -> str:
    """How much there is to do."""
    from rich.console import Console

    from compressor.pipeline import estimate, plan
    from compressor.pipeline.store import Store

    store, keys, known = Store(artifacts / ".store"), set[str](), set[str]()
    total, whole = 0.0, True
    console = Console(file=stream(sys.stderr), stderr=True)
    with quiet(artifacts / "compare.log"), Progress(console) as progress:
        for resolved in study:
            made = plan.make(resolved, download=session.set_environment(resolved))
            new = {stage.key for stage in made.stages} - keys
            keys |= new
            known |= {key for key in new if store.get(key)}
            seconds = estimate.seconds(made, store, progress, new)
            whole, total = whole and seconds is not None, total + (seconds or 0.0)
    about = f", about {duration(total)}" if total else ""
    more = "" if whole else ", and what learns from raw text"
    runs = f"{len(study)} run{'s' if len(study) > 1 else ''}"
    return f"{runs}, {len(keys)} stages: {len(known)} in the store, {len(keys - known)} to build{about}{more}"
