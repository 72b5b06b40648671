"""The process that a worker is, or that leads to it on a device."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import tempfile
from typing import BinaryIO, cast

from compressor.errors import StageError
from compressor.measure.link import Link
from compressor.measure.transport import Transport

_END_S = 10.0
"""Seconds in which a process ends that has closed its connection."""
_LOGGED_LINES = 20


class WorkerProcess:
    """A process, and the connection with the worker that it is or leads to.

    Args:
        transport: Starts it.

    Attributes:
        name: The device, for messages.
        shared: Whether it sees this machine's files by their paths.
        link: The connection.

    Raises:
        StageError: It does not start.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self.name, self.shared = transport.name, transport.shared
        self._log = tempfile.TemporaryFile()  # it has no name that a killed run could leave behind
        self._logged = 0
        try:
            self._process = subprocess.Popen(
                transport.command(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                env=dict(transport.environment()),
                start_new_session=True,  # no terminal: nothing can ask for a password there
            )
        except OSError as error:
            self._log.close()
            what = f"{transport.name} cannot be reached: {error.strerror}: {error.filename}"
            raise StageError(f"{what}; {transport.advice(None, '')}") from error
        self.link = Link(cast(BinaryIO, self._process.stdout), cast(BinaryIO, self._process.stdin), self)

    @property
    def pid(self) -> int:
        """The process on this machine."""
        return self._process.pid

    def became(self) -> str:
        """What the process ended with, the last line that it printed, and of a device what to do about it."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_S)
        said = self.logged()
        last = next((line for line in reversed(said) if line.strip()), "no output")
        code = self._process.returncode
        how = "closed its connection and hung" if code is None else f"ended with {code}"
        return f"{how}: {last}" + ("" if self.shared else f"; {self._transport.advice(code, ' '.join(said))}")

    def logged(self) -> list[str]:
        """Copies what the process printed since the last job to our log; the last lines of it."""
        size = os.fstat(self._log.fileno()).st_size  # the process writes where we would seek to: the file is one
        text = os.pread(self._log.fileno(), size - self._logged, self._logged)
        self._logged = size
        lines = text.decode(errors="replace").splitlines()[-_LOGGED_LINES:]
        for line in lines:
            logging.getLogger("compressor.measure").info("%s", line)
        return lines

    def stop(self) -> None:
        """Ends the process, and what it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._log.close()
