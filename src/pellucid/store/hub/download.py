"""One file of a repository, brought piece by piece and held against the size and the hash that the server gave before.

What has come is kept when the connection breaks off, and goes on from there: in the same call after a pause, and in the
next one. A file that is too long, or of another hash, is thrown away.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pellucid.errors import BrokenOffError, CorruptFileError, FetchError
from pellucid.events import Event, Recorder
from pellucid.files import explained, file_git_sha1, file_sha256, sync_file
from pellucid.store.hub.listing import RemoteFile
from pellucid.store.hub.server import AGAIN, Hub, Reply

PAUSES = (1.0, 4.0, 15.0)  # seconds before the next try; then it is given up
AMPLE_BYTES = 16 << 20  # a try that brought so much is not counted: the connection is poor, but it is one


@dataclass(frozen=True, kw_only=True)
class RemoteCommit:
    """One commit of a repository on a server."""

    server: Hub
    repository: str
    commit: str

    @property
    def page(self) -> str:
        """The repository's address, for a person."""
        return self.server.page(self.repository)

    def open(self, file: RemoteFile, first: int) -> AbstractContextManager[Reply]:
        """The bytes of a file from `first` on, or all of them."""
        return self.server.open(self.server.file_url(self.repository, self.commit, file.name), self.page, first=first)


def bring(
    origin: RemoteCommit, file: RemoteFile, part: Path, *, report: Callable[[int], None], recorder: Recorder
) -> str:
    """Bring a file to `part`, where some of it may be already; its SHA-256. `report` is told how many bytes are there.

    Raises FetchError (and its kind), CorruptFileError for other contents than the server had said, NoSpaceError.
    Events: `store.fetch_broken`.
    """
    tries = 2 if part.is_file() else 1  # what an earlier call left may be damaged: then once more from the beginning
    while True:
        _complete(origin, file, part, report, recorder)
        try:
            sha256 = check_contents(part, file, origin.page)
        except CorruptFileError:
            part.unlink()
            tries -= 1
            if not tries:
                raise
        else:
            sync_file(part)
            return sha256


def check_contents(path: Path, file: RemoteFile, page: str) -> str:
    """The SHA-256 of a file. Raises CorruptFileError where it does not hold what the server had said."""
    sha256 = file_sha256(path)
    found, wanted = (sha256, file.sha256) if file.sha256 else (file_git_sha1(path), file.git_sha1)
    if found != wanted:
        kind = "SHA-256" if file.sha256 else "SHA-1 of git"
        raise CorruptFileError(
            f"{file.name} is not what the server said it would be", found=f"{kind} {found[:12]}… instead of {wanted[:12]}…",
            where=page, hint="nothing of it was kept: ask again, and if it is the same, tell the repository's owner",
        )  # fmt: skip
    return sha256


def _complete(
    origin: RemoteCommit, file: RemoteFile, part: Path, report: Callable[[int], None], recorder: Recorder
) -> None:
    """Bring what is missing of a file, over breaks of the connection."""
    pauses = iter(PAUSES)
    while True:
        before = _size(part)
        try:
            return _go_on(origin, file, part, report)
        except BrokenOffError:
            there = _size(part)
            if there - before >= AMPLE_BYTES:
                pauses = iter(PAUSES)
            pause = next(pauses, None)
            if pause is None:
                raise
            message = f"{file.name} broke off after {there:,} of {file.num_bytes:,} bytes: going on in {pause:g} s"
            data = {"file": file.name, "num_bytes": there}
            recorder.record(Event(name="store.fetch_broken", message=message, data=data, level="warning"))
            time.sleep(pause)


def _go_on(origin: RemoteCommit, file: RemoteFile, part: Path, report: Callable[[int], None]) -> None:
    """One request for what is missing of a file."""
    there = _size(part)
    report(min(there, file.num_bytes))
    if part.is_file() and there == file.num_bytes:
        return
    is_longer = False
    with origin.open(file, there if there < file.num_bytes else 0) as reply:
        there = reply.first
        with _opened(part, there, file.num_bytes) as out:
            for piece in reply.pieces():
                is_longer = there + len(piece) > file.num_bytes
                if is_longer:
                    break
                out.write(piece)
                there += len(piece)
                report(there)
    if is_longer:
        part.unlink()
        found = f"{file.name}: more than {file.num_bytes:,} bytes"
        raise FetchError("the server sends more than it said", found=found, where=origin.page)
    if there < file.num_bytes:
        found = f"{file.name}: {there:,} of {file.num_bytes:,} bytes"
        raise BrokenOffError("the server ends a file too early", found=found, where=origin.page, hint=AGAIN)


@contextmanager
def _opened(part: Path, first: int, num_bytes: int) -> Iterator[BinaryIO]:
    """A file to write from `first` on; what stood there goes."""
    with explained(part, num_bytes - first), part.open("r+b" if first else "wb") as out:
        out.seek(first)
        out.truncate()
        yield out


def _size(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0
