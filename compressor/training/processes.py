"""Processes that train together, as torchrun and accelerate start them: who this one is, and what the first tells all.

Process 0 does everything but training, which all of them do. Whatever decides how they go on, it decides alone and
tells the others: where each looked at its own clock or folder, they would part, and wait for each other for ever. Words
go through the launcher's key-value store, which belongs to one launch and has no time limit on waiting.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import IO, TYPE_CHECKING, TypeVar

from compressor.errors import ExitCode, StageError

if TYPE_CHECKING:
    from pathlib import Path

    from torch.distributed.distributed_c10d import PrefixStore

    from compressor.training.watch import Watch

T = TypeVar("T")

_POLL_S = 0.05
_FAILED = "failed"
_AGENT = "TORCHELASTIC_USE_AGENT_STORE"
"""Environment variable of torchrun and accelerate, whose own process keeps the store."""
_NEWS_S = 1.0
"""How long after another process has ended that is known, at most."""


def count() -> int:
    """How many processes train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """Number of this process among those that train together."""
    return int(os.environ.get("RANK", "0"))


@cache
def _launch() -> PrefixStore:
    """The launcher's key-value store."""
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    store, _, _ = next(rendezvous("env://"))
    return PrefixStore("compress", store)


_decisions: Counter[str] = Counter()


def decided(name: str, decide: Callable[[], T]) -> T:
    """What process 0 decides, for all of them; the others wait for it.

    Args:
        name: Of the decision. Where it is made again, all that make it make it equally often.
        decide: Called in process 0. Its result is JSON: nothing that another process sends is ever unpickled.

    Returns:
        The result; with several processes, in all of them as it comes back from JSON.

    Raises:
        StageError: Another process has ended.
    """
    if count() == 1:
        return decide()
    _decisions[name] += 1
    place = f"{name} ({_decisions[name]})"
    if rank() == 0:
        _launch().set(place, json.dumps(decide()))
    else:
        wait_until(lambda: bool(_launch().check([place])))
    decision: T = json.loads(_launch().get(place))
    return decision


def place(folder: Path) -> str:
    """A folder's name for decisions: what its paths on machines that mount the store elsewhere have in common."""
    return "/".join(folder.parts[-2:])


def wait_until(done: Callable[[], bool]) -> None:
    """Waits for another process, however long that takes.

    Raises:
        StageError: One has ended.
    """
    while not done():
        if count() > 1 and (reason := _watch().why()):
            raise StageError(reason)
        time.sleep(_POLL_S)


@cache
def _watch() -> Watch:
    """Watches the other processes."""
    from compressor.training.watch import Watch

    return Watch(
        _launch(), rank(), count(), lambda: bool(_launch().check([_FAILED])), os.environ.get(_AGENT) == str(True)
    )


@contextmanager
def watched(messages: IO[str]) -> Iterator[None]:
    """Within it, this process needs the others of its launch, and ends when one of them has ended, killed for instance.

    Args:
        messages: Gets the reason, if this process hangs in a library and has to be ended.

    Raises:
        StageError: Another process has ended, or the launcher has.
    """
    if count() == 1:
        yield
        return
    watch = _watch()

    def end() -> None:
        if first_to_fail(ExitCode.STAGE_FAILED) is None:
            messages.write(f"error: {watch.reason}\n")
            messages.flush()
        os._exit(ExitCode.STAGE_FAILED)

    watch.working, watch.failing, watch.end = True, True, end
    try:
        yield
        watch.failing = False
    except (KeyboardInterrupt, RuntimeError) as error:  # of the launcher or the watch; of torch.distributed
        if reason := watch.why(_NEWS_S):
            raise StageError(reason) from error
        raise
    finally:
        watch.working = False


def first_to_fail(exit_code: int) -> int | None:
    """Notes that this process has failed: None if it is the first, which tells the user; else the first one's code.

    Args:
        exit_code: What this process would end with.
    """
    connected = _launch.cache_info().currsize > 0
    if count() == 1 or not (connected or os.environ.get(_AGENT) == str(True)):
        return None
    if _watch.cache_info().currsize and not _watch().stored:
        return None
    own = f"{rank()}:{exit_code}"
    try:
        first: bytes = _launch().compare_set(_FAILED, "", own)
    except RuntimeError:  # whoever kept the store has ended
        return None
    return None if first.decode() == own else int(first.decode().rpartition(":")[2])
