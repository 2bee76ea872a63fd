"""Atomic writes to the disk: a reader sees the old contents or the new, never half of either.

Everything is written beside its place under a name that starts with `.tmp-`, forced to the disk, and renamed into
place; the directory entry is forced too. A process that is killed leaves at most a `.tmp-` name behind (or, between the
two renames that replace a directory, the old contents under `.old-`); `sweep` removes the first and puts the second
back. A disk that is full becomes a NoSpaceError after the half-written copy is removed.

The calls are os.mkdir, os.open, os.write, os.fsync, os.replace, os.ftruncate and shutil.rmtree: a test that replaces
those can fail or kill at each of them. Two writers at once are *not* kept apart here: a run's lock does that.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pellucid.errors import NoSpaceError, StoreError

TEMPORARY, REPLACED = ".tmp-", ".old-"
WRITE_BYTES = 64 * 2**20  # one system call's worth: large enough to be rare, small enough to be interrupted
FULL_DISK = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)


def replace_file(path: Path, data: bytes) -> None:
    """Replace the contents of `path` atomically: all at once or not at all.

    Raises NoSpaceError when the disk is full, StoreError when it cannot be written; the old contents stay.
    """
    replace_file_pieces(path, [data], len(data))


def replace_file_pieces(path: Path, chunks: Iterable[bytes | memoryview], num_bytes: int) -> None:
    """As `replace_file`, for contents of `num_bytes` that come piece by piece."""
    temporary = path.with_name(f"{TEMPORARY}{path.name}-{os.getpid()}")
    try:
        with explained(path, num_bytes):
            write_file(temporary, chunks)
            os.replace(temporary, path)
            sync_directory(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def check_directory(path: Path) -> None:
    """Raise StoreError where no file could be written into a directory that is there or would be made; nothing is left.

    Asked before long work, so that its result has a place.
    """
    there = next(place for place in (path, *path.absolute().parents) if place.exists())
    with explained(path):
        if not there.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(there))
        trial = there / f"{TEMPORARY}{path.name}-{os.getpid()}"
        try:
            os.mkdir(trial)
        finally:
            if trial.exists():
                os.rmdir(trial)


class NewDirectory:
    """A directory being written: files go in one by one, and each one's SHA-256 is kept."""

    def __init__(self, path: Path, destination: Path) -> None:
        self.path, self.destination = path, destination
        self.sha256: dict[str, str] = {}

    def write(self, name: str, chunks: Iterable[bytes | memoryview], num_bytes: int) -> None:
        """Write one file; `name` may lie in a subdirectory (`training/state.json`)."""
        path = self.path / name
        with explained(self.destination / name, num_bytes):
            if path.parent != self.path and not path.parent.exists():
                os.mkdir(path.parent)
            self.sha256[name] = write_file(path, chunks)

    def write_text(self, name: str, text: str) -> None:
        """Write one small file of text."""
        data = as_bytes(text)
        self.write(name, [data], len(data))


