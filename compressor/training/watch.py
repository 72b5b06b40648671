"""Notices when another process of a launch ends, however it ends: the system closes its connections.

Process 0 listens, the others connect to it, and whoever ends well says so first. A process that is suspended, or busy
for minutes, keeps its connection; one that is killed loses it at once, on another machine too. So nothing is guessed
from time, and nobody waits for the time limits of torch.distributed, which are half an hour.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import secrets
import selectors
import signal
import socket
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.distributed.distributed_c10d import PrefixStore

_PLACE = "watch"
"""Key of the address and the password of process 0."""
_WELL, _FAILED = b".", b"!"
"""How a process says that it ends."""
_POLL_S = 0.2
_PATIENCE_S = 2.0
"""A process that needs another which has ended finds out itself in this time, or the launcher stops it."""
_LAST_S = 10.0
"""Then it is interrupted, which it does not notice while a library waits; after this time it is ended."""


class Watch:
    """A thread that watches the other processes from now until this one ends.

    Args:
        store: The launcher's key-value store.
        rank: Number of this process.
        count: How many processes there are.
        failed: Whether one of them has said that it failed.
        launched: Whether the parent is the launcher, without which no process can go on.

    Attributes:
        reason: Why this process cannot go on, once it cannot.
        stored: Whether the store can still be used.
        failing: Whether this process ends because it failed.
        working: Whether this process needs the others.
        end: Ends this process, which hangs.
    """

    def __init__(self, store: PrefixStore, rank: int, count: int, failed: Callable[[], bool], launched: bool) -> None:
        self._store, self._rank, self._count, self._failed, self._launched = store, rank, count, failed, launched
        self._parent = os.getppid()
        self.reason = ""
        self.stored, self.failing = True, False
        self.working = False
        self.end: Callable[[], None] = lambda: None
        self._noticed, self._stopped = threading.Event(), threading.Event()
        self._selector = selectors.DefaultSelector()
        self._password = b""
        self._met = False
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()
        atexit.register(self._close)

    def why(self, patience_s: float = 0.0) -> str:
        """Why this process cannot go on; empty if it can.

        Args:
            patience_s: How long to wait for a reason: what fails for want of another process fails before that is seen.
        """
        self._noticed.wait(patience_s)
        return self.reason

    def _run(self) -> None:
        while not (self._stopped.is_set() or self.reason):
            if not self._met:
                self._meet()
            news = self._news()
            if news == _WELL and self._rank > 0:  # process 0 is done, and its store may be gone
                self.stored = False
                return
            self.reason = self._ended(news)
        if self.reason:
            self._noticed.set()
            self._stop_working()

    def _meet(self) -> None:
        """Connects this process to process 0, or process 0 to the others, as soon as that can be."""
        try:
            if self._rank == 0:
                self._listen()
            elif self._store.check([_PLACE]):
                self._connect()
        except RuntimeError:  # the store has ended, which is found next
            return
        except OSError as error:  # a network that lets only the ports of torch through, perhaps
            logging.getLogger("compressor").warning("other processes are not watched: %s", error)
            self._met = True

    def _ended(self, news: bytes | None) -> str:
        """Why this process cannot go on, given how another has ended, if one has."""
        again = "run the same command again to resume"
        try:
            if news == _FAILED or self._failed():
                return f"another process that trains with this one has failed; {again}"
        except RuntimeError:
            self.stored = False
        if self._launched and (os.getppid() != self._parent or not self.stored):
            return f"the launcher of the processes that train together has ended; {again}"
        if news == b"" or not self.stored:
            ended = (
                f"one of the {self._count} processes that train together has ended, killed perhaps for lack of memory"
            )
            return f"{ended}; {again}, with a lower batch_size if need be"
        return ""

    def _listen(self) -> None:
        """Waits for the others at the address where they find the store, and lets in those that know the password."""
        self._password = secrets.token_hex().encode()
        family, _, _, _, address = socket.getaddrinfo(os.environ["MASTER_ADDR"], 0, type=socket.SOCK_STREAM)[0]
        server = socket.create_server((str(address[0]), 0), family=family, backlog=self._count)
        self._selector.register(server, selectors.EVENT_READ, None)
        self._store.set(_PLACE, json.dumps([server.getsockname()[1], self._password.decode()]))
        self._met = True

    def _connect(self) -> None:
        port, password = json.loads(self._store.get(_PLACE))
        connection = socket.create_connection((os.environ["MASTER_ADDR"], port), _LAST_S)
        connection.sendall(str(password).encode())
        self._keep(connection)
        self._met = True

    def _keep(self, connection: socket.socket) -> None:
        connection.setblocking(True)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._selector.register(connection, selectors.EVENT_READ, b"")

    def _news(self) -> bytes | None:
        """Waits a moment; how another process has ended: what it said, which is nothing if it was killed."""
        for key, _ in self._selector.select(_POLL_S):
            connection = key.fileobj
            assert isinstance(connection, socket.socket)
            if key.data is None:
                self._keep(connection.accept()[0])
                continue
            try:
                new = connection.recv(4096)
            except OSError:  # it ended with unread news of ours
                new = b""
            said = key.data + new
            if new and self._password.startswith(said[: len(self._password)]):
                self._selector.modify(connection, selectors.EVENT_READ, said)
                continue
            self._selector.unregister(connection)
            connection.close()
            if said.startswith(self._password) and not new:
                return bytes(said[len(self._password) :])
        return None

    def _stop_working(self) -> None:
        """Stops this process where it needs the others and does not find out that they have ended."""
        if not self._works_after(_PATIENCE_S):
            return
        sent = signal.SIGTERM if callable(signal.getsignal(signal.SIGTERM)) else signal.SIGINT
        main = threading.main_thread().ident
        assert main is not None, "it has started"
        signal.pthread_kill(main, sent)
        if self._works_after(_LAST_S):
            self.end()

    def _works_after(self, seconds: float) -> bool:
        for _ in range(round(seconds / _POLL_S)):
            if not self.working or self._stopped.wait(_POLL_S):
                return False
        return self.working

    def _close(self) -> None:
        """Says goodbye, at the end of this process."""
        self._stopped.set()
        self._thread.join(_PATIENCE_S)
        for key in list(self._selector.get_map().values()):
            if key.data is not None:
                assert isinstance(key.fileobj, socket.socket)
                try:
                    key.fileobj.sendall(_FAILED if self.failing else _WELL)
                except OSError:
                    pass
