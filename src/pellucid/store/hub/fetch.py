"""Fetching a model by its name, once: afterwards it is here, and nobody is asked again.

The server is asked what a revision means (a commit) and what lies there; sizes are said and the free space is looked at
before anything comes; each file is checked before it gets its name; the record of all is written last. A file whose
contents are here already, in another commit or in the folder that other programs share, is not fetched again.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pellucid.counts import counted
from pellucid.errors import CorruptFileError, FetchError, NoSpaceError
from pellucid.events import NULL, Event, Recorder
from pellucid.files import explained, file_sha256, replacing_file, sync_directory
from pellucid.planning.report import describe_bytes
from pellucid.store.hub.download import RemoteCommit, bring, check_contents
from pellucid.store.hub.listing import Listing, RemoteFile, choose_file, choose_parts, read_listing
from pellucid.store.hub.name import COMMIT, HubName
from pellucid.store.hub.server import Hub, find_shared, find_surroundings
from pellucid.store.hub.shelf import Fetched, Shelf, StoredFile

SPARE_BYTES = 256 << 20  # of the disk stay free
REPORT_BYTES = 1 << 20  # progress is told so often


def fetch(name: HubName, *, update: bool = False, recorder: Recorder = NULL) -> Fetched:
    """The model of a name: as it is here, or fetched now. `update` asks which commit its revision means today.

    Raises FetchError (and its kind) where the server cannot give it, CorruptFileError for contents of another hash,
    WeightsError for a repository of pickles, NoSpaceError before a download that would not fit, LockedError while
    another process fetches from the same repository. Events: `store.fetch_started` (or `store.fetch_nothing`),
    `store.fetch_broken`, `store.fetch_stopped`, `store.fetched`, `store.fetch_older`.
    """
    if not update and (here := find_fetched(name)) is not None:
        return here
    around = find_surroundings()
    shelf = Shelf(around.folder, name.repository)
    if around.offline:
        raise FetchError(
            "HF_HUB_OFFLINE is set, so no server is asked", found=f"asked for: {name}", where=str(shelf.root),
            hint="unset it, or name a model that was fetched before",
        )  # fmt: skip
    with shelf.lock():
        server, before = Hub(around.endpoint), shelf.commit(name.revision)
        listing = _ask(server, name, name.revision if update or not before else before)
        origin = RemoteCommit(server=server, repository=name.repository, commit=listing.commit)
        fetched = _Fetching(name=name, shelf=shelf, origin=origin, recorder=recorder).run(listing)
    if before not in ("", fetched.commit):
        message = f"the files of commit {before[:12]} stay in {shelf.root / before}: delete them if nobody needs them"
        recorder.record(Event(name="store.fetch_older", message=message, data={"commit": before}))
    return fetched


def find_fetched(name: HubName) -> Fetched | None:
    """The model of a name, if it is here; nobody is asked."""
    return Shelf(find_surroundings().folder, name.repository).find(name)


def _ask(server: Hub, name: HubName, revision: str) -> Listing:
    """What the server says of a revision."""
    page = server.page(name.repository)
    listing = read_listing(server.read(server.listing_url(name.repository, revision), page), page)
    if COMMIT.fullmatch(revision) and listing.commit != revision:
        found = f"{listing.commit} instead of {revision}"
        raise FetchError("the server gives another commit than was asked for", found=found, where=page)
    return listing


def remove_damaged(fetched: Fetched, *, recorder: Recorder = NULL) -> bool:
    """Hash a model's files; those that are not as they came are removed, to be fetched again. Whether there were any.

    Events: `store.fetch_damaged` for each, `store.fetch_checked` where there is none.
    """
    damaged = [path for path, file in fetched.files.items() if file_sha256(fetched.home / path) != file.sha256]
    for path in damaged:
        (fetched.home / path).unlink()
        damage = f"{path} is no longer what was fetched, and is fetched again"
        recorder.record(Event(name="store.fetch_damaged", message=damage, data={"file": path}, level="warning"))
    if not damaged:
        checked, size = counted(len(fetched.files), "file"), describe_bytes(fetched.num_bytes)
        message = (
            f"{fetched.name} is here already: commit {fetched.commit[:12]}, {checked} checked by their hashes, {size}"
        )
        recorder.record(Event(name="store.fetch_checked", message=message, data={"commit": fetched.commit}))
    return bool(damaged)


@dataclass(kw_only=True)
class _Fetching:
    """One model on its way from a server to the shelf."""

    name: HubName
    shelf: Shelf
    origin: RemoteCommit
    recorder: Recorder
    total: int = 0  # bytes that are missing at the start
    done: int = 0
    told: int = 0

    @property
    def home(self) -> Path:
        """The folder of the commit."""
        return self.shelf.root / self.origin.commit

    def run(self, listing: Listing) -> Fetched:
        """Bring all files that are missing, and write down what is here."""
        file = choose_file(listing, self.name)
        files = listing.check([file]) if file else choose_parts(listing, self._read)
        place = self.shelf.place(file)
        paths = {place if file else f"{place}/{one.name}": one for one in files}
        sha256 = {path: self._find(path, one) for path, one in paths.items()}
        missing = {path: one for path, one in paths.items() if not sha256[path]}
        self._start(missing)
        try:
            for path, one in missing.items():
                sha256[path] = self._bring(path, one)
        except KeyboardInterrupt:
            message = f"stopped: {describe_bytes(self.done)} of {describe_bytes(self.total)} are kept; the same command goes on there"
            data = {"num_bytes": self.done}
            self.recorder.record(Event(name="store.fetch_stopped", message=message, data=data, level="warning"))
            raise
        return self._finish(place, paths, sha256)

    def _read(self, file: RemoteFile) -> bytes:
        """The contents of a small file, which is needed to know what else there is."""
        part = self.shelf.part(file)
        bring(self.origin, file, part, report=lambda there: None, recorder=self.recorder)
        return part.read_bytes()

    def _find(self, path: str, file: RemoteFile) -> str:
        """The SHA-256 of a file that is here, or that another place on this computer has; empty where none does."""
        target = self.home / path
        for source in self._places(target, file):
            if not source.is_file() or source.stat().st_size != file.num_bytes:
                continue
            try:
                sha256 = check_contents(source, file, self.origin.page)
            except CorruptFileError:
                continue
            if source != target:
                _take(source, target)
            return sha256
        return ""

    def _places(self, target: Path, file: RemoteFile) -> Iterator[Path]:
        yield target
        yield from self.shelf.holding(file)
        shared = find_shared(self.origin.repository, self.origin.commit, file.name)
        if shared is not None:
            yield shared

    def _start(self, missing: Mapping[str, RemoteFile]) -> None:
        """Say what comes. Raises NoSpaceError where it would not fit."""
        commit, self.total = self.origin.commit[:12], sum(file.num_bytes for file in missing.values())
        if not missing:
            nothing = f"nothing to fetch: all files of commit {commit} are here"
            self.recorder.record(Event(name="store.fetch_nothing", message=nothing, data={"commit": commit}))
            return
        parts = [self.shelf.part(file) for file in missing.values()]
        coming = self.total - sum(part.stat().st_size for part in parts if part.is_file())
        free = shutil.disk_usage(self.shelf.root).free
        if coming + SPARE_BYTES > free:
            raise NoSpaceError(
                "the model does not fit on this disk",
                found=f"{describe_bytes(coming)} still to come, {describe_bytes(free)} free", where=str(self.shelf.root),
                hint="free some space, or let HF_HOME be a folder of a larger disk; what has come is kept",
            )  # fmt: skip
        number, size = counted(len(missing), "file"), describe_bytes(coming)
        message = f"fetching {self.name}: {number}, {size} still to come, commit {commit}, into {self.home}"
        data = {
            "commit": self.origin.commit,
            "num_files": len(missing),
            "num_bytes": coming,
            "directory": str(self.home),
        }
        self.recorder.record(Event(name="store.fetch_started", message=message, data=data))

    def _bring(self, path: str, file: RemoteFile) -> str:
        """Fetch one file, and give it its name when it is whole and right; its SHA-256."""
        target, part, before = self.home / path, self.shelf.part(file), self.done
        sha256 = bring(self.origin, file, part, report=lambda there: self._tell(before + there), recorder=self.recorder)
        with explained(target, file.num_bytes):
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(part, target)
            sync_directory(target.parent)
        self._tell(before + file.num_bytes)
        return sha256

    def _tell(self, done: int) -> None:
        self.done = done
        if abs(done - self.told) >= REPORT_BYTES or done == self.total:
            self.told = done
            data = {"label": "fetching", "done": done, "total": self.total}
            message = f"fetching: {done / max(self.total, 1):.0%}"
            self.recorder.record(Event(name="store.fetching.progress", message=message, data=data))

    def _finish(self, place: str, paths: Mapping[str, RemoteFile], sha256: Mapping[str, str]) -> Fetched:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        files = {
            path: StoredFile(num_bytes=file.num_bytes, sha256=sha256[path], git_sha1=file.git_sha1, fetched=now)
            for path, file in paths.items()
        }
        fetched = Fetched(
            name=self.name, commit=self.origin.commit, source=self.origin.page, path=self.home / place, files=files,
            home=self.home,
        )  # fmt: skip
        self.shelf.add(fetched, now)
        message = f"{self.name} is here: {describe_bytes(fetched.num_bytes)} in {fetched.path}"
        self.recorder.record(Event(name="store.fetched", message=message, data={"commit": fetched.commit}))
        return fetched


def _take(source: Path, target: Path) -> None:
    """Give a file that is here a second place: as a link, which takes no room, or where that cannot be as a copy."""
    with explained(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        with replacing_file(target) as temporary:
            shutil.copyfile(source, temporary)
    sync_directory(target.parent)