@contextmanager
def replacing_file(path: Path) -> Iterator[Path]:
    """A temporary file to write: it replaces `path` when the block ends well, and is removed otherwise."""
    temporary = path.with_name(f"{TEMPORARY}{path.name}-{os.getpid()}")
    try:
        with explained(path):
            yield temporary
            sync_file(temporary)
            os.replace(temporary, path)
            sync_directory(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replace_directory(destination: Path) -> Iterator[NewDirectory]:
    """A new directory that appears at `destination` when the block ends well, and leaves no trace when it does not.

    A directory that is already there stays in its place until the new one is complete.
    """
    parent, name = destination.parent, destination.name
    with explained(destination):
        parent.mkdir(parents=True, exist_ok=True)
        sweep(parent, name)
        temporary = parent / f"{TEMPORARY}{name}-{os.getpid()}"
        os.mkdir(temporary)
    try:
        with explained(destination):
            yield NewDirectory(temporary, destination)
            for directory in (*(entry for entry in temporary.iterdir() if entry.is_dir()), temporary):
                sync_directory(directory)
            _swap(temporary, destination)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _swap(temporary: Path, destination: Path) -> None:
    replaced = destination.with_name(f"{REPLACED}{destination.name}")
    if destination.exists():
        os.replace(destination, replaced)
    try:
        os.replace(temporary, destination)
    except OSError:
        if replaced.exists():
            os.replace(replaced, destination)
        raise
    sync_directory(destination.parent)
    if replaced.exists():
        shutil.rmtree(replaced)


def as_bytes(text: str) -> bytes:
    """Text, mostly JSON, as UTF-8; half a character, as the names of files may hold, is spelled as JSON spells it."""
    return text.encode("utf-8", errors="backslashreplace")


def to_json(values: object) -> str:
    """Values as JSON for people to read, in the order they have."""
    return json.dumps(values, ensure_ascii=False, indent=2)


def append_line(path: Path, line: str, *, sync: bool = False) -> None:
    """Add one line at the end of a file; when it does not fit, the file is left as long as it was.

    `sync` returns only when the line, and the file's name where it is new, are on the disk.
    """
    data = as_bytes(line + "\n")
    with explained(path, len(data)):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            size = os.fstat(descriptor).st_size
            try:
                _write_all(descriptor, memoryview(data))
            except OSError:
                os.ftruncate(descriptor, size)
                raise
            if sync:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if sync:
            sync_directory(path.parent)


def remove_directory(path: Path) -> None:
    """Delete a directory; a reader sees it whole or not at all, even when the deletion is cut short."""
    doomed = path.with_name(f"{TEMPORARY}{path.name}-{os.getpid()}")
    with explained(path):
        os.replace(path, doomed)
        shutil.rmtree(doomed)


def sweep(directory: Path, name: str = "") -> list[Path]:
    """Undo what killed writers left in `directory` (for one `name`, or all); only for whoever may write there.

    Returns what was removed or put back.
    """
    swept = []
    for entry in sorted(directory.iterdir()):
        if entry.name.startswith(f"{TEMPORARY}{name}-" if name else TEMPORARY):
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        elif entry.name == f"{REPLACED}{name}" if name else entry.name.startswith(REPLACED):
            original = entry.with_name(entry.name.removeprefix(REPLACED))
            shutil.rmtree(entry) if original.exists() else os.replace(entry, original)
        else:
            continue
        swept.append(entry)
    return swept


def write_file(path: Path, chunks: Iterable[bytes | memoryview]) -> str:
    """Write a file from its beginning, force it to the disk, and return its SHA-256."""
    digest = hashlib.sha256()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        for chunk in chunks:
            view = memoryview(chunk).cast("B")
            _write_all(descriptor, view)
            digest.update(view)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return digest.hexdigest()


def _write_all(descriptor: int, view: memoryview) -> None:
    while view:
        view = view[os.write(descriptor, view[:WRITE_BYTES]) :]


def sync_file(path: Path) -> None:
    """Force a file's bytes to the disk."""
    _sync(path, os.O_RDWR)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_git_sha1(path: Path) -> str:
    """The SHA-1 under which git keeps a file's bytes, in hexadecimal."""
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: digest).hexdigest()


def sync_directory(path: Path) -> None:
    """Force a directory's entries to the disk (Windows keeps them itself and cannot open a directory)."""
    if os.name == "nt":
        return
    _sync(path, os.O_RDONLY)


def _first_file(path: Path) -> Path:
    """The first file on the way to `path`, where a directory should be."""
    return next((place for place in reversed([path, *path.parents]) if place.exists() and not place.is_dir()), path)


@contextmanager
def explained(path: Path, num_bytes: int | None = None) -> Iterator[None]:
    """Turn the operating system's refusals into errors that say what was being written (how many bytes) and what to try."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL_DISK:
            found = f"the system says: {error.strerror}"
            if num_bytes is not None:
                found = f"{num_bytes:,} bytes wanted; the system says: {error.strerror}"
            raise NoSpaceError(
                f"no room to write {path.name}",
                found=found,
                where=str(path),
                hint="free some space or write elsewhere; nothing that was saved before has been touched",
            ) from error
        if isinstance(error, (FileExistsError, NotADirectoryError)):
            raise StoreError(
                "a file lies where a directory is wanted",
                where=str(_first_file(path)),
                hint="name another directory, or move the file away",
            ) from error
        raise StoreError(
            f"cannot write {path.name}", found=error.strerror or str(error), where=str(path),
            hint="check that the directory exists and that you may write there",
        ) from error  # fmt: skip
