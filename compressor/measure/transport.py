"""Where files are measured, and how a worker is started there: on this machine, over ssh, or by any other command."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from compressor.device import worker
from compressor.measure.spec import CommandDevice, Device, SshDevice
from compressor.runtimes import RUNTIMES

_UNREACHABLE, _NO_PROGRAM = 255, (126, 127)
"""What `ssh` ends with if it cannot reach the host, and a shell if there is no such program."""


class Transport(Protocol):
    """How a worker is started.

    Attributes:
        shared: Whether it sees this machine's files by their paths.
    """

    shared: bool

    @property
    def name(self) -> str:
        """The device, for messages."""

    def command(self) -> list[str]:
        """The command that starts a Python with `worker.BOOT`."""

    def environment(self) -> Mapping[str, str]:
        """The environment of that command."""

    def advice(self, code: int | None, said: str) -> str:
        """What to do about a worker that did not start, by what the command ended with and what it said."""


class Local:
    """This machine: the worker is a child of this process, with this Python."""

    shared = True
    name = "this machine"

    def command(self) -> list[str]:
        """This Python, which does not look for modules in the folder where it is started."""
        modules = (f"{name}={entry.module}" for name, entry in RUNTIMES.items() if name not in worker.SESSIONS)
        return [sys.executable, "-P", "-c", worker.BOOT, *modules]

    def environment(self) -> Mapping[str, str]:
        """This process's own, with its folders of modules."""
        path = os.pathsep.join(entry for entry in sys.path if entry)
        return {**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1"}

    def advice(self, code: int | None, said: str) -> str:
        """Nothing that a user could do."""
        return "the log has what it said"


@dataclass(frozen=True)
class Ssh:
    """A device that the OpenSSH client reaches, as the user has set that up; it never asks for anything.

    Attributes:
        spec: Its host and Python.
        name: The device, for messages.
    """

    spec: SshDevice
    name: str
    shared = False

    def command(self) -> list[str]:
        """`ssh` with a command that the device's shell takes apart again."""
        there = f"{shlex.quote(self.spec.python)} -c {shlex.quote(worker.BOOT)}"
        return ["ssh", "-T", "-o", "BatchMode=yes", "--", self.spec.ssh, there]

    def environment(self) -> Mapping[str, str]:
        """This process's own: the agent's socket is in it."""
        return os.environ

    def advice(self, code: int | None, said: str) -> str:
        """By what `ssh` ended with."""
        if lacks := _lacks(said):
            return lacks
        if "host key verification failed" in said.lower():
            return f"check the host's key: `ssh {self.spec.ssh}` must work without a question"
        if "permission denied" in said.lower():
            return f"set up a key: `ssh -o BatchMode=yes {self.spec.ssh}` must work without a password"
        if code == _UNREACHABLE:
            return f"`ssh -o BatchMode=yes {self.spec.ssh} true` must work first"
        if code in _NO_PROGRAM:
            return (
                f"there is no {self.spec.python} there: set python to the full path of one with numpy and onnxruntime"
            )
        return f"try it: `ssh {self.spec.ssh} {self.spec.python} --version`"


@dataclass(frozen=True)
class Command:
    """A device that a command gives a Python on, or a shell.

    Attributes:
        spec: The command.
        name: The device, for messages.
    """

    spec: CommandDevice
    name: str
    shared = False

    def command(self) -> list[str]:
        """The prefix, and the program as one more argument; in words of a shell where the spec names its Python."""
        if self.spec.python is None:
            return [*self.spec.command, "-c", worker.BOOT]
        return [*self.spec.command, f"{shlex.quote(self.spec.python)} -c {shlex.quote(worker.BOOT)}"]

    def environment(self) -> Mapping[str, str]:
        """This process's own."""
        return os.environ

    def advice(self, code: int | None, said: str) -> str:
        """How to try the command."""
        if lacks := _lacks(said):
            return lacks
        tried = shlex.join([*self.spec.command, *([] if self.spec.python is None else [self.spec.python]), "--version"])
        return f"`{tried}` must print the version of a Python with numpy and onnxruntime"


def _lacks(said: str) -> str:
    """What to do about a Python that lacks what the worker imports; empty for another error."""
    found = re.search(r"No module named '([\w.]+)'", said)
    return f"install {found[1]} for that Python, or set python to another one there" if found else ""


def transport(device: Device, name: str = "the device") -> Transport:
    """The transport of a recipe's `device`.

    Args:
        device: As in the recipe.
        name: What messages call it.
    """
    if isinstance(device, SshDevice):
        return Ssh(device, f"{name} ({device.ssh})")
    if isinstance(device, CommandDevice):
        return Command(device, f"{name} ({shlex.join(device.command)})")
    return Local()
