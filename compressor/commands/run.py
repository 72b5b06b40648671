"""`compress run`: builds, measures and gates every stage of a recipe."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import click

from compressor.commands.options import EXIT_CODES, artifacts_option, overrides_option, recipe_argument
from compressor.errors import ExitCode


@click.command(epilog=EXIT_CODES)
@recipe_argument
@overrides_option
@artifacts_option
@click.option("--until", metavar="STAGE", help="Stop after this stage.")
@click.option("--fresh", is_flag=True, help="Rebuild this recipe's stages, ignoring the cache.")
@click.option("--locked", is_flag=True, help="Refuse to run if anything differs from the last run's lock.")
@click.option(
    "--lock",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Refuse to run if anything differs from this lock, for example one kept beside the recipe.",
)
@click.option(
    "--baseline",
    metavar="RUN",
    type=click.Path(path_type=Path),
    help="Compare the result with another run's model, for example main's; gates: `regression` in the recipe.",
)
@click.option("--allow-inconclusive", is_flag=True, help="Exit 0 if gates are inconclusive and none failed.")
def run(
    recipe: Path,
    overrides: tuple[str, ...],
    artifacts: Path,
    until: str | None,
    fresh: bool,
    locked: bool,
    lock: Path | None,
    baseline: Path | None,
    allow_inconclusive: bool,
) -> ExitCode:
    """Run a recipe: build, measure and gate every stage; write artifacts and reports.

    Writes report.json, report.html, report.md and junit.xml to the run's folder. In a GitHub job, which sets
    GITHUB_STEP_SUMMARY, report.md is also added to the job's summary.

    \b
    Example:
      compress run recipes/mobile_int8.yaml --set stages.distill.epochs=3
      compress run recipes/mobile_int8.yaml --lock recipes/mobile_int8.lock.yaml --baseline main/mobile_int8
    """
    from compressor.measure.client import Client
    from compressor.pipeline import session
    from compressor.recipe import resolve

    resolved = resolve.resolve(recipe, overrides)
    command = shlex.join(["compress", *sys.argv[1:]])
    options = session.Options(artifacts, until, fresh, locked, allow_inconclusive, command, lock, baseline)
    with Client() as client:
        return session.run_on_terminal(resolved, options, client)
