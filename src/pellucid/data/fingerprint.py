"""The fingerprint of a source: a hash of its files, computed while they are read for another purpose.

    fingerprint = SHA-256 over kind, size and contents of every file in order

Two sources with the same fingerprint hold the same contents. File names do not count, so a folder may be moved. The
contents are the bytes on the disk: a .gz is hashed compressed.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from pellucid.data.decoding import BLOCK_BYTES
from pellucid.data.files import TextFile


class Fingerprint:
    """The hash of some files, one after the other."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    @classmethod
    def of(cls, files: Iterable[TextFile]) -> str:
        """The fingerprint of files that are read for nothing else."""
        fingerprint = cls()
        for file in files:
            fingerprint.add(file)
        return fingerprint.text

    @property
    def text(self) -> str:
        return self._digest.hexdigest()

    def add(self, file: TextFile) -> None:
        """Hash a file that is read for nothing else."""
        with self.reading(file):
            pass

    @contextmanager
    def reading(self, file: TextFile) -> Iterator[BinaryIO]:
        """Open a file to read, decompressed if it is a .gz; bytes are hashed as they are read, the rest at the end."""
        self._digest.update(f"{file.kind} {file.num_bytes}\n".encode())
        with file.path.open("rb", buffering=0) as raw:
            hashed = _Hashed(raw, self._digest)
            with file.decompressed(io.BufferedReader(hashed, BLOCK_BYTES)) as text:
                yield text
            hashed.finish()


class _Hashed(io.RawIOBase):
    """A file whose bytes are hashed when first read; a second read of its beginning is not hashed again."""

    def __init__(self, raw: io.FileIO, digest: Any) -> None:  # hashlib does not name the type of its hashes
        self._raw, self._digest, self._done = raw, digest, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._raw.seek(offset, whence)

    def readinto(self, buffer: Any) -> int:  # any writable buffer
        start = self._raw.tell()
        count = self._raw.readinto(buffer) or 0
        new = start + count - self._done
        if 0 < new <= count:
            self._digest.update(memoryview(buffer)[count - new : count])
            self._done += new
        return count

    def finish(self) -> None:
        """Hash the rest of the file, which was not read."""
        self._raw.seek(self._done)
        while block := self._raw.read(BLOCK_BYTES):
            self._digest.update(block)
