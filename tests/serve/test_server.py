"""Only those who have the address get anything, and only the page, what ships and the library."""

from __future__ import annotations

import http.client
import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from device_results import body, result_of
from problems import refused

from compressor.report import model as reports
from compressor.serve import serving
from compressor.serve.address import LIBRARY_FILES
from compressor.serve.job import MOST_BYTES, Job, prepare
from compressor.serve.server import PAGE, Server, authority

EMPTY = b""
JSON = {"Content-Type": "application/json"}


@pytest.fixture
def run(published: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(published, tmp_path / "run"))


@pytest.fixture
def library(tmp_path: Path) -> dict[str, Path]:
    """Files of the names of onnxruntime-web's, for tests in which no browser reads them."""
    for name in LIBRARY_FILES:
        (tmp_path / name).write_text(f"// {name}")
    return {name: tmp_path / name for name in LIBRARY_FILES}


@pytest.fixture
def job(run: Path) -> Job:
    return prepare(run, 60)


@pytest.fixture
def server(job: Job, library: dict[str, Path]) -> Iterator[Server]:
    with serving.opened(job, ("127.0.0.1", 0), library, lambda checks: None) as opened:
        thread = threading.Thread(target=opened.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield opened
        opened.shutdown()
        thread.join()


def asked(
    server: Server, path: str, method: str = "GET", given: bytes | None = None, **headers: str | None
) -> tuple[int, bytes, Any]:
    """Status, body and headers of an answer; headers that are None are left out, `Host` included."""
    sent = {"Host": server.host, **{name.replace("_", "-"): value for name, value in headers.items()}}
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=20)
    try:
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in sent.items():
            if value is not None:
                connection.putheader(name, value)
        if given is not None and "Content-Length" not in sent:
            connection.putheader("Content-Length", str(len(given)))
        connection.endheaders(given)
        response = connection.getresponse()
        return response.status, response.read(), response.headers
    finally:
        connection.close()


def test_who_has_the_address_gets_the_page_what_ships_and_the_library(server: Server, job: Job, library):
    page = {path: asked(server, server.prefix + path) for path in server.files}
    assert {status for status, *_ in page.values()} == {200}
    assert b"<!doctype html>" in page[""][1]
    for entry in job.files:
        assert page[f"model/{entry.file.as_posix()}"][1] == (job.model / entry.file).read_bytes()
    assert set(page) == {
        *("", *PAGE[1:]),
        *(f"web/{name}" for name in library),
        *("model/onnx/model.onnx", "model/onnx/model_quantized.onnx"),
    }
    kinds = {Path(path).suffix: headers["Content-Type"].split(";")[0] for path, (_, _, headers) in page.items()}
    assert kinds == {
        **{"": "text/html", ".css": "text/css", ".mjs": "text/javascript"},
        **{".wasm": "application/wasm", ".onnx": "application/octet-stream"},
    }
    for _, _, headers in page.values():
        assert headers["Cross-Origin-Opener-Policy"] == "same-origin", "this machine's own address may be isolated"
        assert headers["Cross-Origin-Embedder-Policy"] == "require-corp"
        assert "connect-src 'self'" in headers["Content-Security-Policy"] and headers["Cache-Control"] == "no-store"
        assert "Access-Control-Allow-Origin" not in headers and "Python" not in headers["Server"]
    status, text, _ = asked(server, f"{server.prefix}job.json", Origin=server.origin)
    assert status == 200 and json.loads(text)["recipe"] == "tiny"


def test_the_host_as_browsers_write_it():
    assert authority("192.0.2.1", 8000) == "192.0.2.1:8000" and authority("192.0.2.1", 80) == "192.0.2.1"
    assert authority("2001:db8::1", 8000) == "[2001:db8::1]:8000"


def test_a_token_is_new_each_time(job: Job, library: dict[str, Path]):
    prefixes = set()
    for _ in range(5):
        with serving.opened(job, ("127.0.0.1", 0), library, lambda checks: None) as opened:
            prefixes.add(opened.prefix)
    assert len(prefixes) == 5 and min(map(len, prefixes)) >= 20


PATHS = [
    "/",
    "/job.json",
    "/model/onnx/model.onnx",
    "/{wrong}/",
    "/{token}",
    "/x/{token}/",
    "/{token}/model/manifest.json",
    "/{token}/model/model.safetensors",
    "/{token}/model/onnx/",
    "/{token}/model/onnx/model_16.onnx",
    "/{token}/model/ort/model.ort",
    "/{token}/report.json",
    "/{token}/result",
    "/{token}/index.html",
    "/{token}/../{token}/",
    "/{token}/model/../../report.json",
    "/{token}/model/%2e%2e/report.json",
    "/{token}/model/..%2freport.json",
    "/{token}/model/onnx/./model.onnx",
    "/{token}/model//onnx/model.onnx",
    "/{token}/model%2fonnx%2fmodel.onnx",
    "/{token}/model\\onnx\\model.onnx",
    "/{token}//etc/passwd",
    "/{token}/job.json?x",
    "/{token}/job.json%00",
    "/%7Btoken%7D/",
    "*",
    "http://127.0.0.1/{token}/",
]


