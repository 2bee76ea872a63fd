"""The web server of the page, on this computer only: it passes the page's questions to the lens.

    GET  /TOKEN/              the page            POST /TOKEN/ask/METHOD    params as JSON -> one envelope
    GET  /TOKEN/*.js          its program         4xx, 5xx                  {"error": {what, found, where, hint}}

It listens on 127.0.0.1 alone. Other pages in the same browser cannot reach it: the path holds a secret that is new each
time, and only requests with this host's name are answered (against DNS rebinding). It is *not* a server for several
people: one lens, one question at a time, on one thread. A question is skipped if its client has disconnected before its
turn.

Source: https://owasp.org/www-community/attacks/DNS_Rebinding (why the Host header is checked)
"""

from __future__ import annotations

import asyncio
import hmac
import json
import secrets
import socket
import traceback
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any

import anyio
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pellucid.errors import MissingExtraError, PellucidError, RequestError, SettingsError, StoreError
from pellucid.lens.fields import check_values
from pellucid.lens.page.program import Answerer, told_of
from pellucid.store.envelope import encode

MAX_BODY_BYTES = 4 << 20  # a question is a text and a few numbers
LOCAL = "127.0.0.1"
STATUS = {  # the nearest class decides
    RequestError: 400,
    SettingsError: 400,
    StoreError: 422,
    MissingExtraError: 501,
    PellucidError: 422,
}
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; "
    "object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Pellucid</title>
<link rel="icon" href="data:,">
<style>body { margin: 0 }</style>
</head>
<body>
<div id="lens"></div>
<script type="module" src="start.js"></script>
</body>
</html>
"""
WAYS = "the page is at GET /TOKEN/, each question at POST /TOKEN/ask/METHOD, its params as JSON"
START = 'import { mount, serverHost } from "./lens.js";\nmount(document.getElementById("lens"), serverHost());\n'


@dataclass(frozen=True, kw_only=True)
class Door:
    """The address of the page: an open socket, and the secret that its path begins with."""

    socket: socket.socket
    token: str

    @property
    def port(self) -> int:
        """The TCP port on 127.0.0.1."""
        return self.socket.getsockname()[1]

    @property
    def url(self) -> str:
        """The address to open in a browser."""
        return f"http://{LOCAL}:{self.port}/{self.token}/"

    @property
    def hosts(self) -> tuple[str, ...]:
        """The Host headers that name this server."""
        return f"{LOCAL}:{self.port}", f"localhost:{self.port}"


def open_door(port: int = 0) -> Door:
    """Open a port on 127.0.0.1 (0: any free one) and make a new secret. Raises SettingsError when it is taken."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.bind((LOCAL, port))
    except OSError as error:
        listener.close()
        raise SettingsError(
            "this port cannot be used",
            found=error.strerror or str(error),
            where=f"--port {port}",
            hint="leave --port out",
        ) from error
    listener.listen(128)
    return Door(socket=listener, token=secrets.token_urlsafe(18))


def serve(answerer: Answerer, door: Door, *, page: Path, opened: Callable[[], None] = lambda: None) -> None:
    """Serve until Ctrl-C (a KeyboardInterrupt when everything is closed); `opened` is called when it is ready."""
    server = Server(build_app(answerer, door, page=page), opened)
    try:
        server.run(sockets=[door.socket])
    finally:
        door.socket.close()


class Server(uvicorn.Server):
    """Uvicorn without logs, with a callback when it is ready."""

    def __init__(self, app: ASGIApp, opened: Callable[[], None]) -> None:
        config = uvicorn.Config(
            app, log_level="critical", access_log=False, lifespan="off", timeout_graceful_shutdown=1
        )
        super().__init__(config)
        self.opened = opened

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self.opened()


def build_app(answerer: Answerer, door: Door, *, page: Path) -> ASGIApp:
    """The routes of the server, behind the guard. `page` is the built page, one ES module."""
    turn, worker = anyio.Lock(), Worker()

    async def show_page(request: Request) -> Response:
        return Response(PAGE, media_type="text/html")

    async def send_start(request: Request) -> Response:
        return Response(START, media_type="text/javascript")

    async def send_program(request: Request) -> Response:
        return Response(page.read_bytes(), media_type="text/javascript")

    async def ask(request: Request) -> Response:
        params = read_params(await read_body(request))
        async with turn:
            if await request.is_disconnected():
                return Response(status_code=204)
            encoded = await worker.run(lambda: encode(answerer.answer(request.path_params["method"], params)))
        return Response(encoded, media_type="application/octet-stream")

    routes = [
        Route("/", show_page),
        Route("/start.js", send_start),
        Route("/lens.js", send_program),
        Route("/ask/{method}", ask, methods=["POST"]),
    ]
    handlers = {PellucidError: tell_error, HTTPException: tell_http_error, Exception: tell_fault}
    return Guard(Starlette(routes=routes, exception_handlers=handlers), door)


