"""Processes that train together, as torchrun and accelerate start them: who this one is, and what the first tells all.

Process 0 does everything but training, which all of them do. Whatever decides how they go on, it decides alone and
tells the others: where each looked at its own clock or folder, they would part, and wait for each other for ever. Words
go through the launcher's key-value store, which belongs to one launch and has no time limit on waiting.
"""

from __future__ import annotations

import os
import pickle
import time
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from torch.distributed.distributed_c10d import PrefixStore

T = TypeVar("T")

_POLL_S = 0.2
_FAILED = "failed"


class OtherFailed(Exception):
    """Another process of the launch has failed, and has said why."""


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


def decided(name: str, decide: Callable[[], T]) -> T:
    """What process 0 decides, for all of them; the others wait for it.

    Args:
        name: Of the decision, which is made once in a launch.
        decide: Called in process 0. Its result can be pickled.

    Raises:
        OtherFailed: Another process has failed.
    """
    if count() == 1:
        return decide()
    if rank() == 0:
        result = decide()
        _launch().set(name, pickle.dumps(result).hex())
        return result
    wait_until(lambda: _launch().check([name]))
    told: T = pickle.loads(bytes.fromhex(_launch().get(name).decode()))
    return told


def wait_until(done: Callable[[], bool]) -> None:
    """Waits for another process, however long that takes.

    Raises:
        OtherFailed: One has failed.
    """
    while not done():
        if _launch().check([_FAILED]):
            raise OtherFailed
        time.sleep(_POLL_S)


def first_to_fail(exit_code: int) -> int | None:
    """Notes that this process has failed: None if it is the first, which tells the user; else the first one's code.

    Args:
        exit_code: What this process would end with.
    """
    if count() == 1:
        return None
    own = f"{rank()}:{exit_code}"
    first: bytes = _launch().compare_set(_FAILED, "", own)
    return None if first.decode() == own else int(first.decode().rpartition(":")[2])