@pytest.mark.parametrize("path", PATHS)
def test_another_path_gets_nothing(server: Server, path: str):
    token = server.prefix.strip("/")
    status, text, headers = asked(server, path.replace("{token}", token).replace("{wrong}", "x" * len(token)))
    assert (status, text, headers["Content-Type"]) == (404, EMPTY, None)


STRANGERS: list[dict[str, str | None]] = [
    {"Host": None},
    {"Host": ""},
    {"Host": "127.0.0.1"},
    {"Host": "localhost:{port}"},
    {"Host": "evil.example:{port}"},
    {"Host": "127.0.0.1:{port}, evil.example"},
    {"Origin": "http://evil.example"},
    {"Origin": "http://127.0.0.1"},
    {"Origin": "https://127.0.0.1:{port}"},
    {"Origin": "http://evil.example:{port}"},
    {"Origin": "null"},
    {"Origin": ""},
]


@pytest.mark.parametrize("headers", STRANGERS)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_another_host_or_origin_gets_nothing(server: Server, method: str, headers: dict[str, str | None]):
    port = str(server.server_address[1])
    sent = {name: value and value.replace("{port}", port) for name, value in headers.items()}
    path = {"GET": "", "POST": "result"}[method]
    status, text, _ = asked(
        server, server.prefix + path, method, b"{}" if method == "POST" else None, **{**JSON, **sent}
    )
    assert (status, text) == (404, EMPTY)


@pytest.mark.parametrize("method", ["HEAD", "PUT", "DELETE", "OPTIONS", "TRACE", "BREW"])
def test_another_method_gets_nothing(server: Server, method: str):
    status, text, _ = asked(server, server.prefix, method, Origin="http://evil.example")
    assert status == 501 and text == EMPTY


def test_a_file_that_became_a_link_or_is_gone_gets_nothing(server: Server, job: Job, tmp_path: Path):
    secret = tmp_path / "secret"
    secret.write_text("secret")
    path = job.model / "onnx" / "model.onnx"
    path.unlink()
    assert asked(server, f"{server.prefix}model/onnx/model.onnx")[:2] == (404, EMPTY)
    path.symlink_to(secret)
    assert asked(server, f"{server.prefix}model/onnx/model.onnx")[:2] == (404, EMPTY)


def send(server: Server, given: bytes, **headers: str | None) -> tuple[int, Any]:
    status, text, _ = asked(
        server, f"{server.prefix}result", "POST", given, **{"Origin": server.origin, **JSON, **headers}
    )
    return status, json.loads(text) if text else None


def test_a_result_is_taken_and_its_answer_shown(server: Server, job: Job):
    status, told = send(server, body(result_of(job)))
    assert status == 200 and told["verdict"] == "pass" and told["files"]["onnx"]["rows"] == 64
    assert server.answered.wait(20)
    assert reports.read(job.run).devices["Pixel 7"].files["onnx"].label_agreement == 1.0


def test_a_refused_result_is_answered_with_the_reason(server: Server, job: Job):
    result = result_of(job)
    result["files"]["onnx"]["sha256"] = "0" * 64
    status, told = send(server, body(result))
    assert status == 400 and told["error"].startswith("onnx: the file that ran is not the one in the manifest")
    assert not server.answered.is_set() and not reports.read(job.run).devices
    (job.run / "report.json").unlink()
    status, told = send(server, body(result_of(job)))
    assert status == 400 and "report.json" in told["error"], "it can be sent again once the report is back"


def test_what_is_no_result_is_not_read(server: Server):
    assert send(server, b"{}", Content_Type="text/plain")[0] == 404, "what a form of another page can send"
    assert send(server, b"{}", Content_Type=None)[0] == 404
    assert send(server, b"{}", Content_Length=None, Transfer_Encoding="chunked")[0] == 411
    assert send(server, b"", Content_Length="-1")[0] == 411
    status, told = send(server, b"", Content_Length=str(MOST_BYTES + 1))
    assert status == 413 and "at most" in told["error"]
    assert asked(server, f"{server.prefix}job.json", "POST", b"{}", Origin=server.origin, **JSON)[0] == 404


def test_several_at_once_and_one_that_says_nothing(server: Server, job: Job):
    silent = [http.client.HTTPConnection("127.0.0.1", server.server_address[1]) for _ in range(5)]
    for connection in silent:
        connection.connect()
    assert send(server, body(result_of(job)))[0] == 200
    for connection in silent:
        connection.close()


def test_a_port_that_is_taken_is_a_problem_of_the_command_line(server: Server, job: Job, library: dict[str, Path]):
    with refused("--port", "value"):
        serving.opened(job, ("127.0.0.1", server.server_address[1]), library, lambda checks: None)
