"""Integrity check: whether files are still as they were written, by the SHA-256 of each, remembered by size and time.

A checkpoint's `pellucid.json` lists the hash of each file beside it. Hashing a large file takes a while, so a file that
was found good is stamped (`pellucid.stamps`) and is read again only when it changed; `always=True` trusts no stamp. It
guards against damage, *not* against somebody who may write to the directory: they could rewrite the hashes as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from pellucid import untrusted
from pellucid.errors import CorruptFileError
from pellucid.files import file_sha256
from pellucid.stamps import Stamps


def check_files(directory: Path, hashes: Mapping[str, str], *, always: bool = False) -> None:
    """Raise CorruptFileError unless every listed file is there with the contents it was written with."""
    stamps = Stamps(directory)
    for name, expected in hashes.items():
        if not isinstance(expected, str) or not lies_inside(name):
            what = "the list of files names one that cannot be"
            raise CorruptFileError(what, found=untrusted.shown(name), where=str(directory))
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


def lies_inside(name: str) -> bool:
    """Whether a name from a file is that of something in the same directory or below it."""
    return bool(name) and "\0" not in name and not name.startswith("/") and ".." not in PurePosixPath(name).parts
