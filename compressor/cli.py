"""The `compress` command: arguments in, exit codes out, and nothing else."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from compressor import __version__
from compressor.errors import CompressError, ExitCode

if TYPE_CHECKING:
    from rich.console import Console

    from compressor.validate import Resolved

EXIT_CODES = """\b
Exit codes:
  0    every gate passes
  1    a gate failed
  2    the recipe or the command line is wrong
  3    a stage failed
  4    a gate is inconclusive: too few samples, or too noisy, to say
  130  interrupted; the same command goes on from there"""

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
@click.option("--allow-inconclusive", is_flag=True, help="Exit 0 when gates are inconclusive and none failed.")
@_told
def run(
    recipe: Path,
    overrides: tuple[str, ...],
    artifacts: Path,
    until: str | None,
    fresh: bool,
    locked: bool,
    allow_inconclusive: bool,
) -> None:
    """Run a recipe: build, measure and gate every stage; write artifacts and report.

    \b
    Example:
      compress run recipes/mobile_int8.yaml --set stages.distill.epochs=3
    """
    from compressor import validate

    resolved = validate.resolve(recipe, overrides)
    names = resolved.recipe.stage_names()
    if until is not None and until not in names:
        raise click.BadParameter(f"{until!r} is no stage of this recipe: {', '.join(names)}", param_hint="--until")
    folder = artifacts / resolved.recipe.name
    code = _run(resolved, artifacts, folder, until, fresh, locked, allow_inconclusive)
    sys.exit(code)


def _run(
    resolved: Resolved,
    artifacts: Path,
    folder: Path,
    until: str | None,
    fresh: bool,
    locked: bool,
    allow_inconclusive: bool,
) -> ExitCode:
    from rich.console import Console

    from compressor import progress

    uses_hub = _set_environment(resolved)
    rank = int(os.environ.get("RANK", "0"))  # set by torchrun and accelerate; rank 0 does all that is not training
    console = Console(file=progress.stream(sys.stderr), stderr=True, quiet=rank > 0)
    out = Console(file=progress.stream(sys.stdout), width=None if sys.stdout.isatty() else 160, quiet=rank > 0)
    log = folder / ("run.log" if rank == 0 else f"run.rank{rank}.log")
    try:
        with progress.quiet(log), progress.Progress(console) as bars:
            signal.signal(signal.SIGTERM, bars.interrupt)
            if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as it is in the background of a shell
                signal.signal(signal.SIGINT, bars.interrupt)
            from compressor import pipeline, plan
            from compressor.store import Store

            made = plan.make(resolved, download=uses_hub)
            if locked:
                plan.check_locked(made, folder)
            store = Store(artifacts / ".store", follower=rank > 0)
            if fresh and not store.follower:
                pipeline.forget(made, store)
            report = pipeline.run(made, store, folder, bars, until)
    except CompressError:
        raise
    except KeyboardInterrupt:
        raise
    except Exception as error:
        _log_traceback(log)
        raise _explained(error, log) from error
    from compressor.report import text

    text.print_table(report, out)
    _print_outcome(out, report.verdict, folder)
    return report.exit_code(allow_inconclusive)


def _print_outcome(out: Console, verdict: str, folder: Path) -> None:
    words = {
        "pass": f"All gates pass. Ship {folder / 'model'}; the report is {folder / 'report.md'}.",
        "fail": f"A gate failed; nothing to ship. The report is {folder / 'report.md'}.",
        "inconclusive": f"A gate is inconclusive: more validation rows or runs would tell. See {folder / 'report.md'}.",
    }
    out.print(words[verdict], soft_wrap=True, highlight=False)


def _set_environment(resolved: Resolved) -> bool:
    """Keeps libraries off the network unless the recipe names the hub; returns whether it does."""
    from compressor.recipe import HubDataset

    parts = (resolved.model, resolved.train, resolved.validation)
    uses_hub = not isinstance(resolved.model, Path) or any(isinstance(part, HubDataset) for part in parts)
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["DO_NOT_TRACK"] = "1"
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    if not uses_hub:
        os.environ["HF_HUB_OFFLINE"] = "1"
        os.environ["HF_DATASETS_OFFLINE"] = "1"
    return uses_hub


def _log_traceback(log: Path) -> None:
    import traceback

    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as file:
        traceback.print_exc(file=file)


def _explained(error: Exception, log: Path) -> CompressError:
    """One message for an error that no one expected."""
    import errno

    from compressor.errors import StageError

    full = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    told = str(error).strip() or type(error).__name__
    if getattr(error, "errno", None) in full or "No space left" in told or "File too large" in told:
        return StageError(f"the disk is full: {told}\n  free some space or choose another disk with --artifacts")
    if isinstance(error, MemoryError) or "not enough memory" in told:
        return StageError(f"out of memory: {told}\n  lower batch_size or max_sequence_length")
    first = told.splitlines()[0]
    return StageError(f"{type(error).__name__}: {first}\n  the whole story is in {log}")


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
    from compressor import validate as validation

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
    from compressor import plan as planning
    from compressor import validate as validation
    from compressor.store import Store

    resolved = validation.resolve(recipe, overrides)
    _set_environment(resolved)
    made = planning.make(resolved, download=False)
    lock = planning.read_lock(artifacts / resolved.recipe.name)
    store = Store(artifacts / ".store")
    if made.model is None:
        click.echo(f"model {resolved.recipe.model}: not downloaded yet; keys are known when it is")
    width = max(len(step.name) for step in made.steps)
    for step in made.steps:
        state, reasons = planning.state(step, store, lock)
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
    from compressor import schema as schemas

    click.echo(schemas.json_schema() if form == "json" else schemas.markdown(), nl=False)
