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
from compressor.report.model import report_file
from compressor.report.numbers import duration

SUFFIXES = (".yaml", ".yml")
"""Suffixes of recipes; any other path is a run."""


def forms(recipes: Sequence[Path], overrides: tuple[str, ...], without: Sequence[str]) -> list[Resolved]:
    """Each recipe as it is, and again without each of the named stages that it has.

    Args:
        recipes: The recipes; a file that is named twice counts once.
        overrides: `--set` values for all of them.
        without: Names of stages.

    Raises:
        RecipeError: A recipe is wrong; the problems of all recipes at once.
    """
    found: list[Resolved] = []
    problems: list[Problem] = []
    left = set(without)
    for path in {path.resolve(): path for path in recipes}.values():
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
    problems += _shared_names(found)
    if problems:
        raise RecipeError(problems)
    return found


def check_runs(runs: Sequence[Path], study: Sequence[Resolved], artifacts: Path) -> None:
    """Refuses runs whose folders the recipes' runs would replace before they are compared.

    Args:
        runs: Folders of runs, or their report.json.
        study: The recipes.
        artifacts: Folder of their runs.

    Raises:
        RecipeError: A run would be replaced.
    """
    written = {(artifacts / resolved.recipe.name).resolve(): resolved.path for resolved in study}
    problems = [
        Problem(
            str(path),
            f"is the run that {written[folder]} replaces",
            "copy it first, or give the recipes another --artifacts",
            kind="conflict",
        )
        for path in runs
        if (folder := report_file(path).parent.resolve()) in written
    ]
    if problems:
        raise RecipeError(problems)


def _shared_names(study: Sequence[Resolved]) -> Iterator[Problem]:
    """A problem for each recipe whose run would replace that of another recipe before it."""
    first: dict[str, Path] = {}
    for resolved in study:
        name = resolved.recipe.name
        if name in first:
            what = f"is {name!r}, as that of {first[name]}: one run would replace the other"
            yield Problem(f"{resolved.path}: name", what, "give each recipe a name of its own", kind="conflict")
        first.setdefault(name, resolved.path)


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
