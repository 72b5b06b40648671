"""One run of a recipe, as commands and the Python API start it: environment, log file, signals, unexpected errors."""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from compressor.errors import CompressError, ExitCode, Problem, RecipeError, StageError, suggest
from compressor.files import fills_a_disk
from compressor.host import resident_pages
from compressor.measure.client import Client
from compressor.pipeline import writable
from compressor.pipeline.log_capture import quiet, stream
from compressor.pipeline.unexpected import explained
from compressor.progress import Progress, console
from compressor.recipe.resolve import Resolved
from compressor.training import processes

if TYPE_CHECKING:
    from rich.console import Console

    from compressor.pipeline.plan import Plan
    from compressor.pipeline.run_folder import RunFolder
    from compressor.report.model import Report


@dataclass(frozen=True)
class Options:
    """How to run.

    Attributes:
        artifacts: Folder of the run's folder and of the store.
        until: Last stage to run; None for all.
        fresh: Rebuild this recipe's stages, ignoring the store.
        locked: Refuse to run if anything differs from the lock of the last run.
        allow_inconclusive: Count an inconclusive verdict as passed.
        command: The command line, for the report.
        lock: Refuse to run if anything differs from this lock.
        baseline: Another run, whose model the last stage is compared with.
    """

    artifacts: Path
    until: str | None = None
    fresh: bool = False
    locked: bool = False
    allow_inconclusive: bool = False
    command: str | None = None
    lock: Path | None = None
    baseline: Path | None = None


def run(resolved: Resolved, options: Options, client: Client, progress: Progress) -> Report:
    """Runs a recipe; waits until no other run has the run's folder.

    A run that breaks or is interrupted changes nothing in the run's folder but its log and its lock.

    Args:
        resolved: The recipe.
        options: How.
        client: Runs the measuring processes.
        progress: Shows progress.

    Returns:
        The report, which is also in the run's folder.

    Raises:
        CompressError: The run could not be finished.
    """
    names = resolved.recipe.stage_names()
    if options.until is not None and options.until not in names:
        what = f"{options.until!r} is not a stage of this recipe"
        raise RecipeError([Problem("--until", what, suggest(options.until, names), kind="unknown")])
    client.follow(resolved.recipe.measure)
    with processes.watched(progress.console.file), resident_pages.bounded():
        if processes.rank() > 0:  # rank 0 has the folder, and the others write nothing into it
            return _run(resolved, options, client, progress, None)
        from compressor.pipeline import run_folder

        with run_folder.claimed(options.artifacts / resolved.recipe.name, progress) as claimed:
            return _run(resolved, options, client, progress, claimed)


def _run(resolved: Resolved, options: Options, client: Client, progress: Progress, claimed: RunFolder | None) -> Report:
    set_environment()
    from compressor.pipeline import execute, lock, plan, regression
    from compressor.pipeline.store import Store
    from compressor.report.files import LOCK_FILE

    folder = options.artifacts / resolved.recipe.name
    against = None
    if options.baseline is not None:
        with progress.step(f"checking the files of {options.baseline}"):
            against = regression.find(options.baseline, folder)
    made = plan.make(resolved, download=True)
    if options.locked or options.lock is not None:
        lock.check(made, options.lock or folder / LOCK_FILE)
    _check_agreement(made)
    needed = made.keys() | ({against.key} if against else set())
    if claimed is not None:
        claimed.needs(needed)
    with Store(options.artifacts / ".store", processes.rank() > 0, lambda note: progress.say(f"  {note}")) as store:
        if options.fresh:
            processes.decided("the stages are forgotten", lambda: execute.forget(made, store, against))
        report = execute.run(
            made,
            store,
            folder,
            client,
            progress,
            options.until,
            against,
            command=options.command,
            allow_inconclusive=options.allow_inconclusive,
        )
        if claimed is not None:
            claimed.finished(needed | store.used)
    return report


