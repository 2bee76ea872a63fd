"""Where fetched models lie on this computer, and what is known of each file.

    FOLDER/OWNER--NAME/
        revisions.json              which commit `main`, or another revision, meant when it was fetched
        COMMIT/fetched.json         from where, when, and the size and hashes of each file
        COMMIT/NAME/…               the model of the repository: a Hugging Face directory like any other
        COMMIT/NAME--gguf/…         single GGUF files (no repository has two dashes in its name)
        parts/HASH                  what has come of a file that is not whole yet

A name is found here without asking anybody. It stays with its commit until a newer one is asked for. `fetched.json` is
written last, so a model that it names is whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import filelock

from pellucid.errors import LockedError, advised
from pellucid.files import explained, replace_file, to_json
from pellucid.store.hub.listing import RemoteFile
from pellucid.store.hub.name import COMMIT, HubName
from pellucid.store.verify import lies_inside
from pellucid.untrusted import Json, Table, read_object

RECORD, REVISIONS, LOCK, PARTS = "fetched.json", "revisions.json", ".lock", "parts"
DAMAGED = "delete this file: the model is then fetched again"


@dataclass(frozen=True, kw_only=True)
class StoredFile:
    """A file that was fetched. `git_sha1` is empty where the server gave a SHA-256."""

    num_bytes: int
    sha256: str
    git_sha1: str
    fetched: str  # the time, UTC

    def same(self, other: StoredFile | None) -> bool:
        """Whether the contents are the same, whenever they came."""
        return other is not None and self.sha256 == other.sha256


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """A model that is here: a directory or a GGUF file, with the hashes of its files."""

    name: HubName
    commit: str
    source: str  # the address of the repository
    path: Path
    files: Mapping[str, StoredFile]  # by their path below `home`
    home: Path

    @property
    def num_bytes(self) -> int:
        """The size of all its files."""
        return sum(file.num_bytes for file in self.files.values())

    def to_dict(self) -> dict[str, Json]:
        """The same for machines."""
        files: dict[str, Json] = {name: asdict(file) for name, file in self.files.items()}
        return {
            "name": str(self.name), "from": self.source, "revision": self.name.revision, "commit": self.commit,
            "path": str(self.path), "num_bytes": self.num_bytes, "files": files,
        }  # fmt: skip


class Shelf:
    """All that was fetched of one repository."""

    def __init__(self, folder: Path, repository: str) -> None:
        self.root, self.name = folder / repository.replace("/", "--"), repository.rpartition("/")[2]

    def place(self, file: str) -> str:
        """Where in a commit's folder a GGUF file of the repository lies, or without one the model."""
        return f"{self.name}--gguf/{file}" if file else self.name

    def commit(self, revision: str) -> str:
        """The commit that a revision means here; empty where it was not fetched."""
        if COMMIT.fullmatch(revision):
            return revision
        path = self.root / REVISIONS
        with advised(DAMAGED):
            commit = Table(self._read(path).table(revision, {}), str(path)).word("commit", "")
        return commit if COMMIT.fullmatch(commit) else ""

    def find(self, name: HubName) -> Fetched | None:
        """The model of a name, whole; None where a file of it is not here."""
        commit = self.commit(name.revision)
        if not commit:
            return None
        home = self.root / commit
        record = self._read(home / RECORD)
        with advised(DAMAGED):
            place = Table(record.table("names", {}), record.where).word(name.file, "")
        files = {path: file for path, file in self._files(record) if path == place or path.startswith(f"{place}/")}
        if not place or not files or not all(_is_there(home / path, file) for path, file in files.items()):
            return None
        with advised(DAMAGED):
            source = record.word("from")
        return Fetched(name=name, commit=commit, source=source, path=home / place, files=files, home=home)

    def holding(self, file: RemoteFile) -> Iterator[Path]:
        """Files of any commit that should have the same contents."""
        for path in sorted(self.root.glob(f"*/{RECORD}")):
            for name, stored in self._files(self._read(path)):
                same = stored.sha256 == file.sha256 if file.sha256 else stored.git_sha1 == file.git_sha1
                if same and _is_there(path.parent / name, stored):
                    yield path.parent / name

    def part(self, file: RemoteFile) -> Path:
        """Where a file lies while it comes; contents of another hash never have the same place."""
        return self.root / PARTS / (file.sha256 or file.git_sha1)

    def add(self, fetched: Fetched, now: str) -> None:
        """Write down that a model is here, and that its revision means this commit."""
        record = self._read(fetched.home / RECORD)
        place = fetched.path.relative_to(fetched.home).as_posix()
        known = dict(self._files(record))
        files = known | {path: file for path, file in fetched.files.items() if not file.same(known.get(path))}
        values = {
            "from": fetched.source,
            "commit": fetched.commit,
            "names": {**record.table("names", {}), fetched.name.file: place},
            "files": {path: asdict(file) for path, file in files.items()},
        }
        replace_file(fetched.home / RECORD, f"{to_json(values)}\n".encode())
        if not COMMIT.fullmatch(fetched.name.revision):
            before = self._read(self.root / REVISIONS).values
            revisions = {**before, fetched.name.revision: {"commit": fetched.commit, "asked": now}}
            replace_file(self.root / REVISIONS, f"{to_json(revisions)}\n".encode())

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Be the only one who fetches from this repository. Raises LockedError at once where another process does."""
        lock = filelock.FileLock(self.root / LOCK)
        with explained(self.root / LOCK, 0):
            (self.root / PARTS).mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire(timeout=0)
            except filelock.Timeout:
                what = "another process is fetching from this repository"
                raise LockedError(what, where=str(self.root), hint="wait for it to end, or stop it") from None
        try:
            yield
        finally:
            lock.release()

    def _read(self, path: Path) -> Table:
        """A file of this folder; nothing where it is not there."""
        with advised(DAMAGED):
            return Table(read_object(path) if path.is_file() else {}, str(path), path.name)

    def _files(self, record: Table) -> Iterator[tuple[str, StoredFile]]:
        with advised(DAMAGED):
            for path, values in record.table("files", {}).items():
                if lies_inside(path):
                    told = Table(values, record.where, path)
                    yield path, StoredFile(
                        num_bytes=told.whole("num_bytes"), sha256=told.word("sha256"),
                        git_sha1=told.word("git_sha1", ""), fetched=told.word("fetched"),
                    )  # fmt: skip


def _is_there(path: Path, file: StoredFile) -> bool:
    return path.is_file() and path.stat().st_size == file.num_bytes
