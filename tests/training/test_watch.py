"""What a process is told of another that ends, by connections of two watches; with real kills: `test_processes.py`."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator

import pytest
from torch.distributed import HashStore

from compressor.training.watch import Watch

LONG_S = 30.0


@pytest.fixture
def pair(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Watch, Watch, HashStore]]:
    """Those of processes 0 and 1, which are connected."""
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    store = HashStore()
    watches = [Watch(store, rank, 2, lambda: False, launched=False) for rank in (0, 1)]
    while len(watches[0]._selector.get_map()) < 2:
        assert not watches[0].why(0.01)
    yield watches[0], watches[1], store
    for watch in watches:
        watch._close()


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("failing", [True, False])
def test_a_process_is_told_whether_another_ended_well(pair, first: int, failing: bool):
    ending, other = pair[first], pair[1 - first]
    ending.failing = failing
    ending._close()
    for key in list(ending._selector.get_map().values()):
        key.fileobj.close()
    assert bool(other.why(LONG_S if failing else 0.5)) == failing
    assert not failing or "has failed" in other.reason


@pytest.mark.parametrize("first", [0, 1])
def test_a_connection_that_ends_without_a_word_is_that_of_a_process_that_was_killed(pair, first: int):
    ending, other = pair[first], pair[1 - first]
    ending._stopped.set()
    ending._thread.join()
    for key in list(ending._selector.get_map().values()):
        ending._selector.unregister(key.fileobj)
        key.fileobj.close()
    assert "killed" in other.why(LONG_S)


def test_a_stranger_that_connects_and_leaves_is_no_process(pair):
    port, password = json.loads(pair[2].get("watch"))
    for said in (b"", b"GET / HTTP/1.1\r\n", password[:-1].encode()):
        with socket.create_connection(("localhost", port)) as stranger:
            stranger.sendall(said)
    assert not pair[0].why(0.5) and not pair[1].reason
