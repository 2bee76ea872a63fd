"""Refuse to train on another text in a directory that holds a run; name both texts and propose another directory."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from pellucid.data.shards import MANIFEST, TokenShards
from pellucid.data.source import Source
from pellucid.errors import CorruptFileError, ResumeError
from pellucid.store.run import Run, is_run


def check_same_text(out: Path, source: Source) -> None:
    """Raise ResumeError, naming both texts and another directory, when `out` holds a run on another text."""
    if not is_run(out):
        return
    known = Run.open(out).identity.get("data")
    if not isinstance(known, dict) or known.get("text") in (None, source.fingerprint):
        return
    before, now = _text_of(out), source.description
    same_name = before is not None and _name(before) == _name(now)
    raise ResumeError(
        "the text is not the one this run began with",
        found=f"{now} has changed: it was {before}"
        if same_name
        else f"{now}, where the run read {before or 'another text'}",
        where=str(out),
        hint=f"train in another directory, for example --out {shlex.quote(str(propose_directory(out, now)))}"
        + (f" (--from {shlex.quote(str(out))} would begin with this run's model)" if same_name else ""),
    )


def _text_of(out: Path) -> str | None:
    """The description of the text that a run's prepared tokens were made from."""
    if not (out / "data" / "train" / MANIFEST).is_file():
        return None
    try:
        return TokenShards.open(out / "data" / "train").manifest.source
    except CorruptFileError:  # the tokens are damaged: what they were made from is not the question now
        return None


def _name(description: str) -> str:
    return description.rpartition(" (")[0]


def propose_directory(out: Path, description: str) -> Path:
    """An unused directory beside `out`, named after the text.

    >>> propose_directory(Path("runs/book"), "My novel.txt (1,000 bytes)").as_posix()
    'runs/My-novel'
    """
    home = out if out.name else out.resolve()
    name = re.sub(r"[^\w]+", "-", Path(_name(description)).stem).strip("-") or home.name
    tries = (home.with_name(name if number == 1 else f"{name}-{number}") for number in range(1, 10_000))
    return next(path for path in tries if not path.exists())
