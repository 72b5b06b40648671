"""The `compress` command in tests: in this process where nothing needs one of its own, with one store for all tests."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from in_process import InProcess

SESSION = "COMPRESS_TESTS_SESSION"
"""Environment variable with a folder that all test processes of a session share."""
_TIMEOUT_S = 600


@dataclass(frozen=True)
class Finished:
    """The result of a command; the same attributes as those of a finished process."""

    returncode: int
    stdout: str
    stderr: str


def compress(*arguments: str | Path, cwd: Path) -> Finished:
    """Runs the command in this process, measuring included; an exception that it does not handle is raised.

    Signals, terminals, the log of what libraries print, and exit codes of a process are those of `compress_process`.
    """
    from click.testing import CliRunner

    from compressor.commands.main import main

    words = [str(argument) for argument in arguments]
    with _state_restored(), pytest.MonkeyPatch.context() as patch, contextlib.chdir(cwd):
        patch.setattr("compressor.measure.client.Client", InProcess)
        patch.setattr(sys, "argv", ["compress", *words])
        result = CliRunner().invoke(main, words, catch_exceptions=False)
    return Finished(result.exit_code, result.stdout, result.stderr)


def compress_process(
    *arguments: str | Path, cwd: Path, together: int | None = None
) -> subprocess.CompletedProcess[str]:
    """The real command in a process of its own, with real measuring processes.

    Args:
        arguments: The command line.
        cwd: Where it runs.
        together: Number of processes that torchrun starts; None for one process without torchrun.
    """
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(together)] if together else []
    command = [sys.executable, *torchrun, "-m", "compressor", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)


@contextlib.contextmanager
def _state_restored() -> Iterator[None]:
    """Undoes a command's changes of this process: environment variables, signal handlers, threads."""
    import torch

    environment, threads = dict(os.environ), torch.get_num_threads()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for name in os.environ.keys() - environment.keys():
            del os.environ[name]
        os.environ.update(environment)
        torch.set_num_threads(threads)
        for number, handler in handlers.items():
            signal.signal(number, handler)


def share_store(folder: Path) -> None:
    """Makes runs in a folder use the session's store: what has the same key is built once for all tests.

    Tests that are about what is in the store, and what is not, leave theirs alone.
    """
    store = Path(os.environ[SESSION]) / "store"
    store.mkdir(exist_ok=True)
    link = folder / "artifacts" / ".store"
    link.parent.mkdir(exist_ok=True)
    if not link.is_symlink():
        link.symlink_to(store)


def report_of(folder: Path) -> dict[str, Any]:
    """The report of the recipe `tiny` that was run in a folder."""
    found: dict[str, Any] = json.loads((folder / "artifacts" / "tiny" / "report.json").read_text())
    return found


def stage_of(report: dict[str, Any], name: str) -> dict[str, Any]:
    """A stage's entry of a report."""
    return next(entry for entry in report["stages"] if entry["name"] == name)
