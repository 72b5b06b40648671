"""Runs several recipes for a comparison, one after the other, with one store."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path

from compressor.errors import Problem, RecipeError
from compressor.measure.client import Client
from compressor.pipeline import session, writable
from compressor.pipeline.log_capture import quiet, stream
from compressor.progress import Progress, console, echo
from compressor.recipe import resolve
from compressor.recipe.reading import load
from compressor.recipe.resolve import Resolved
from compressor.report.numbers import duration

SUFFIXES = (".yaml", ".yml")
"""Suffixes of recipes; any other path is a run."""


def forms(recipes: Sequence[Path], overrides: tuple[str, ...], without: Sequence[str]) -> list[Resolved]:
    """Each recipe as it is, and again without each of the named stages that it has.

    Args:
        recipes: The recipes.
        overrides: `--set` values for all of them.
        without: Names of stages.

    Raises:
        RecipeError: A recipe is wrong; the problems of all recipes at once.
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
            problems += [replace(problem, where=f"{path}: {problem.where}") for problem in error.problems]
    if left and not problems:
        what = f"no recipe has a stage {', '.join(sorted(left))}"
        problems.append(Problem("--without", what, "name stages of the recipes", kind="unknown"))
    if problems:
        raise RecipeError(problems)
    return found


def _forms(name: str, overrides: tuple[str, ...], without: Sequence[str]) -> Iterator[tuple[str, ...]]:
    yield overrides
    for stage in without:
        yield (*overrides, f"stages.{stage}=null", f"name={name}-without-{stage}")


def run(study: Sequence[Resolved], artifacts: Path, client: Client) -> list[Path]:
    """Runs recipes, and returns the runs' folders; progress goes to the standard error.

    Stages that were built before come from the store, so a study that was stopped is resumed. A gate that fails ends
    its own run only: the stages measured before it are compared.
    """
    if not study:
        return []
    for resolved in study:
        writable.check(artifacts, resolved.recipe.name)
    with redirect_stdout(sys.stderr):
        echo(_amount(study, artifacts))
        for index, resolved in enumerate(study, start=1):
            echo(f"\n{index} of {len(study)}: {resolved.recipe.name}")
            session.run_on_terminal(resolved, session.Options(artifacts, allow_inconclusive=True), client)
    return [artifacts / resolved.recipe.name for resolved in study]


def _amount(study: Sequence[Resolved], artifacts: Path) -> str:
    """How many stages are to be built, and about how long that takes."""
    from compressor.pipeline import estimate, plan
    from compressor.pipeline.store import Store

    keys, known = set[str](), set[str]()
    total, whole = 0.0, True
    session.set_environment()
    with (
        Store(artifacts / ".store") as store,
        quiet(artifacts / "compare.log"),
        Progress(console(stream(sys.stderr))) as progress,
    ):
        for resolved in study:
            made = plan.make(resolved, download=True)
            new = {stage.key for stage in made.stages} - keys
            keys |= new
            known |= {key for key in new if store.get(key)}
            seconds = estimate.seconds(made, store, progress, new)
            whole, total = whole and seconds is not None, total + (seconds or 0.0)
    about = f", about {duration(total)}" if total else ""
    more = "" if whole else ", and the stages that learn from raw text"
    runs = f"{len(study)} run{'s' if len(study) > 1 else ''}"
    return f"{runs}, {len(keys)} stages: {len(known)} in the store, {len(keys - known)} to build{about}{more}"
