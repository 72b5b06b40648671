"""What a device is: asked once, since keys of measurements hold it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from compressor.errors import printable
from compressor.host.machine import host
from compressor.measure.spec import Device, MeasureSpec
from compressor.measure.transport import transport
from compressor.measure.worker_process import WorkerProcess


@cache
def of(device: Device, name: str = "the device") -> dict[str, Any]:
    """The properties of a device that decide its speed and its answers; of others than this machine also its versions.

    Args:
        device: As in the recipe.
        name: What messages call it.

    Raises:
        StageError: It is not there, or its Python is too old or lacks numpy.
    """
    if device == "local":
        return host()
    link = WorkerProcess(transport(device, name)).link
    link.close()
    return {**link.hello["machine"], "versions": link.hello["versions"]}


def cores(device: Device, name: str = "the device") -> int:
    """Cores of a device."""
    return int(of(device, name)["cores"])


def described(spec: MeasureSpec) -> dict[str, str]:
    """What devices are, for reports, by their names; `device` is the main one where that is not this machine."""
    main = {} if spec.device == "local" else {"device": _line(of(spec.device))}
    return main | {name: _line(of(device, name)) for name, device in spec.devices.items()}


def _line(facts: Mapping[str, Any]) -> str:
    versions = (f"{name} {version}" for name, version in facts["versions"].items())
    return printable(f"{facts['cpu']}, {facts['cores']} cores, {facts['cpu_features']}; {', '.join(versions)}")
