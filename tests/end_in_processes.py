"""What the tests of processes that end alone run: `end_in_processes.py RECIPE FOLDER`, with a fork for each process.

Every case is a launcher and two processes of `compress run`. The launcher only starts them, as a job scheduler does, or
keeps the store and stops the rest once one has ended, as torchrun does. All cases share an artifacts folder. Writes as
JSON what became of the processes that were to go on: the exit code, minus one for one that hung, and the messages.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import onnxruntime
import torch
from in_process import InProcess
from torch.distributed import TCPStore

from compressor.commands.main import main
from compressor.measure import client
from compressor.measure.link import Link
from compressor.pipeline import execute
from compressor.training import trainer, training_checkpoints, watch

_LOADED = onnxruntime, execute
"""Imported before the forks, so that it is done once."""
PATIENCE_S = 30
"""Seconds after which a process hangs."""


@dataclass(frozen=True)
class Case:
    """Who ends, and when.

    Attributes:
        ends: The process that is killed; the launcher's number is -1.
        moment: `measuring` of process 0, before the `first step`, or the `later step`.
        torchrun: Whether the launcher does what torchrun does.
    """

    ends: int | None
    moment: str = ""
    torchrun: bool = False


CASES = {
    "follower before the first step": Case(1, "first step"),
    "follower in a step": Case(1, "later step", torchrun=True),
    "follower while the first measures": Case(1, "measuring"),
    "first while the follower waits": Case(0, "measuring"),
    "launcher while the first measures": Case(-1, "measuring", torchrun=True),
    "none": Case(None),
    "none, of a recipe that is missing": Case(None, torchrun=True),
}


def _reached(moment: str) -> None:
    """Ends whoever is to end at this moment."""
    case, rank, pids = _now
    if case.moment != moment or case.ends is None:
        return
    if moment == "measuring":  # process 0 measures alone
        os.kill({-1: os.getppid(), 0: os.getpid(), 1: pids[0]}[case.ends], signal.SIGKILL)
        time.sleep(PATIENCE_S)
    elif case.ends == rank:
        os.kill(os.getpid(), signal.SIGKILL)


class _Measuring(InProcess):
    def start(self) -> Link:
        _reached("measuring")
        return super().start()


class _Keeper(training_checkpoints.CheckpointKeeper):
    def on_step_end(self, args: Any, state: Any, control: Any, **options: Any) -> None:
        super().on_step_end(args, state, control, **options)
        if state.global_step == self.first_step + 3:
            _reached("later step")


class _Arguments(trainer.TrainingArguments):  # type: ignore[misc]
    def __post_init__(self) -> None:
        _reached("first step")
        super().__post_init__()


_now: tuple[Case, int, list[int]]


def _work(case: Case, rank: int, words: list[str], pids: list[int]) -> None:
    """A run, at a moment of which a process is killed."""
    global _now
    _now = case, rank, pids
    signal.alarm(PATIENCE_S)
    watch._PATIENCE_S, watch._LAST_S = 0.4, 1.0
    client.Client, trainer.CheckpointKeeper, trainer.TrainingArguments = _Measuring, _Keeper, _Arguments  # type: ignore[misc]
    torch.set_num_threads(1)
    sys.argv = ["compress", *words]
    main(words)


def _launch(case: Case, words: list[str], folder: Path) -> None:
    """Starts both processes, and notes what becomes of them."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    os.environ.update(COMPRESS_SAVE_EVERY_S="0", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), WORLD_SIZE="2")
    os.environ["TORCHELASTIC_USE_AGENT_STORE"] = str(case.torchrun)
    pids: list[int] = []
    for rank in (1, 0):
        os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank))
        pids.append(_forked(partial(_work, case, rank, words, pids), folder / str(rank)))
    kept = TCPStore("127.0.0.1", port, is_master=True, wait_for_workers=False) if case.torchrun else None
    running = set(pids)
    while running:
        pid, status = os.wait()
        running.discard(pid)
        _note(folder / f"{1 - pids.index(pid)}.code", os.waitstatus_to_exitcode(status))
        if status and case.torchrun:
            time.sleep(0.1)  # it looks ten times a second
            for other in running:
                os.kill(other, signal.SIGTERM)
    del kept


def _forked(work: Callable[[], object], place: Path) -> int:
    """Starts a process that does some work; its messages and its exit code go into files."""
    if pid := os.fork():
        return pid
    code = 70
    try:
        messages = os.open(place.with_suffix(".messages"), os.O_WRONLY | os.O_CREAT)
        for stream in (1, 2):
            os.dup2(messages, stream)
        work()
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        atexit._run_exitfuncs()
        sys.stderr.flush()
        _note(place.with_suffix(".code"), code)
        os._exit(code)


def _note(place: Path, code: int) -> None:
    """Writes an exit code whole: whoever waits for the file reads it the moment that it is there."""
    partial = place.with_suffix(f".{os.getpid()}.partial")
    partial.write_text(str(code))
    partial.rename(place)


def run(recipe: Path, folder: Path) -> None:
    """Runs all cases, one after the other."""
    found: dict[str, list[tuple[int, str]]] = {}
    for number, (name, case) in enumerate(CASES.items()):
        own = folder / str(number)
        own.mkdir()
        words = ["run", str(own if "missing" in name else recipe), "--artifacts", str(folder / "artifacts")]
        launcher = _forked(partial(_launch, case, words, own), own / "launcher")
        found[name] = []
        for rank in sorted({0, 1} - {case.ends}):
            code, end = own / f"{rank}.code", time.monotonic() + PATIENCE_S
            while not code.exists() and time.monotonic() < end:
                time.sleep(0.05)
            told = (own / f"{rank}.messages").read_text()
            found[name].append((int(code.read_text()) if code.exists() else -1, told))
        os.waitpid(launcher, 0)
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    run(Path(sys.argv[1]), Path(sys.argv[2]))