class Worker:
    """One daemon thread that runs the tasks it is given, one after the other.

    It is always the same thread, because OpenMP gives each computing thread its own pool of threads. An exception in a
    task does not end it; if it is dead all the same, the next task starts a new one.
    """

    def __init__(self) -> None:
        self.tasks: SimpleQueue[tuple[Callable[[], bytes], Future[bytes]]] = SimpleQueue()
        self.thread = self._start()

    async def run(self, task: Callable[[], bytes]) -> bytes:
        """Run a task on the thread and wait for its result."""
        if not self.thread.is_alive():
            self.thread = self._start()
        done: Future[bytes] = Future()
        self.tasks.put((task, done))
        return await asyncio.wrap_future(done)

    def _start(self) -> Thread:
        thread = Thread(target=self._work, name="lens", daemon=True)
        thread.start()
        return thread

    def _work(self) -> None:
        while True:
            task, done = self.tasks.get()
            if not done.set_running_or_notify_cancel():
                continue
            try:
                done.set_result(task())
            except Exception as error:
                done.set_exception(error)
            except BaseException as error:  # a panic of compiled code, an exit that something below asks for
                done.set_exception(BrokenOff(error))


class BrokenOff(RuntimeError):
    """A question that ended with something other than an `Exception`; this makes it one, so only its client is told.

    >>> print(BrokenOff(SystemExit(3)))
    SystemExit: 3
    """

    def __init__(self, cause: BaseException) -> None:
        super().__init__(f"{type(cause).__name__}: {cause}")
        self.__cause__ = cause


async def read_body(request: Request) -> bytes:
    """Read the whole body. Raises RequestError when it is longer than a question can be."""
    body = bytearray()
    try:
        async for piece in request.stream():
            body += piece
            if len(body) > MAX_BODY_BYTES:
                raise RequestError(
                    "this question is too long", found=f"more than {MAX_BODY_BYTES:,} bytes", hint="give a shorter text"
                )
    except ClientDisconnect as gone:
        raise RequestError("the page left before its question was read", hint="ask again") from gone
    return bytes(body)


def read_params(body: bytes) -> dict[str, Any]:
    """The params of a question: a JSON object. Raises RequestError for anything else.

    >>> read_params(b'{"layer": 3}')
    {'layer': 3}
    """
    try:
        params = json.loads(body or b"{}")
    except (ValueError, RecursionError) as error:
        raise RequestError("the question is not JSON", found=str(error), hint='for example {"layer": 0}') from error
    check_values(params)
    return params


def tell(told: dict[str, Any], status: int) -> Response:
    """A failure as JSON in plain ASCII, because a file name may contain characters that UTF-8 cannot encode."""
    return Response(json.dumps({"error": told}), status, media_type="application/json")


def tell_error(request: Request, error: Exception) -> Response:
    """The response to a Pellucid error: its four sentences, with the status of the nearest class."""
    assert isinstance(error, PellucidError)
    status = next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)
    return tell(told_of(error, request.url.path), status)


def tell_http_error(request: Request, error: Exception) -> Response:
    """The response to an unknown path or method, in the same shape."""
    assert isinstance(error, HTTPException)
    found = f"{request.method} {request.url.path}"
    refused = RequestError(error.detail, found=found, where="the server of the lens", hint=WAYS)
    return tell(told_of(refused, found), error.status_code)


def tell_fault(request: Request, error: Exception) -> Response:
    """The response to a program error: the traceback goes to the terminal, the page gets the kind of error."""
    traceback.print_exception(error)
    return tell(told_of(error, request.url.path.rpartition("/")[2]), 500)


class Guard:
    """Accepts only requests with this server's name and secret, removes the secret, and adds the headers."""

    def __init__(self, app: ASGIApp, door: Door) -> None:
        self.app, self.door = app, door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message["headers"],
                    *((k.lower().encode(), v.encode()) for k, v in HEADERS.items()),
                ]
            await send(message)

        refusal = self.refusal(headers)
        token, path = split_token(scope["path"])
        if refusal is None and not hmac.compare_digest(token.encode(), self.door.token.encode()):
            refusal = 404, "there is nothing here: open the address that `pellucid lens` printed"
        if refusal is not None:
            status, text = refusal
            await Response(text + "\n", status, media_type="text/plain")(scope, receive, send_with_headers)
            return
        inside = {**scope, "path": path, "raw_path": path.encode(), "root_path": ""}
        await self.app(inside, receive, send_with_headers)

    def refusal(self, headers: dict[str, str]) -> tuple[int, str] | None:
        """The reason to refuse a request, if any: its host, its origin or its size."""
        if headers.get("host") not in self.door.hosts:
            return 421, "this server answers for 127.0.0.1 alone"
        origin = headers.get("origin")
        if origin is not None and origin not in {f"http://{host}" for host in self.door.hosts}:
            return 403, "this server answers its own page alone"
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > MAX_BODY_BYTES:
            return 413, f"a question has at most {MAX_BODY_BYTES:,} bytes"
        return None


def split_token(path: str) -> tuple[str, str]:
    """A request's path as (secret, path after it).

    >>> split_token("/abc/ask/about")
    ('abc', '/ask/about')
    """
    token, slash, rest = path.removeprefix("/").partition("/")
    return token, slash + rest
