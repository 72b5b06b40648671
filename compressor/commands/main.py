"""The `compress` command: arguments in, exit codes out, and nothing else."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

import click

from compressor import __version__
from compressor.errors import CompressError, ExitCode, Problem, RecipeError

EXIT_CODES = """\b
Exit codes:
  0    every gate passes
  1    a gate failed
  2    the recipe or the command line is wrong
  3    a stage failed
  4    a gate is inconclusive: too few samples, or too noisy, to say
  130  interrupted; the same command goes on from there"""

VERIFY_CODES = """\b
Exit codes:
  0    everything is as it was published, and passed
  1    a check failed, or a gate of the run had
  2    the command line is wrong, or DIR is no folder that a run left
  4    everything is as it was published, but a gate of the run was inconclusive"""

_recipe = click.argument("recipe", type=click.Path(path_type=Path))
_overrides = click.option(
    "--set", "overrides", multiple=True, metavar="PATH=VALUE", help="Override a key, e.g. stages.distill.epochs=2."
)
_artifacts = click.option(
    "--artifacts",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("artifacts"),
    show_default=True,
    help="Folder for results and the store.",
)


def _told(command: Callable[..., None]) -> Callable[..., None]:
    """Turns our errors into one message and an exit code."""

    @wraps(command)
    def wrapper(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except CompressError as error:
            click.echo(f"error: {error}", err=True)
            sys.exit(error.exit_code)
        except KeyboardInterrupt:
            click.echo("\nstopped; the same command goes on from here", err=True)
            sys.exit(ExitCode.INTERRUPTED)

    return wrapper


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Tells in one line that a file or folder cannot be written to."""
    try:
        yield
    except OSError as error:
        raise RecipeError([Problem(str(path), f"cannot be written to: {error.strerror or error}")]) from None


@click.group(epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="compress")
def main() -> None:
    """Compress BERT checkpoints for devices, from a recipe, with gates.

    \b
    Example:
      compress run recipes/mobile_int8.yaml
    """


@main.command(epilog=EXIT_CODES)
@_recipe
@_overrides
@_artifacts
@click.option("--until", metavar="STAGE", help="Stop after this stage.")
@click.option("--fresh", is_flag=True, help="Forget what is cached of this recipe's stages.")
@click.option("--locked", is_flag=True, help="Refuse to run if anything differs from the lock of the last run.")
@click.option(
    "--lock",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Refuse to run if anything differs from this lock, such as one kept beside the recipe.",
)
@click.option(
    "--baseline",
    metavar="RUN",
    type=click.Path(path_type=Path),
    help="Compare the result with the model of another run, such as main's; see `regression` in the recipe.",
)
@click.option("--allow-inconclusive", is_flag=True, help="Exit 0 when gates are inconclusive and none failed.")
@_told
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
) -> None:
    """Run a recipe: build, measure and gate every stage; write artifacts and reports.

    Leaves report.json, report.html, report.md and junit.xml in the run's folder. Where GITHUB_STEP_SUMMARY is set, as
    it is in GitHub's jobs, report.md is added to the file it names.

    \b
    Example:
      compress run recipes/mobile_int8.yaml --set stages.distill.epochs=3
      compress run recipes/mobile_int8.yaml --lock recipes/mobile_int8.lock.yaml --baseline main/mobile_int8
    """
    from compressor.pipeline import session
    from compressor.recipe import resolve

    resolved = resolve.resolve(recipe, overrides)
    names = resolved.recipe.stage_names()
    if until is not None and until not in names:
        raise click.BadParameter(f"{until!r} is no stage of this recipe: {', '.join(names)}", param_hint="--until")
    command = shlex.join(["compress", *sys.argv[1:]])
    options = session.Options(artifacts, until, fresh, locked, allow_inconclusive, command, lock, baseline)
    sys.exit(session.run(resolved, options))


