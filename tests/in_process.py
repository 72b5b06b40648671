"""A measuring client whose workers are threads of the tests' own process."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import BinaryIO, cast

from compressor.device import worker
from compressor.measure.client import Client
from compressor.measure.link import Link
from compressor.measure.spec import Device
from compressor.measure.transport import Local


class Thread:
    """A worker, served by a thread, over pipes."""

    name, shared = "this process", True

    def __init__(self) -> None:
        (taken, given), (answers, answered) = os.pipe(), os.pipe()
        self.link: Link
        self._files = [os.fdopen(taken, "rb"), os.fdopen(answered, "wb")]
        modules = dict(entry.split("=", 1) for entry in Local().command()[4:])
        self._thread = threading.Thread(target=self._serve, args=[modules], daemon=True)
        self._thread.start()
        self.link = Link(cast(BinaryIO, os.fdopen(answers, "rb")), cast(BinaryIO, os.fdopen(given, "wb")), self)

    def _serve(self, modules: dict[str, str]) -> None:
        reader, writer = self._files
        assert reader.read(int(reader.readline())) == Path(worker.__file__).read_bytes()
        try:
            worker.Worker(worker.Channel(reader, writer), modules).serve()
        except (worker.Refused, BrokenPipeError):
            pass
        finally:
            writer.close()
            reader.close()

    def became(self) -> str:
        return "ended"

    def logged(self) -> list[str]:
        return []

    def stop(self) -> None: ...


class InProcess(Client):
    """Answers and times are as real as in processes; peak memory is that of the process that runs the tests."""

    def __init__(self, device: Device = "local", name: str = "the device", **_: float) -> None:
        super().__init__(device, name, timing_processes=1, memory_processes=1)

    def start(self) -> Link:
        """Starts a thread; devices have processes."""
        return Thread().link if self.device == "local" else super().start()
