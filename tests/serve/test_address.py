"""Where the server listens, where the library comes from, and the command around them."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from problems import refused
from running import compress

from compressor.host.machine import installed
from compressor.serve import address
from compressor.serve.address import LIBRARY_FILES, ONNXRUNTIME_WEB, chosen, library, qr_code

CLIENTS = Path(__file__).parents[1] / "clients"


def installed_library(folder: Path) -> Path:
    """A folder as npm leaves it, with files of the names that a page needs."""
    package = folder / "node_modules" / "onnxruntime-web" / "dist"
    package.mkdir(parents=True)
    for name in LIBRARY_FILES:
        (package / name).write_text("")
    return folder


def test_an_address_or_an_interface_of_this_machine():
    loopback = next(
        name for name, found in psutil.net_if_addrs().items() if any(each.address == "127.0.0.1" for each in found)
    )
    assert chosen("127.0.0.1") == chosen(loopback) == "127.0.0.1"
    for host in ("0.0.0.0", "::", "localhost", "203.0.113.7", "", "eth99"):
        with refused("--host", "value"):
            chosen(host)


def test_by_default_the_address_of_the_default_route(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(address, "_ELSEWHERE", ("127.0.0.9", 9))
    assert chosen(None) == "127.0.0.1"

    def unreachable(self: socket.socket, to: object) -> None:
        raise OSError(101, "Network is unreachable")

    class Cut(socket.socket):
        connect = unreachable

    monkeypatch.setattr(socket, "socket", Cut)
    with refused("--host", "missing"):
        chosen(None)


def test_the_library_of_an_npm_folder(tmp_path: Path):
    found = library(installed_library(tmp_path / "here"))
    assert set(found) == set(LIBRARY_FILES) and all(path.is_file() for path in found.values())
    with refused("--web", "not_installed"):
        library(tmp_path)


def test_the_hint_names_the_version_that_is_tested():
    assert json.loads((CLIENTS / "package.json").read_text())["dependencies"]["onnxruntime-web"] == ONNXRUNTIME_WEB


def test_a_qr_code_where_segno_is_installed(monkeypatch: pytest.MonkeyPatch):
    if installed("segno"):
        drawn = qr_code("http://192.0.2.1:8000/token/")
        assert drawn is not None and len(drawn.splitlines()) > 10
        assert all(line.startswith("\x1b[97;40m") and line.endswith("\x1b[0m") for line in drawn.splitlines())
    monkeypatch.setattr(address, "installed", lambda name: False)
    assert qr_code("http://192.0.2.1:8000/token/") is None


def test_mistakes_in_the_command_line(published: Path, tmp_path: Path):
    for arguments, told in (
        (["--device", "<b>"], "--device: is '<b>'; 1 to 60 letters"),
        (["--web", str(tmp_path)], "npm install onnxruntime-web@"),
        (["--web", str(installed_library(tmp_path / "web")), "--host", "nowhere"], "addresses here: "),
        (["--runs", "0"], "--runs"),
    ):
        result = compress("serve", published, *arguments, cwd=tmp_path)
        assert result.returncode == 2 and told in result.stderr, result.stderr
        assert "Traceback" not in result.stderr


def test_control_c_ends_it(published: Path, tmp_path: Path):
    folder = installed_library(tmp_path)
    command = [sys.executable, "-m", "compressor", "serve", str(published), "--web", str(folder), "--host", "127.0.0.1"]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    # Where the tests run in the background, a shell has them ignore Ctrl-C, and their children, too.
    with subprocess.Popen(
        command, **streams, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    ) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(3)]
        assert lines[0].endswith("onnx, onnx_int8; 64 rows, 60 timed calls each\n")
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/[\w-]{22}/\n", lines[2])
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=60)
    assert (process.returncode, rest, errors) == (0, "", "")
