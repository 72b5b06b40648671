"""A connection with a worker: gives it files, does one job after the other, and says what became of it."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from compressor.device import worker
from compressor.device.worker import Arrays, Channel, Refused
from compressor.errors import StageError, printable
from compressor.files import file_digest
from compressor.measure import messages
from compressor.measure.messages import Fields, Message
from compressor.progress import Step

_START_S = 60.0
"""Seconds in which a worker says what it is: emulators take ten."""
_SLICE_S = 1.0
_MOST_ANSWER = 8 << 30
_WAITING = 8
"""Messages that are read before they are asked for."""


class End(Protocol):
    """The other end: the process that the worker is, or that leads to it.

    Attributes:
        name: The device, for messages.
        shared: Whether it sees this machine's files by their paths.
    """

    name: str
    shared: bool

    def logged(self) -> list[str]:
        """Copies what it printed since the last job to our log; the last lines of it."""

    def became(self) -> str:
        """What became of it, now that its messages have ended: how, why, and what to do about it."""

    def stop(self) -> None:
        """Ends it: it holds nothing that would be lost."""


class Link:
    """A connection with a worker that was just started with `worker.BOOT`.

    Args:
        reader: Its output.
        writer: Its input.
        end: The process.

    Attributes:
        end: The same.
        hello: What the worker said of itself: `machine`, `versions`, `state`.

    Raises:
        StageError: It does not start.
    """

    def __init__(self, reader: BinaryIO, writer: BinaryIO, end: End) -> None:
        self.end = end
        self._reader, self._writer = reader, writer
        self._channel = Channel(reader, writer, _MOST_ANSWER)
        self._sender: threading.Thread | None = None
        self._messages: queue.Queue[Message | Exception] = queue.Queue(_WAITING)
        self._closed = threading.Event()
        self._receiver = threading.Thread(target=self._read, daemon=True)
        self._receiver.start()
        self.hello = self._started()

    @property
    def sent(self) -> int:
        """Bytes sent so far, but for the worker's source."""
        return self._channel.sent

    def _started(self) -> dict[str, Any]:
        """Sends the worker its source; what it says of itself."""
        source = Path(worker.__file__).read_bytes()
        try:
            with contextlib.suppress(OSError):
                self._writer.write(b"%d\n" % len(source) + source)
                self._writer.flush()
            header, _ = self._receive(f"the worker on {self.end.name}", None, _START_S)
        except BaseException:
            self.close()
            raise
        if header["kind"] == "hello":
            return header
        self.close()
        if header.get("reason") == "old":
            what = f"{self.end.name} has Python {printable(str(header.get('python')))}; 3.8 or newer is needed"
        else:
            what = f"{self.end.name}: the worker did not start: {printable(str(header.get('reason')))}"
        raise StageError(f"{what}; set python to another one there, with numpy and onnxruntime")

    def _read(self) -> None:
        """Puts messages where the job waits for them, until there are none any more."""
        while not self._closed.is_set():
            try:
                found: Message | Exception = messages.known(self._channel.receive())
            except (EOFError, OSError, ValueError, Refused) as error:
                found = error
            while not self._closed.is_set():
                with contextlib.suppress(queue.Full):
                    self._messages.put(found, timeout=_SLICE_S)
                    break
            if isinstance(found, Exception):
                return

    def do(
        self,
        what: str,
        kind: str,
        fields: Fields,
        timeout_s: float,
        arrays: Arrays | None = None,
        step: Step | None = None,
    ) -> Message:
        """Does a job that is one message, and waits for its end.

        Args:
            what: The job, for messages.
            kind: Its kind.
            fields: Its fields.
            timeout_s: Seconds without a sign of progress after which it is given up.
            arrays: Its arrays.
            step: Progress.

        Raises:
            StageError: It failed, or the process died or hung; the process is closed then.
        """
        try:
            self._send_all([(kind, arrays or {}, fields)])
            while (message := self._receive(what, step, timeout_s))[0]["kind"] == "progress":
                if step:
                    step.update(message[0]["done"], message[0]["total"])
            self._check(what, message[0])
            self.end.logged()
        except BaseException:
            self.close()
            raise
        return message

    def answers(
        self,
        what: str,
        fields: Fields,
        batches: Iterable[Arrays],
        timeout_s: float,
        step: Step | None = None,
    ) -> Generator[Arrays, None, None]:
        """The outputs of a file for each batch, in order.

        Args:
            what: The job, for messages.
            fields: Its fields.
            batches: Inputs; they are made in another thread.
            timeout_s: As of `do`.
            step: Asked whether the run is interrupted.

        Raises:
            StageError: As of `do`.
        """
        try:
            self._send_all(messages.asked(fields, batches))
            while (message := self._receive(what, step, timeout_s))[0]["kind"] != "done":
                self._check(what, message[0])
                if message[0]["kind"] == "answer":
                    yield message[1]
            self.end.logged()
        except BaseException:
            self.close()
            raise

    def place(self, path: Path, timeout_s: float, step: Step | None = None) -> dict[str, str]:
        """How a job names a file: by its path here, or by its digest once the device has it.

        Raises:
            StageError: As of `do`; or the device is full.
        """
        if self.end.shared:
            return {"path": str(path)}
        digest, size = file_digest(path), path.stat().st_size
        what = f"sending {path.name} to {self.end.name}"
        if self.do(what, "have", {"digests": [digest]}, timeout_s, step=step)[0]["digests"]:
            return {"digest": digest}
        self.do(what, "put", {"digest": digest, "size": size}, timeout_s, step=step)  # room is made, it is ready
        try:
            self._send_all(messages.parts(path))
            self._check(what, self._receive(what, step, timeout_s)[0])
        except BaseException:
            self.close()
            raise
        return {"digest": digest}

    def _send_all(self, messages: Iterable[tuple[str, Arrays, Fields]]) -> None:
        """Sends in another thread: a process that hangs before it reads would be waited for."""

        def send() -> None:
            with contextlib.suppress(OSError, ValueError):  # it has ended, which is found when its answer is read
                for kind, arrays, fields in messages:
                    self._channel.send(kind, arrays, **fields)

        if self._sender is not None:
            self._sender.join()
        self._sender = threading.Thread(target=send, daemon=True)
        self._sender.start()

    def _check(self, what: str, header: Fields) -> None:
        if header["kind"] == "failed":
            raise StageError(f"{what} failed: {self._reason(header)}")
        if header["kind"] == "refused":
            raise StageError(f"{what} was refused: {printable(str(header.get('reason')))}")

    def _reason(self, header: Fields) -> str:
        reason = printable(str(header.get("reason")))
        if header.get("full"):
            return f"{self.end.name} is full: {reason}; free some space there and run the command again"
        if header.get("missing") and not self.end.shared:
            return f"{self.end.name} lacks {printable(str(header['missing']))}: install it there"
        return reason

    def _receive(self, what: str, step: Step | None, timeout_s: float) -> Message:
        """The next message. Waits in slices, so that a run that was suspended and goes on is not taken to hang."""
        waited = 0.0
        while True:
            try:
                message = self._messages.get(timeout=_SLICE_S)
                break
            except queue.Empty:
                waited += _SLICE_S
            if waited >= timeout_s:
                raise StageError(
                    f"{what} hung: it reported nothing for {waited:.0f} s (measure.timeout_s), and was ended. "
                    "Run the command again to resume; if this happens more than once, raise measure.timeout_s, or "
                    "choose another measure.runtime or fewer threads"
                )
            if step:
                step.check_interrupted()
        if isinstance(message, Exception):
            raise self._ended(what, message) from message
        return message

    def _ended(self, what: str, error: Exception) -> StageError:
        """What became of a worker whose messages ended."""
        if isinstance(error, Refused):
            return StageError(f"{what} answered with {error}")
        return StageError(printable(f"{what} {self.end.became()}"))

    def close(self) -> None:
        """Ends the worker."""
        self._closed.set()
        self.end.stop()
        if self._sender is not None:
            self._sender.join()
        with contextlib.suppress(OSError, ValueError):  # what is left in its buffer nobody reads
            self._writer.close()
        self._receiver.join()
        self._reader.close()