@main.command()
@_recipe
@_overrides
@_told
def validate(recipe: Path, overrides: tuple[str, ...]) -> None:
    """Check a recipe and everything it points to, without running it.

    \b
    Example:
      compress validate recipes/mobile_int8.yaml
    """
    from compressor.recipe import resolve as validation

    resolved = validation.resolve(recipe, overrides)
    click.echo(f"{recipe}: ok, {len(resolved.recipe.stages)} stages: {' → '.join(resolved.recipe.stage_names())}")


@main.command()
@_recipe
@_overrides
@_artifacts
@_told
def plan(recipe: Path, overrides: tuple[str, ...], artifacts: Path) -> None:
    """Show what a run would do, what is cached, and why the rest is not.

    \b
    Example:
      compress plan recipes/mobile_int8.yaml
    """
    from compressor.pipeline import cache_state, session
    from compressor.pipeline import lock as locks
    from compressor.pipeline import plan as plan_module
    from compressor.pipeline.store import Store
    from compressor.recipe import resolve as validation

    resolved = validation.resolve(recipe, overrides)
    session.set_environment(resolved)
    made = plan_module.make(resolved, download=False)
    lock = locks.read(artifacts / resolved.recipe.name / locks.LOCK_FILE)
    store = Store(artifacts / ".store")
    if made.model is None:
        click.echo(f"model {resolved.recipe.model}: not downloaded yet; keys are known when it is")
    width = max(len(step.name) for step in made.steps)
    for step in made.steps:
        state, reasons = cache_state.state(step, store, lock)
        click.echo(f"{step.name:<{width}}  {state:<7}  {step.key}  {'; '.join(reasons)}".rstrip())


@main.command()
@click.option("--format", "form", type=click.Choice(["json", "markdown"]), default="json", show_default=True)
@_told
def schema(form: str) -> None:
    """Print the recipe's JSON Schema, or the reference of every key.

    \b
    Example:
      compress schema > recipe.schema.json
    """
    from compressor.recipe import reference as schemas

    click.echo(schemas.json_schema() if form == "json" else schemas.markdown(), nl=False)


@main.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True, help="Threads of each runtime.")
@click.option("--batch-size", type=click.IntRange(min=1), default=1, show_default=True, help="Rows per call.")
@click.option("--sequence-length", type=click.IntRange(min=2), default=64, show_default=True, help="Tokens per row.")
@click.option("--runs", type=click.IntRange(min=1), default=200, show_default=True, help="Timed calls of each.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@_told
def bench(
    paths: tuple[Path, ...], threads: int, batch_size: int, sequence_length: int, runs: int, as_json: bool
) -> None:
    """Time folders, ONNX and TorchScript files side by side, in turn, in fresh processes.

    \b
    Example:
      compress bench artifacts/teacher/model artifacts/mobile_int8/model --sequence-length 64
    """
    from dataclasses import asdict

    from rich.console import Console

    from compressor.measure import bench as benching
    from compressor.progress import Progress
    from compressor.report import terminal

    with Progress(Console(stderr=True)) as progress, progress.step("timing", runs) as step:
        timed = benching.bench(
            paths, threads=threads, batch_size=batch_size, sequence_length=sequence_length, runs=runs, step=step
        )
    if as_json:
        click.echo(json.dumps([asdict(entry) for entry in timed], indent=2))
    else:
        terminal.print_bench(timed, Console(width=None if sys.stdout.isatty() else 160))


@main.command(epilog=VERIFY_CODES)
@click.argument("path", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@_told
def verify(path: Path, as_json: bool) -> None:
    """Check a folder that ships, without the training data.

    DIR is a run's folder or its model/. Checks that every file is what was published, that its formats give the same
    answers as each other and as when they were made, and what its gates said. Latency depends on the machine: for
    that there is `compress bench`.

    \b
    Example:
      compress verify artifacts/mobile_int8
    """
    from rich.console import Console

    from compressor.package import verify as verification
    from compressor.progress import Progress
    from compressor.report import terminal

    with Progress(Console(stderr=True)) as progress:
        found = verification.verify(path, progress)
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=2))
    else:
        terminal.print_verification(found.checks, found.gates, Console(width=None if sys.stdout.isatty() else 160))
    sys.exit(found.exit_code)


