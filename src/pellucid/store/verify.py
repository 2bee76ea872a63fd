"""Is what lies on the disk what was written? SHA-256 of every file, remembered by size and time.

A checkpoint's `pellucid.json` lists the hash of each file beside it. Hashing a large file takes a while, so a file that
was found good is stamped (its size and modification time) in the user's cache directory and is read again only when
either changed. Files small enough to hash in a blink are not stamped, and `always=True` trusts no stamp at all. It
guards against damage, *not* against somebody who may write to the directory: they could rewrite the hashes as well.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import platformdirs

from pellucid.errors import CorruptFileError, StoreError
from pellucid.store.atomic import replace_file

STAMP_ABOVE_BYTES = 32 * 2**20


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file; CorruptFileError when it does not hold one."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CorruptFileError(f"cannot read {path.name}", found=str(error), where=str(path)) from error
    if not isinstance(value, dict):
        raise CorruptFileError(f"{path.name} does not hold a JSON object", found=type(value).__name__, where=str(path))
    return value


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_files(directory: Path, hashes: Mapping[str, str], *, always: bool = False) -> None:
    """Raise CorruptFileError unless every listed file is there with the contents it was written with."""
    stamps = Stamps(directory)
    for name, expected in hashes.items():
        path = directory / name
        if not path.is_file():
            raise CorruptFileError(
                f"{name} is missing", where=str(directory), hint="the checkpoint is incomplete: copy all of its files"
            )
        if not always and stamps.vouch_for(name, expected):
            continue
        found = file_sha256(path)
        if found != expected:
            raise CorruptFileError(
                f"{name} is not what was saved",
                found=f"SHA-256 {found[:12]}… instead of {str(expected)[:12]}…",
                where=str(path),
                hint="the file was damaged or edited after it was saved: use another checkpoint, or copy it again",
            )
        stamps.add(name, expected)
    stamps.save()


class Stamps:
    """Which files of one directory were found good, at which size and time."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.resolve()
        key = hashlib.sha256(str(self.directory).encode("utf-8", "surrogateescape")).hexdigest()[:32]
        self.path = platformdirs.user_cache_path("pellucid") / "verified" / f"{key}.json"
        self.known, self.changed = self._read(), False

    def _read(self) -> dict[str, Any]:
        try:
            return read_json(self.path)
        except StoreError:  # no stamps yet, or damaged ones: then everything is hashed again
            return {}

    def vouch_for(self, name: str, sha256: str) -> bool:
        """Whether this very file was hashed before."""
        return self.known.get(name) == self._stamp(name, sha256)

    def add(self, name: str, sha256: str) -> None:
        """Remember a file that was just hashed, when hashing it again would take a while."""
        if (self.directory / name).stat().st_size >= STAMP_ABOVE_BYTES:
            self.known[name], self.changed = self._stamp(name, sha256), True

    def save(self) -> None:
        """Write the stamps; where the cache cannot be written, files are simply hashed each time."""
        if not self.changed:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(self.path, json.dumps(self.known).encode("utf-8"))
        except (OSError, StoreError):
            self.changed = False

    def _stamp(self, name: str, sha256: str) -> list[object]:
        status = (self.directory / name).stat()
        return [status.st_size, status.st_mtime_ns, sha256]
