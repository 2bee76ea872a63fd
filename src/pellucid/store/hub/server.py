"""Requests to a server of models: the one place that touches the network.

The package `huggingface_hub` says where the server is (HF_ENDPOINT), who asks (HF_TOKEN, or what `hf auth login` wrote),
where things are kept (HF_HOME), whether the network may be used (HF_HUB_OFFLINE) and how long to wait for a byte
(HF_HUB_DOWNLOAD_TIMEOUT); requests go through its session, and so through a person's proxy. Its downloads are not used:
they give a file its name before its hash is known (decision 0023). It is imported where a name that begins with `hf:`
is used, not before: it takes a moment, and who loads a folder has no need of it.

Every wait has an end here, and every answer a bound.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from pellucid.errors import BrokenOffError, FetchError
from pellucid.store.hub.refusal import refuse
from pellucid.untrusted import MOST_BYTES, shown

if TYPE_CHECKING:
    import httpx2 as httpx

MOST_REDIRECTS = 5  # from the server to its storage it takes one or two
SLOW_SECONDS, SLOW_BYTES = 60, 16 << 10  # fewer bytes in that time are taken for none
WHOLE_NUMBERS = ("HF_HUB_DOWNLOAD_TIMEOUT", "HF_HUB_ETAG_TIMEOUT")
RANGE = re.compile(r"bytes (\d{1,18})-")
USER_AGENT = "pellucid"
AGAIN = "give the same command again: it goes on from what is here"


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What the environment says of servers: the address, where fetched models are kept, whether to ask at all."""

    endpoint: str
    folder: Path
    offline: bool


def find_surroundings() -> Surroundings:
    """Read the environment, by the rules of `huggingface_hub`; nothing is asked."""
    for name in WHOLE_NUMBERS:  # it reads these while it is imported, with an error of Python's own
        value = os.environ.get(name)
        if value is not None and not value.isdecimal():
            raise FetchError(
                "a variable is no whole number of seconds", found=f"{name}={shown(value)}", hint=f"{name}=30"
            )
    from huggingface_hub import constants

    folder = Path(constants.HF_ASSETS_CACHE) / "pellucid"  # its place for what other libraries keep
    return Surroundings(endpoint=constants.ENDPOINT, folder=folder, offline=constants.HF_HUB_OFFLINE)