def _check_agreement(made: Plan) -> None:
    """Refuses to train with processes that would build something else: they would wait for each other for ever.

    Raises:
        StageError: The inputs of a stage are others than in process 0.
    """
    inputs_of = {stage.name: {**stage.inputs, "measuring": stage.measured} for stage in made.stages}
    ours = json.loads(json.dumps(inputs_of))  # as process 0's come back
    first = processes.decided("inputs", lambda: ours)
    for name, inputs in ours.items():
        if other := sorted(key for key, value in inputs.items() if first.get(name, {}).get(key) != value):
            what = f"{name} is another stage in process {processes.rank()} than in process 0: {', '.join(other)}"
            hint = "processes that train together need the same code, libraries, data and kind of device"
            raise StageError(f"{what} differ; {hint}")


def run_on_terminal(resolved: Resolved, options: Options, client: Client) -> ExitCode:
    """Runs a recipe for a command: with progress bars, a log file and signals, and the report's table at the end.

    Args:
        resolved: The recipe.
        options: How.
        client: Runs the measuring processes.

    Returns:
        The exit code of the verdict.

    Raises:
        CompressError: The run could not be finished.
        KeyboardInterrupt: Ctrl-C or SIGTERM.
    """
    rank = processes.rank()
    shown = console(stream(sys.stderr), quiet=rank > 0)
    out = console(stream(sys.stdout), quiet=rank > 0)
    folder = options.artifacts / resolved.recipe.name
    log = folder / ("run.log" if rank == 0 else f"run.rank{rank}.log")
    writable.check(options.artifacts, resolved.recipe.name)
    try:
        with quiet(log), Progress(shown) as progress:
            _handle_signals(progress)
            report = run(resolved, options, client, progress)
    except CompressError as error:
        if fills_a_disk(error):
            raise explained(error, log, options.artifacts) from error
        raise
    except Exception as error:
        raise explained(error, log, options.artifacts) from error
    from compressor.report import terminal

    terminal.print_table(report, out)
    out.print(_result(report, folder), soft_wrap=True)
    if rank == 0:
        _add_summary(report, shown)
    return report.exit_code


def _result(report: Report, folder: Path) -> str:
    """What a run came to, and what to do, in a line."""
    ship = f"Ship {folder / 'model'}" if report.until is None else "The run is partial, so there is nothing to ship"
    words = {
        "pass": f"All gates pass. {ship}",
        "fail": "A gate failed; nothing to ship",
        "inconclusive": "A gate is inconclusive: it needs more validation rows or runs",
    }
    return f"{words[report.verdict]}; the report is {folder / 'report.html'}."


def _add_summary(report: Report, shown: Console) -> None:
    """Adds the report to the summary of a step of a GitHub job; prints a line if the summary cannot be written."""
    from compressor.report import files

    if path := os.environ.get("GITHUB_STEP_SUMMARY"):
        try:
            files.append_summary(report, Path(path))
        except OSError as error:
            line = f"GITHUB_STEP_SUMMARY: {path} cannot be written to ({error.strerror or error}); see report.md"
            shown.print(line, soft_wrap=True)


def set_environment() -> None:
    """Keeps libraries from reporting that they are used, and from drawing over our progress.

    They are not put offline: they read that once, when they are imported, so it would hold for all recipes of the
    process. Nothing of ours but `data.hub` asks them for more than local files.
    """
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["DO_NOT_TRACK"] = "1"
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"  # theirs would draw over ours, some of them at exit
    os.environ["HF_UPDATE_DOWNLOAD_COUNTS"] = "0"
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    for name in [name for name in os.environ if name.startswith("ACCELERATE_")]:
        del os.environ[name]  # `accelerate launch` and users set precision there, which is the recipe's and in keys


def _handle_signals(progress: Progress) -> None:
    signal.signal(signal.SIGTERM, progress.interrupt)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # ignored in a shell's background
        signal.signal(signal.SIGINT, progress.interrupt)
