"""A recipe's `measure`: how every stage is timed and scored, and where."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from compressor.runtimes import RUNTIMES
from compressor.spec import OneOf, Spec

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_FORMATS = {runtime.target for runtime in RUNTIMES.values() if runtime.target}
_HOST = re.compile(r"[^\s\-\x00-\x1f][^\s\x00-\x1f]*")


def _host(value: str) -> str:
    """Validates what `ssh` is given: an option would be one."""
    if not _HOST.fullmatch(value):
        raise ValueError("must be a host as ssh takes it, such as pi or user@192.168.1.7")
    return value


def _words(value: tuple[str, ...]) -> tuple[str, ...]:
    """Validates a command."""
    if not value or not value[0].strip() or any("\0" in word for word in value):
        raise ValueError("must be a list of words that starts with a program, such as [docker, exec, -i, box, python3]")
    return value


def _name(value: str) -> str:
    """Validates the name of a device: gates have it before a dot, where files that ship have theirs."""
    if not _NAME.fullmatch(value) or value in RUNTIMES or value.partition("_")[0] in _FORMATS:
        raise ValueError("must be lower-case letters, digits and _, such as phone_2, and not the name of a format")
    return value


class SshDevice(Spec):
    """A device that the OpenSSH client reaches, with the user's own configuration, keys and known hosts."""

    ssh: Annotated[str, AfterValidator(_host)]
    """Host, as `ssh` takes it."""
    python: Annotated[str, Field(min_length=1)] = "python3"
    """Python there, with numpy and onnxruntime; a full path is safest."""


class CommandDevice(Spec):
    """A device that a command reaches: adb, docker, an emulator."""

    command: Annotated[tuple[str, ...], Field(strict=False), AfterValidator(_words)]
    """The command that starts a Python there, such as `[docker, exec, -i, box, python3]`; or a shell, see `python`."""
    python: Annotated[str, Field(min_length=1)] | None = None
    """Python in the shell that the command gives, such as `[adb, shell]`; left out, the command itself starts one."""


Device = Literal["local"] | SshDevice | CommandDevice


class MeasureSpec(Spec):
    """How every stage is timed and scored: the conditions of the device, as closely as this machine can."""

    runtime: Annotated[str, OneOf(name for name, runtime in RUNTIMES.items() if runtime.measured)] = "onnxruntime"
    """Runtime that ships."""
    threads: Annotated[int, Field(ge=1, le=256)] = 1
    """Threads of the runtime while timing."""
    batch_size: Annotated[int, Field(ge=1)] = 1
    """Rows per call, for latency and for quality (dynamic int8 depends on the batch it runs in)."""
    sequence_length: Annotated[int, Field(ge=2)] = 128
    """Tokens per row while timing."""
    runs: Annotated[int, Field(ge=1)] = 200
    """Timed calls; p95 needs 59 before it has an upper bound."""
    timeout_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 900.0
    """Seconds without a sign of progress after which a measuring process is taken to hang, and ended."""
    device: Device = "local"
    """Where answers, latency and memory are taken: `local`, `{ssh: HOST}` or `{command: [PREFIX…]}`."""

    devices: dict[Annotated[str, AfterValidator(_name)], SshDevice | CommandDevice] = {}  # noqa: RUF012 -- pydantic copies it
    """Further devices, by names of your own: each stage is measured on each of them, too, and gates of one are
    `NAME.latency_p50_ms` and so on. The stages are built once for all."""

    def conditions(self) -> dict[str, Any]:
        """What measurements on the main device depend on: all but how long they are waited for."""
        return self.model_dump(mode="json", exclude={"timeout_s", "devices"})

    def on(self, name: str) -> MeasureSpec:
        """The same conditions on one of the further devices."""
        return self.model_copy(update={"device": self.devices[name], "devices": {}})
