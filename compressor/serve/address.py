"""Where the server listens: an address of this machine that devices can reach, and its QR code."""

from __future__ import annotations

import io
import socket
from pathlib import Path

import psutil

from compressor.errors import Problem, RecipeError
from compressor.host.machine import DISTRIBUTION, installed

ONNXRUNTIME_WEB = "1.31.0-dev.20260914-8d85527a0"
"""The version that is tested."""
LIBRARY_FILES = ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm")
"""Files of onnxruntime-web that a page needs."""

_ELSEWHERE = ("192.0.2.1", 9)
"""An address that is kept for documentation, to which nothing is sent. Source: RFC 5737."""


def chosen(host: str | None) -> str:
    """The address to listen on.

    Args:
        host: An address or an interface of this machine; None for the address of the default route.

    Raises:
        RecipeError: It is neither, or there is no default route.
    """
    there = _interfaces()
    listing = "addresses here: " + ", ".join(f"{name} {' '.join(found)}" for name, found in there.items())
    if host is None:
        found = _default_route()
        if found is None:
            raise RecipeError([Problem("--host", "there is no default route to listen on", listing, kind="missing")])
        return found
    if host in there:
        return there[host][0]
    if any(host in addresses for addresses in there.values()):
        return host
    raise RecipeError([Problem("--host", f"{host!r} is no address or interface of this machine", listing)])


def _default_route() -> str | None:
    """The address that packets to other networks leave from. Connecting a datagram socket sends none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(_ELSEWHERE)
        except OSError:
            return None
        return str(probe.getsockname()[0])


def _interfaces() -> dict[str, list[str]]:
    """The addresses of each interface, IPv4 first; without those that are valid on one link alone."""
    families = (socket.AF_INET, socket.AF_INET6)
    found = {
        name: [
            entry.address
            for family in families
            for entry in entries
            if entry.family == family and not entry.address.startswith("fe80:")
        ]
        for name, entries in psutil.net_if_addrs().items()
    }
    return {name: addresses for name, addresses in found.items() if addresses}


def library(folder: Path) -> dict[str, Path]:
    """The files of onnxruntime-web, by name.

    Args:
        folder: Where npm installed it.

    Raises:
        RecipeError: It is not there.
    """
    package = folder / "node_modules" / "onnxruntime-web" / "dist"
    found = {name: (package / name).resolve() for name in LIBRARY_FILES}
    if missing := [name for name, path in found.items() if not path.is_file()]:
        hint = f"run `npm install onnxruntime-web@{ONNXRUNTIME_WEB}` in a folder, and name it: --web FOLDER"
        raise RecipeError([Problem("--web", f"{package / missing[0]} is not there", hint, kind="not_installed")])
    return found


def qr_code(text: str) -> str | None:
    """A text as a QR code for a terminal; None where segno is not installed."""
    if not installed("segno"):
        return None
    import segno

    drawn = io.StringIO()
    segno.make_qr(text).terminal(drawn, compact=True)
    # Light modules are drawn: they have to be light on dark, whatever the colours of the terminal.
    return "".join(f"\x1b[97;40m{line}\x1b[0m\n" for line in drawn.getvalue().splitlines())


INSTALL = f"pip install '{DISTRIBUTION}[serve]'"
"""Brings segno, for QR codes."""
