"""Serves the page, what ships and onnxruntime-web to those who have the address, and takes their results.

Whatever else is asked for gets an empty answer: the token in the path keeps out who was not given the address, the
Host header names that rebind DNS to this machine, and the Origin header pages of other sites.
"""

from __future__ import annotations

import hmac
import ipaddress
import json
import secrets
import shutil
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingTCPServer
from typing import Any

from compressor.errors import CompressError, described
from compressor.serve.job import MOST_BYTES

PAGE = ("index.html", "serve.css", "page.mjs", "worker.mjs", "sha256.mjs")
"""The page's files."""
RESULT = "result"
"""Where results are sent to."""

_PAGE_FOLDER = Path(__file__).parent / "page"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".wasm": "application/wasm",
}
_JSON = "application/json"
_HTTP_PORT = 80
"""The port that addresses leave out."""
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; connect-src 'self'; "
        "worker-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_ISOLATED = {"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp"}
"""Without these, browsers give a page no threads; with plain http they heed them only on a loopback address."""

Take = Callable[[bytes], Mapping[str, Any]]
"""Takes a result, and returns what the page is to show of it; raises `CompressError` where it refuses it."""


def authority(address: str, port: int) -> str:
    """An address and a port as browsers write them in a Host header. Source: RFC 3986, section 3.2; RFC 9110, 4.2.1."""
    name = f"[{address}]" if ":" in address else address
    return name if port == _HTTP_PORT else f"{name}:{port}"


class Server(ThreadingTCPServer):
    """The server of one job. Not http.server's own class, which looks up the name of its address.

    Args:
        address: An address of this machine.
        port: Its port; 0 for one that is free.
        files: What ships and the library, by their paths below the page, with the folder that each has to be in.
        document: What devices are asked, in JSON.
        take: Takes results.

    Attributes:
        host: The address and the port, as in the Host header.
        origin: The origin of its pages, as in the Origin header.
        url: The address of the page.
        prefix: The beginning of every path that is served: the token.
        files: All files that are served, by their paths below it.
        headers: Headers of every answer.
        answered: Is set when a result was taken and answered.

    Raises:
        OSError: The address or the port cannot be used.
    """

    allow_reuse_address = True
    daemon_threads = True

    def __init__(
        self, address: str, port: int, files: Mapping[str, tuple[Path, Path]], document: bytes, take: Take
    ) -> None:
        self.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        super().__init__((address, port), _Handler)
        self.host = authority(address, self.server_address[1])
        self.prefix = f"/{secrets.token_urlsafe(16)}/"
        self.origin = f"http://{self.host}"
        self.url = f"{self.origin}{self.prefix}"
        self.take, self.answered = take, threading.Event()
        self.document = document
        self.headers = _HEADERS | (_ISOLATED if ipaddress.ip_address(address).is_loopback else {})
        page = {"" if name == "index.html" else name: (_PAGE_FOLDER / name, _PAGE_FOLDER) for name in PAGE}
        self.files = {**page, **files}

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing: a device that goes away in the middle of an answer is none of the user's errors."""


class _Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    server: Server
    server_version, sys_version = "compress", ""
    timeout = 60
    """Seconds without a byte after which a connection is closed."""

    def do_GET(self) -> None:
        """Sends a file, or what is asked of the device."""
        path = self._path(origins=([], [self.server.origin]))
        if path == "job.json":
            self._send(200, self.server.document, _JSON)
        elif path in self.server.files:
            self._send_file(*self.server.files[path])
        else:
            self.send_error(404)

    def do_POST(self) -> None:
        """Takes a result."""
        length = self.headers.get("Content-Length", "")
        if self._path(origins=([self.server.origin],)) != RESULT or self.headers.get_content_type() != _JSON:
            self.send_error(404)
        elif not length.isascii() or not length.isdigit():
            self.send_error(411)
        elif int(length) > MOST_BYTES:
            self._answer(413, {"error": f"the result has {length} bytes, and {MOST_BYTES} are taken at most"})
        else:
            self._take(self.rfile.read(int(length)))

    def _take(self, body: bytes) -> None:
        try:
            told = self.server.take(body)
        except CompressError as error:
            self._answer(400, {"error": str(error).strip()})
        except Exception as error:  # the page shows it; the next result may be taken
            self._answer(500, {"error": described(error)})
        else:
            self._answer(200, told)
            self.server.answered.set()

    def _path(self, origins: Sequence[list[str]]) -> str | None:
        """The path below the token, as it was sent; None for a request that may get nothing.

        No path is decoded or joined: it has to be the name of a file that is served.

        Args:
            origins: The Origin headers that the request may have. Browsers leave it out where a page loads its files.
        """
        if self.headers.get_all("Host", []) != [self.server.host] or self.headers.get_all("Origin", []) not in origins:
            return None
        prefix = self.server.prefix
        if not hmac.compare_digest(self.path[: len(prefix)].encode(), prefix.encode()):
            return None
        return self.path[len(prefix) :]

    def _send_file(self, path: Path, folder: Path) -> None:
        try:
            if not path.resolve(strict=True).is_relative_to(folder.resolve()):
                raise FileNotFoundError(path)
            file = path.open("rb")
        except OSError:
            self.send_error(404)
            return
        with file:
            size = path.stat().st_size
            self._head(200, size, _TYPES.get(path.suffix, "application/octet-stream"))
            shutil.copyfileobj(file, self.wfile)

    def _answer(self, status: int, document: Mapping[str, Any]) -> None:
        self._send(status, json.dumps(document).encode(), _JSON)

    def _send(self, status: int, body: bytes, kind: str) -> None:
        self._head(status, len(body), kind)
        self.wfile.write(body)

    def _head(self, status: int, length: int, kind: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(length), **self.server.headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Sends a status and no text."""
        self.send_response(code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Logs no requests: their addresses hold the token."""
