"""A small server of models on this computer: it speaks as huggingface.co does, and misbehaves when told to.

A repository is `{commit: {name: bytes}}`, with the revisions that point to commits. Large files (`.safetensors`, `.gguf`)
are described by a SHA-256, as with Git LFS, and lie behind a redirect; all others by git's hash of a blob.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from huggingface_hub import constants
from huggingface_hub.utils import close_session

from pellucid.store.hub import download
from pellucid.store.hub.fetch import fetch
from pellucid.store.hub.name import parse_name
from pellucid.store.hub.shelf import Fetched

LARGE = (".safetensors", ".gguf", ".bin")
ONE, TWO = "1" * 40, "2" * 40  # commits
BIG = bytes(range(256)) * 400  # stands for weights, where nobody opens them
SMALL = {"config.json": b'{"a": 1}', "tokenizer.json": b"{}", "model.safetensors": BIG}
WEIGHTS = f"/storage/a/b/resolve/{ONE}/model.safetensors"  # where the server keeps them


@dataclass
class Repository:
    commits: dict[str, dict[str, bytes]]
    revisions: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One request: its path, and the headers that matter."""

    host: str
    path: str
    range: str
    token: str


@dataclass
class HubServer:
    """What the server holds, how it misbehaves, and what it was asked."""

    url: str = ""
    storage: str = ""  # the address of the second server, where large files lie
    repositories: dict[str, Repository] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    # misdeeds
    refusals: dict[str, tuple[int, dict[str, str]]] = field(default_factory=dict)  # end of a path -> status, headers
    breaks: list[int] = field(default_factory=list)  # the next answers with a large file break off after so many bytes
    cut: int | None = None  # every answer with a large file says that it is so long, and is
    surplus: bytes = b""  # after every large file
    contents: dict[str, bytes] = field(default_factory=dict)  # sent instead of the file, whatever was said of it
    sizes: dict[str, int] = field(default_factory=dict)  # said of a file, whatever it is
    listing: bytes | None = None  # instead of the list of files
    redirects: dict[str, str] = field(default_factory=dict)  # end of a path -> location
    silent: bool = False  # says nothing after the headers
    drips: bool = False  # sends a byte now and then
    no_ranges: bool = False  # knows no requests for a part
    unsaid: Sequence[str] = ()  # what the list leaves out of each file
    is_silent: threading.Event = field(default_factory=threading.Event)
    done: threading.Event = field(default_factory=threading.Event)  # ends the silence

    def add(self, repository: str, commit: str, files: Mapping[str, bytes], *revisions: str) -> None:
        """Give a repository one more commit; `revisions` point to it now."""
        held = self.repositories.setdefault(repository, Repository({}, {}))
        held.commits[commit] = dict(files)
        held.revisions.update(dict.fromkeys(revisions, commit))

    def paths(self) -> list[str]:
        """What was asked for, in order."""
        return [one.path for one in self.asked]

    def describe(self, name: str, data: bytes) -> dict[str, object]:
        """What the list of files says of one."""
        size = self.sizes.get(name, len(data))
        blob = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
        said: dict[str, object] = {"rfilename": name, "size": size, "blobId": blob}
        if name.endswith(LARGE):
            lfs = {"size": size, "sha256": hashlib.sha256(data).hexdigest(), "pointerSize": 134}
            said |= {"blobId": "0" * 40, "lfs": lfs}
        return {key: value for key, value in said.items() if key not in self.unsaid}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 60
    hub: HubServer

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        hub, path = self.hub, unquote(urlsplit(self.path).path)
        headers = {name: self.headers.get(name, "") for name in ("Host", "Range", "Authorization")}
        hub.asked.append(Asked(host=headers["Host"], path=path, range=headers["Range"], token=headers["Authorization"]))
        for end, location in hub.redirects.items():
            if path.endswith(end):
                return self.answer(302, {"Location": location})
        for end, (status, more) in hub.refusals.items():
            if path.endswith(end):
                return self.answer(status, more)
        if path.startswith("/api/models/"):
            return self.list_files(*path.removeprefix("/api/models/").split("/revision/"))
        is_storage = path.startswith("/storage/")
        repository, _, rest = path.removeprefix("/storage").removeprefix("/").partition("/resolve/")
        commit, _, name = rest.partition("/")
        held = hub.repositories.get(repository)
        if held is None or name not in held.commits.get(commit, {}):
            return self.answer(404, {"X-Error-Code": "EntryNotFound"})
        if name.endswith(LARGE) and not is_storage:
            return self.answer(302, {"Location": f"{hub.storage}/storage{path}?secret=1"})
        self.send_file(name, hub.contents.get(name, held.commits[commit][name]))

    def list_files(self, repository: str, revision: str) -> None:
        held = self.hub.repositories.get(repository)
        if held is None:
            return self.answer(401, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"})
        commit = held.revisions.get(revision, revision)
        if commit not in held.commits:
            return self.answer(404, {"X-Error-Code": "RevisionNotFound"})
        files = [self.hub.describe(name, data) for name, data in held.commits[commit].items()]
        told = {"id": repository, "sha": commit, "siblings": files}
        body = json.dumps(told).encode() if self.hub.listing is None else self.hub.listing
        self.answer(200, {"Content-Type": "application/json"}, body)

    def send_file(self, name: str, data: bytes) -> None:
        hub, first = self.hub, 0
        if self.headers["Range"] and not hub.no_ranges:
            first = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
        if first and first >= len(data):
            return self.answer(416, {})
        is_large = name.endswith(LARGE)
        body = data[first:] + (hub.surplus if is_large else b"")
        body = body[: hub.cut] if is_large and hub.cut is not None else body
        self.send_response(206 if first else 200)
        self.send_header("Content-Length", str(len(body)))
        if first:
            self.send_header("Content-Range", f"bytes {first}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        if hub.silent and is_large:
            hub.is_silent.set()
            hub.done.wait(60)
            self.close_connection = True
        elif hub.drips and is_large:
            for place in range(len(body)):
                if hub.done.wait(0.01):
                    break
                self.wfile.write(body[place : place + 1])
        elif is_large and hub.breaks:
            self.wfile.write(body[: hub.breaks.pop(0)])
            self.close_connection = True
        else:
            self.wfile.write(body)

    def answer(self, status: int, headers: Mapping[str, str], body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


class Quiet(ThreadingHTTPServer):
    daemon_threads = False

    def handle_error(self, *arguments: object) -> None:
        """The other side left in the middle: that is what these tests are about."""


@contextmanager
def serving() -> Iterator[HubServer]:
    """A server and its storage, each with an address of its own, until the block ends."""
    hub = HubServer()
    handler = type("HubHandler", (Handler,), {"hub": hub})
    servers = [Quiet(("127.0.0.1", 0), handler) for _ in range(2)]
    threads = [threading.Thread(target=server.serve_forever, args=(0.05,)) for server in servers]
    for thread in threads:
        thread.start()
    hub.url, hub.storage = (f"http://127.0.0.1:{server.server_port}" for server in servers)
    try:
        yield hub
    finally:
        hub.done.set()
        for server, thread in zip(servers, threads, strict=True):
            server.shutdown()
            server.server_close()
            thread.join()


@contextmanager
def only_server(folder: Path) -> Iterator[HubServer]:
    """A server that is the only one there is: huggingface_hub knows no other, and keeps everything in `folder`."""
    with serving() as hub, pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "ENDPOINT": hub.url, "HF_ASSETS_CACHE": str(folder / "assets"), "HF_HUB_CACHE": str(folder / "hub"),
            "HF_TOKEN_PATH": str(folder / "token"), "HF_HUB_OFFLINE": False, "HF_HUB_DISABLE_IMPLICIT_TOKEN": False,
        }.items():  # fmt: skip
            patch.setattr(constants, name, value)
        for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_OIDC_RESOURCE"):
            patch.delenv(name, raising=False)
        patch.setenv("NO_PROXY", "*")
        patch.setattr(download, "PAUSES", (0.0, 0.0, 0.0))
        close_session()  # it remembers the proxies of its time
        try:
            yield hub
        finally:
            close_session()


def get(name: str = "hf:a/b", **asked: Any) -> Fetched:
    """Fetch a model by its name."""
    return fetch(parse_name(name), **asked)


def names_below(folder: Path) -> set[str]:
    """The files in a folder and below it."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
