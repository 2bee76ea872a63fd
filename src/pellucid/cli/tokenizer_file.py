"""Where a tokenizer is on the disk: how it is found, and how it is written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from pellucid.cli.common import PLACE
from pellucid.errors import InputError, StoreError
from pellucid.events import NULL, Recorder
from pellucid.tokens.formats.find import find_tokenizer
from pellucid.tokens.layout import TOKENIZER_FILE
from pellucid.tokens.tokenizer import Tokenizer

GGUF = ".gguf"
where_argument = click.argument("where", metavar="DIR", type=PLACE)


def open_tokenizer(
    where: Path, *, pattern: str | None = None, lowercase: bool | None = None, recorder: Recorder = NULL
) -> Tokenizer:
    """The tokenizer of a file, a directory, or a run's latest checkpoint; what a form leaves open may be chosen."""
    if (where.is_dir() and find_tokenizer(where)) or (where.is_file() and not where.name.endswith(GGUF)):
        return Tokenizer.load(where, pattern=pattern, lowercase=lowercase, recorder=recorder)
    from pellucid.store.directory import describe  # they load torch, which only these need
    from pellucid.store.run import is_run, resolve_checkpoint
    from pellucid.store.tokenizer_files import load_tokenizer

    if where.is_file():
        return load_tokenizer(where, pattern=pattern)
    if is_run(where):
        return Tokenizer.load(resolve_checkpoint(where), recorder=recorder)
    raise InputError(
        "no tokenizer is here",
        found=describe(where),
        where=str(where),
        hint="give a run or a directory with a tokenizer.json; `pellucid tokenizer train` makes one",
    )


def open_tokenizers(places: Sequence[Path]) -> dict[str, Tokenizer]:
    """Several tokenizers under short names."""
    return {name: open_tokenizer(place) for name, place in zip(name_places(places), places, strict=True)}


def name_places(places: Sequence[Path]) -> list[str]:
    """A short name for each place: its last part, or the whole path where two would be alike.

    >>> name_places([Path("runs/a"), Path("b/tokenizer.json")]), name_places([Path("x/a"), Path("y/a")])
    (['a', 'b'], ['x/a', 'y/a'])
    """
    short = [place.parent.name if place.name == "tokenizer.json" else place.stem for place in places]
    return [
        str(place) if short.count(name) > 1 or not name else name for name, place in zip(short, places, strict=True)
    ]


def check_free(out: Path, *, force: bool) -> None:
    """Raise StoreError when a tokenizer would replace another one (unless `force`) or lie beside a model."""
    if any((out / name).is_file() for name in ("run.json", "config.json")):
        raise StoreError(
            "a model is in this directory, and its weights belong to its own tokenizer",
            where=str(out),
            hint="write to another directory",
        )
    if (out / TOKENIZER_FILE).is_file() and not force:
        raise StoreError(
            "a tokenizer is already here", where=str(out), hint="--force replaces it; or choose another directory"
        )


def write_tokenizer(tokenizer: Tokenizer, out: Path) -> None:
    """Write the tokenizer's files; `tokenizer.json` is written last, because readers look for it."""
    from pellucid.files import explained, replace_file

    with explained(out, 0):
        out.mkdir(parents=True, exist_ok=True)
    for name, content in sorted(tokenizer.files().items(), reverse=True):
        replace_file(out / name, content.encode("utf-8"))
