"""The local server: who is let in, what is answered, and what a failure looks like. Real sockets, no client library."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pellucid.errors import ContextError, MissingExtraError, SettingsError
from pellucid.lens.answer import Answer
from pellucid.lens.page.server import MAX_BODY_BYTES, Door, Server, Worker, build_app, open_door
from pellucid.store.envelope import decode

PROGRAM = "export default {};\n// 词元\n"


class Panic(BaseException):
    """As compiled Rust raises it: no Exception."""


class Echo:
    """Answers with what it was asked, or fails as told."""

    def __init__(self) -> None:
        self.methods: list[str] = []

    def answer(self, method: str, params: dict[str, Any]) -> Answer:
        self.methods.append(method)
        match method:
            case "too_long":
                raise ContextError("the prompt is too long", found="9 tokens", where="prompt", hint="shorten it")
            case "extra":
                raise MissingExtraError("umap is missing", hint="pip install 'pellucid[umap]'")
            case "fault":
                raise ZeroDivisionError("a fault")
            case "panic":
                raise Panic("index out of bounds")
            case "exit":
                raise SystemExit(3)
            case "slow":
                time.sleep(0.3)
        value = {"method": method, "params": params, "methods": self.methods}
        return Answer(value, {"row": np.arange(3, dtype=np.float32)})


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    """A server on a port of its own, for the length of a test."""
    page = tmp_path / "lens.js"
    page.write_text(PROGRAM, encoding="utf-8")
    opened, door = threading.Event(), open_door()
    server = Server(build_app(Echo(), door, page=page), opened.set)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [door.socket]}, daemon=True)
    thread.start()
    assert opened.wait(10)
    yield door
    server.should_exit = True
    thread.join(10)
    door.socket.close()


@pytest.fixture
def send(door: Door) -> Callable[..., tuple[int, dict[str, str], bytes]]:
    def call(method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", door.port, timeout=10)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body=body, headers=named)
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    return call


def test_a_question_comes_back_as_an_envelope(door: Door, send) -> None:
    status, headers, body = send("POST", f"/{door.token}/ask/tokens", json.dumps({"text": "你好"}).encode())
    answer = decode(body)
    assert status == 200 and headers["content-type"] == "application/octet-stream"
    assert (answer.value["method"], answer.value["params"]) == ("tokens", {"text": "你好"})
    assert answer.arrays["row"].tolist() == [0, 1, 2]


def test_the_page_and_its_program(door: Door, send) -> None:
    status, headers, body = send("GET", f"/{door.token}/")
    assert status == 200 and headers["content-type"].startswith("text/html")
    assert b'charset="utf-8"' in body[:200] and b"http" not in body  # nothing comes from elsewhere
    policy = headers["content-security-policy"]
    assert (
        policy.startswith("default-src 'self';") and "unsafe-eval" not in policy and "frame-ancestors 'none'" in policy
    )
    status, headers, body = send("GET", f"/{door.token}/lens.js")
    assert (status, body.decode("utf-8")) == (200, PROGRAM) and headers["content-type"].startswith("text/javascript")


@pytest.mark.parametrize("path", ["/", "/lens.js", "/ask/about", "/{wrong}/", "/{wrong}/ask/about", "/{cut}/", "/é/"])
def test_without_the_secret_there_is_nothing(door: Door, send, path: str) -> None:
    path = path.format(wrong="A" * len(door.token), cut=door.token[:-1]).replace("é", "%C3%A9")
    status, headers, body = send("POST" if "ask" in path else "GET", path)
    assert status == 404 and door.token.encode() not in body
    assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "localhost.evil.example:{port}", ""])
def test_other_names_for_this_address_are_refused(door: Door, send, host: str) -> None:
    assert send("GET", f"/{door.token}/", Host=host.format(port=door.port))[0] in (400, 421)


def test_localhost_is_a_name_of_this_server(door: Door, send) -> None:
    assert send("GET", f"/{door.token}/", Host=f"localhost:{door.port}")[0] == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://127.0.0.1:{port}"])
def test_pages_from_elsewhere_may_not_ask(door: Door, send, origin: str) -> None:
    status, headers, _ = send("POST", f"/{door.token}/ask/about", Origin=origin.format(port=door.port))
    assert status == 403 and "access-control-allow-origin" not in headers


def test_its_own_page_may_ask(door: Door, send) -> None:
    assert send("POST", f"/{door.token}/ask/about", Origin=door.url.split(f"/{door.token}")[0])[0] == 200


@pytest.mark.parametrize(
    ("method", "status", "what"),
    [
        ("too_long", 400, "the prompt is too long"),
        ("extra", 501, "umap is missing"),
        ("fault", 500, "the program has a fault here"),
    ],
)
def test_failures_tell_what_found_where_and_hint(door: Door, send, method: str, status: int, what: str, capfd) -> None:
    got, headers, body = send("POST", f"/{door.token}/ask/{method}", b"{}")
    told = json.loads(body)["error"]
    assert (got, told["what"]) == (status, what) and headers["content-type"] == "application/json"
    assert set(told) >= {"what", "found", "where", "hint"} and told["hint"]
    assert "content-security-policy" in headers
    assert ("ZeroDivisionError" in capfd.readouterr().err) == (method == "fault")


@pytest.mark.parametrize(("method", "found"), [("panic", "Panic: index out of bounds"), ("exit", "SystemExit: 3")])
def test_what_is_no_ordinary_error_is_told_and_the_page_works_on(door: Door, send, method, found, capfd) -> None:
    status, _, body = send("POST", f"/{door.token}/ask/{method}", b"{}")
    assert status == 500 and found in json.loads(body)["error"]["found"]
    assert "BrokenOff" in capfd.readouterr().err
    assert send("POST", f"/{door.token}/ask/tokens", b"{}")[0] == 200


def test_a_worker_that_is_dead_is_started_again() -> None:
    worker = Worker()
    worker.thread = threading.Thread()  # one that never ran
    assert asyncio.run(asyncio.wait_for(worker.run(lambda: b"done"), 10)) == b"done"
    assert worker.thread.is_alive()


@pytest.mark.parametrize(
    "body", [b"{", b"[1]", b"\xff", b"[" * 100_000, b'{"a": NaN}', b'{"a": 1e999}', b'{"a": "\\ud800"}']
)
def test_a_question_that_is_not_an_object_of_json(door: Door, send, body: bytes) -> None:
    status, _, answer = send("POST", f"/{door.token}/ask/about", body)
    assert status == 400 and json.loads(answer)["error"]["what"]


def test_a_question_that_is_too_long_is_not_read(door: Door, send) -> None:
    path = f"/{door.token}/ask/about"
    assert send("POST", path, b"", Content_Length=str(MAX_BODY_BYTES + 1))[0] == 413
    assert send("POST", path, b'{"text": "' + b"a" * 1000 + b'"}')[0] == 200


def test_a_path_or_a_verb_that_is_not_there(door: Door, send) -> None:
    for verb, path, status in [("GET", "nothing", 404), ("GET", "ask/about", 405), ("GET", "../etc/passwd", 404)]:
        got, _, body = send(verb, f"/{door.token}/{path}")
        told = json.loads(body)["error"]
        assert got == status and told["what"] and "POST /TOKEN/ask/METHOD" in told["hint"]


def test_the_page_is_served_while_a_question_is_worked_on(door: Door, send) -> None:
    slow = threading.Thread(target=send, args=("POST", f"/{door.token}/ask/slow"))
    slow.start()
    assert send("GET", f"/{door.token}/")[0] == 200 and slow.is_alive()
    slow.join()


def test_a_question_whose_asker_left_is_not_worked_on(door: Door, send) -> None:
    first = threading.Thread(target=send, args=("POST", f"/{door.token}/ask/slow"))
    first.start()
    time.sleep(0.1)
    with socket.create_connection(("127.0.0.1", door.port)) as leaving:
        host = f"127.0.0.1:{door.port}"
        leaving.sendall(f"POST /{door.token}/ask/left HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\n\r\n".encode())
        time.sleep(0.1)
    first.join()
    assert decode(send("POST", f"/{door.token}/ask/asked")[2]).value["methods"] == ["slow", "asked"]


def test_a_door_opens_on_this_machine_alone() -> None:
    first, second = open_door(), open_door()
    try:
        assert first.socket.getsockname()[0] == "127.0.0.1" and first.token != second.token
        assert first.url == f"http://127.0.0.1:{first.port}/{first.token}/"
        with pytest.raises(SettingsError, match="port"):
            open_door(first.port)
    finally:
        first.socket.close()
        second.socket.close()
