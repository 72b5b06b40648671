"""A stand-in for the Hugging Face hub on loopback: the part of its HTTP API that fetching models and rows needs."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

Files = dict[str, bytes]
_API = re.compile(r"/api/(models|datasets)/([^/]+/[^/]+)(?:/(revision|tree|paths-info)/([^/]+)/?(.*))?$")
_FILE = re.compile(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)$")


def blob_id(content: bytes) -> str:
    """The id that git gives a file."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@dataclass
class Repo:
    """A repository: its commits, and the names of some of them."""

    commits: dict[str, Files] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    gated: bool = False

    def files(self, revision: str) -> tuple[str, Files] | None:
        commit = self.refs.get(revision, revision)
        return (commit, self.commits[commit]) if commit in self.commits else None


class HubServer:
    """The server and what is on it.

    Attributes:
        repos: By kind (`models`, `datasets`) and id.
        requests: Method and path of every request so far.
        cut: Bytes after which the server breaks off a longer file, and is broken from then on; None for never.
        broken: Whether it closes every connection without an answer.
    """

    def __init__(self) -> None:
        self.repos: dict[tuple[str, str], Repo] = {}
        self.requests: list[str] = []
        self.cut: int | None = None
        self.broken = False
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def push(self, kind: str, name: str, files: Path | Files, ref: str = "main") -> str:
        """Makes a commit of these files, all others gone, the head of a branch."""
        if isinstance(files, Path):
            files = {
                path.relative_to(files).as_posix(): path.read_bytes() for path in files.rglob("*") if path.is_file()
            }
        repo = self.repos.setdefault((kind, name), Repo())
        listing = json.dumps([len(repo.commits), name, *((path, blob_id(files[path])) for path in sorted(files))])
        commit = hashlib.sha1(listing.encode()).hexdigest()
        repo.commits[commit], repo.refs[ref] = files, commit
        return commit

    def commit(self, kind: str, name: str, **changes: bytes | None) -> str:
        """Makes a commit that changes some files; their names have `__` for the dot."""
        repo = self.repos[kind, name]
        files = dict(repo.commits[repo.refs["main"]])
        for key, content in changes.items():
            files.pop(key.replace("__", "."), None)
            if content is not None:
                files[key.replace("__", ".")] = content
        return self.push(kind, name, files)


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def log_message(self, *_: Any) -> None:
        """Tests print nothing."""

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(f"{self.command} {path}")
        if self.hub.broken:
            self.close_connection = True
            return
        if found := _API.match(path):
            kind, name, what, revision, inner = found.groups()
            self._api(kind, name, what or "revision", revision or "main", inner or "", body)
        elif found := _FILE.match(path):
            self._file("datasets" if found[1] else "models", found[2], found[3], found[4])
        else:
            self._refuse(404, "")

    def _repo(self, kind: str, name: str, revision: str) -> tuple[str, Files] | None:
        repo = self.hub.repos.get((kind, name))
        if repo is None:
            self._refuse(401, "RepoNotFound")
        elif (found := repo.files(revision)) is None:
            self._refuse(404, "RevisionNotFound")
        else:
            return found
        return None

    def _api(self, kind: str, name: str, what: str, revision: str, inner: str, body: bytes) -> None:
        found = self._repo(kind, name, revision)
        if found is None:
            return
        commit, files = found
        if what == "revision":
            siblings = [{"rfilename": path} for path in files]
            return self._json({"id": name, "sha": commit, "private": False, "tags": [], "siblings": siblings})
        if what == "paths-info":
            wanted = parse_qs(body.decode()).get("paths", []) if body[:1] != b"{" else json.loads(body)["paths"]
            return self._json([entry for entry in _tree(files, True) if entry["path"] in wanted])
        query = parse_qs(urlsplit(self.path).query)
        everything = _tree(files, True)
        inside = [entry for entry in everything if not inner or entry["path"].startswith(f"{inner}/")]
        if inner and not inside:
            return self._refuse(404, "EntryNotFound")
        if query.get("recursive", ["False"])[0].lower() != "true":
            depth = inner.count("/") + 1 if inner else 0
            inside = [entry for entry in inside if entry["path"].count("/") == depth]
        return self._json(inside)

    def _file(self, kind: str, name: str, revision: str, path: str) -> None:
        found = self._repo(kind, name, revision)
        if found is None:
            return
        commit, files = found
        if self.hub.repos[kind, name].gated:
            return self._refuse(403, "GatedRepo")
        if path not in files:
            return self._refuse(404, "EntryNotFound", commit)
        content = whole = files[path]
        span = re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        headers = {"ETag": f'"{blob_id(whole)}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        if span:
            first, last = int(span[1]), min(int(span[2] or len(whole) - 1), len(whole) - 1)
            content = whole[first : last + 1]
            headers["Content-Range"] = f"bytes {first}-{last}/{len(whole)}"
        self._send(206 if span else 200, content, headers)

    def _json(self, value: Any) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _refuse(self, status: int, code: str, commit: str = "") -> None:
        headers = {"X-Error-Code": code, "X-Error-Message": code, "X-Repo-Commit": commit}
        self._send(status, b"{}", {name: value for name, value in headers.items() if value})

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.hub.cut is not None and "ETag" in headers and len(content) > self.hub.cut:
            content, self.hub.broken, self.close_connection = content[: self.hub.cut], True, True
        self.wfile.write(content)


def _tree(files: Files, folders: bool) -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for path, content in sorted(files.items()):
        parts = path.split("/")
        for depth in range(1, len(parts)) if folders else []:
            folder = "/".join(parts[:depth])
            found[folder] = {"type": "directory", "oid": hashlib.sha1(folder.encode()).hexdigest(), "path": folder}
        found[path] = {"type": "file", "oid": blob_id(content), "size": len(content), "path": path}
    return list(found.values())
