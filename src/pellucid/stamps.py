"""A cache of checks: what was found good before is not checked again (stamps in the user's cache directory).

A file that was hashed is stamped with its size, time and inode, and is read again when one of them changed. A text that
an engine took without harm is stamped by its hash. Where the cache cannot be written, everything is checked
each time. Stamps guard against damage and save time; they are *not* a defence against somebody who may write here.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import platformdirs

from pellucid.errors import StoreError
from pellucid.files import replace_file
from pellucid.untrusted import parse_json, read_bytes

STAMP_ABOVE_BYTES = 32 * 2**20  # smaller files are hashed in a blink


class Stamps:
    """Which files of one directory were found good, at which size, time and inode."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.resolve()
        self.path = _folder() / f"{_key(str(self.directory))}.json"
        self.known, self.changed = self._read(), False

    def _read(self) -> dict[str, Any]:
        try:
            known = parse_json(read_bytes(self.path))
        except (OSError, ValueError):  # no stamps yet, or damaged ones: then everything is hashed again
            return {}
        return known if isinstance(known, dict) else {}

    def vouch_for(self, name: str, sha256: str) -> bool:
        """Whether this very file was hashed before."""
        return self.known.get(name) == self._stamp(name, sha256)

    def add(self, name: str, sha256: str) -> None:
        """Remember a file that was just hashed, when hashing it again would take a while."""
        if (self.directory / name).stat().st_size >= STAMP_ABOVE_BYTES:
            self.known[name], self.changed = self._stamp(name, sha256), True

    def save(self) -> None:
        """Write the stamps, where they changed and the cache can be written."""
        if self.changed:
            self.changed = False
            _write(self.path, json.dumps(self.known).encode("utf-8"))

    def _stamp(self, name: str, sha256: str) -> list[object]:
        status = (self.directory / name).stat()
        return [status.st_size, status.st_mtime_ns, status.st_ino, sha256]


def was_tried(text: str) -> bool:
    """Whether this text was tried before and did no harm."""
    return _tried(text).is_file()


def remember_trial(text: str) -> None:
    """Remember that a text was tried and did no harm."""
    _write(_tried(text), b"")


def _tried(text: str) -> Path:
    return _folder() / "tried" / _key(text)


def _folder() -> Path:
    return platformdirs.user_cache_path("pellucid") / "verified"


def _key(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32]


def _write(path: Path, data: bytes) -> None:
    """Give a file its contents at once; a cache that cannot be written stays as it is."""
    with suppress(OSError, StoreError):
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, data)