@main.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with every tensor, instead of tables.")
@_told
def inspect(path: Path, as_json: bool) -> None:
    """Show what a folder or file holds: parameters stored and as called, bytes by part and type, operators.

    \b
    Example:
      compress inspect artifacts/mobile_int8/model
    """
    from rich.console import Console

    from compressor.package import inspection
    from compressor.report import terminal

    found = inspection.inspect(path)
    if as_json:
        click.echo(json.dumps([entry.to_json() for entry in found], indent=2))
    else:
        terminal.print_inspections(found, Console(width=None if sys.stdout.isatty() else 160))


@main.command()
@click.argument("path", metavar="RUN", type=click.Path(path_type=Path))
@_told
def report(path: Path) -> None:
    """Write report.html, report.md and junit.xml again from a run's report.json.

    RUN is a run's folder or its report.json.

    \b
    Example:
      compress report artifacts/mobile_int8
    """
    from compressor.pipeline import lock
    from compressor.report import files, model

    found = model.read(path)
    folder = model.file(path).parent
    with _writing(folder):
        files.write(found, folder, lock.text(folder / lock.LOCK_FILE))
    click.echo(f"{folder}: {', '.join(files.NAMES)}: {found.verdict}")


@main.command()
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=click.Path(path_type=Path))
@_overrides
@_artifacts
@click.option("--stages", "every_stage", is_flag=True, help="Show what every stage came to, not only the last.")
@click.option("--without", multiple=True, metavar="STAGE", help="Run recipes a second time without this stage.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
@click.option("--markdown", "as_markdown", is_flag=True, help="Print tables in Markdown, to paste.")
@click.option("--html", "page", type=click.Path(path_type=Path, dir_okay=False), help="Draw the runs on a page.")
@_told
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
    """Show runs side by side: quality, latency, memory, size, parameters, and who is on the Pareto front.

    A PATH is a run's folder or its report.json, or a recipe, which is run first; what was run before comes from the
    store. Shown are each run's baseline and the last stage that was measured. Runs of one task are compared with each
    other. To time their models in one process there is `compress bench`.

    \b
    Example:
      compress compare artifacts/mobile_int8 artifacts/albert_int8 --html compare.html
      compress compare recipes/study/*.yaml --stages --without prune --html study.html
    """
    from rich.console import Console

    from compressor.files import write_atomic
    from compressor.pipeline import study
    from compressor.report import comparison, comparison_page, markdown

    if as_json and as_markdown:
        raise click.UsageError("--json and --markdown are two ways to print; choose one")
    recipes = [path for path in paths if path.suffix in study.SUFFIXES]
    if not recipes and (overrides or without):
        raise click.UsageError("--set and --without are for recipes, and there is none among the paths")
    parts = study.forms(recipes, overrides, without)
    runs = [path for path in paths if path not in recipes]
    groups = comparison.compare([*runs, *study.run(parts, artifacts)], every_stage)
    if page is not None:
        with _writing(page):
            write_atomic(page, comparison_page.document(groups))
    if as_json:
        click.echo(json.dumps(comparison.to_json(groups), indent=2))
    elif as_markdown:
        click.echo(markdown.comparison(groups), nl=False)
    else:
        comparison.print_groups(groups, Console(width=None if sys.stdout.isatty() else 160))


@main.command()
@_told
def doctor() -> None:
    """Show versions, CPU features and threads, and what is missing for which extra.

    \b
    Example:
      compress doctor
    """
    from compressor.commands import doctor as diagnosis
    from compressor.host import DISTRIBUTION

    for name, value in diagnosis.rows():
        click.echo(f"{name:<16} {value}")
    for extra, absent in sorted(diagnosis.missing().items()):
        what = f"extra {extra!r}" if extra else "installation"
        hint = f"missing {', '.join(absent)}: pip install '{DISTRIBUTION}[{extra}]'" if absent else "complete"
        click.echo(f"{what:<16} {hint}")