def find_shared(repository: str, commit: str, file: str) -> Path | None:
    """The file, where another program has fetched it into the folder that all share (HF_HUB_CACHE)."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repository, file, revision=commit)
    return Path(found).resolve() if isinstance(found, str) else None


class Reply:
    """The body of an answer, in pieces; `first` is the place of its first byte in the file."""

    def __init__(self, response: httpx.Response, first: int, page: str) -> None:
        self.response, self.first, self.page = response, first, page

    def pieces(self) -> Iterator[bytes]:
        """The bytes as they come. Raises BrokenOffError where hardly any come."""
        began, got = time.monotonic(), 0
        for piece in self.response.iter_bytes():
            yield piece
            got += len(piece)
            seconds = time.monotonic() - began
            if seconds >= SLOW_SECONDS:
                if got < SLOW_BYTES:
                    raise BrokenOffError(
                        "the server sends hardly anything", found=f"{got:,} bytes in {seconds:.0f} s", where=self.page,
                        hint=AGAIN,
                    )  # fmt: skip
                began, got = time.monotonic(), 0


class Hub:
    """One server, asked with one person's token."""

    def __init__(self, endpoint: str) -> None:
        from huggingface_hub import constants
        from huggingface_hub.utils import get_session, httpx

        self.endpoint, self.errors = endpoint, httpx
        self.seconds = float(constants.HF_HUB_DOWNLOAD_TIMEOUT)
        self.headers = {"user-agent": USER_AGENT, "accept-encoding": "identity", **_token()}
        self.client = get_session()

    def page(self, repository: str) -> str:
        """The address of a repository, for people."""
        return f"{self.endpoint}/{repository}"

    def listing_url(self, repository: str, revision: str) -> str:
        """The address of what the server knows of a revision: its commit, its files, their sizes and hashes."""
        return f"{self.endpoint}/api/models/{repository}/revision/{quote(revision, safe='')}?blobs=true"

    def file_url(self, repository: str, commit: str, file: str) -> str:
        """The address of one file of a commit."""
        return f"{self.endpoint}/{repository}/resolve/{commit}/{quote(file)}"

    def read(self, url: str, page: str) -> bytes:
        """A whole answer, in memory. Raises FetchError (and its kind), and for one that is too large."""
        data = bytearray()
        with self.open(url, page) as reply:
            for piece in reply.pieces():
                data += piece
                if len(data) > MOST_BYTES:
                    found = f"more than {MOST_BYTES:,} bytes"
                    raise FetchError("the server's answer is too long to be a list of files", found=found, where=page)
        return bytes(data)

    @contextmanager
    def open(self, url: str, page: str, *, first: int = 0) -> Iterator[Reply]:
        """The answer to a request, from byte `first` of the file on where the server can do that.

        `page` is the repository's address, for a person. Raises FetchError for a refusal, BrokenOffError where asking
        again may help.
        """
        try:
            response, begins = self._ask(url, page, first)
            try:
                yield Reply(response, begins, page)
            finally:
                response.close()
        except self.errors.TimeoutException as error:
            found = f"nothing came for {self.seconds:g} s ({type(error).__name__})"
            raise BrokenOffError("the server does not answer", found=found, where=page, hint=AGAIN) from error
        except (self.errors.UnsupportedProtocol, self.errors.InvalidURL) as error:
            hint = "HF_ENDPOINT is the address of the server, for example https://huggingface.co"
            raise FetchError("this is no address of a server", found=shown(error), where=page, hint=hint) from error
        except self.errors.ConnectError as error:
            hint = "check the network, and HF_ENDPOINT; a model that was fetched before opens without either"
            what = "the server cannot be reached"
            raise BrokenOffError(what, found=shown(error), where=self.endpoint, hint=hint) from error
        except self.errors.HTTPError as error:
            raise BrokenOffError("the connection broke off", found=shown(error), where=page, hint=AGAIN) from error

    def _ask(self, url: str, page: str, first: int) -> tuple[httpx.Response, int]:
        """The answer, and where it begins: at `first`, or at 0 from a server that does not take up in the middle."""
        response = self._follow(url, page, {"range": f"bytes={first}-"} if first else {})
        begins = _begins(response)
        if first and (begins not in (0, first) or response.status_code == 416):
            response.close()
            response = self._follow(url, page, {})
            begins = _begins(response)
        if begins is None:
            try:
                raise refuse(response.status_code, response.headers, page)
            finally:
                response.close()
        return response, begins

    def _follow(self, url: str, page: str, more: dict[str, str]) -> httpx.Response:
        """The answer at the end of all redirects. The token goes to this server alone (the session sees to that)."""
        request = self.client.build_request("GET", url, headers={**self.headers, **more}, timeout=self.seconds)
        for _ in range(MOST_REDIRECTS + 1):
            response = self.client.send(request, stream=True, follow_redirects=False)
            following = response.next_request
            if following is None:
                return response
            response.close()
            schemes = request.url.scheme, following.url.scheme
            if schemes[1] not in ("http", "https") or schemes == ("https", "http"):
                found = f"from {schemes[0]} to {schemes[1]}"
                raise FetchError("the server leads to an address that is not safe", found=found, where=page)
            request = following
        raise FetchError("the server leads from address to address without end", found=str(request.url), where=page)


def _begins(response: httpx.Response) -> int | None:
    """Which byte of the file an answer begins with; None where it holds no file."""
    if response.status_code == 206:
        match = RANGE.match(response.headers.get("content-range", ""))
        return int(match[1]) if match else None
    return 0 if response.status_code == 200 else None


def _token() -> dict[str, str]:
    """The header that says who asks, where a person has said so."""
    from huggingface_hub import constants, get_token

    token = None if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN else get_token()
    if token is None:
        return {}
    if not token.isascii() or not token.isprintable():
        raise FetchError(
            "this is no token of the server", where="HF_TOKEN", hint="copy it again from your account's page"
        )
    return {"authorization": f"Bearer {token}"}
