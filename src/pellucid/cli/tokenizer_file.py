"""Where a tokenizer is on the disk: how it is found, and how it is written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from pellucid.cli.common import PLACE, Terminal
from pellucid.errors import InputError, StoreError
from pellucid.events import NULL, Recorder
from pellucid.files import check_directory, explained, replace_file
from pellucid.tokens.formats.find import describe_search, find_tokenizer, is_gguf
from pellucid.tokens.tokenizer import Tokenizer

MODEL_MARKS = ("run.json", "config.json")  # the files that say: weights are here
where_argument = click.argument("where", metavar="DIR", type=PLACE)


def open_tokenizer(
    where: Path, *, pattern: str | None = None, lowercase: bool | None = None, recorder: Recorder = NULL
) -> Tokenizer:
    """The tokenizer of a file, a directory, or a run's latest checkpoint; what a form leaves open may be chosen."""
    file = locate_tokenizer(where)
    if not is_gguf(file):
        return Tokenizer.load(file, pattern=pattern, lowercase=lowercase, recorder=recorder)
    from pellucid.store.tokenizer_files import load_tokenizer  # it loads torch, which only this form needs

    return load_tokenizer(file, pattern=pattern, lowercase=lowercase)


def locate_tokenizer(where: Path) -> Path:
    """The file that is, or begins, the tokenizer a person means by a path. Raises InputError where there is none."""
    if (file := find_tokenizer(where)) is not None:
        return file
    from pellucid.store.directory import describe
    from pellucid.store.hub.name import is_hub_name
    from pellucid.store.run import is_run, resolve_checkpoint

    if is_hub_name(where):
        return locate_tokenizer(resolve_checkpoint(where, recorder=Terminal()))
    place = resolve_checkpoint(where) if is_run(where) else where
    if (file := find_tokenizer(place)) is not None:
        return file
    raise InputError(
        "no tokenizer is here",
        found=f"{describe(place)}; {describe_search(place)}",
        where=str(place),
        hint="give a run, or one of these files or its directory; `pellucid tokenizer train` makes one",
    )


def open_tokenizers(places: Sequence[Path]) -> dict[str, Tokenizer]:
    """Several tokenizers under short names. Raises InputError for one that is given twice."""
    files = [locate_tokenizer(place).resolve() for place in places]
    for number, (place, file) in enumerate(zip(places, files, strict=True)):
        if file in files[:number]:
            found = f"{place}, which is {file}"
            raise InputError("a tokenizer is given twice", found=found, hint="give each of them once")
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


def check_free(out: Path, *, force: bool | None = None) -> None:
    """Raise StoreError when a tokenizer cannot be written here: asked before the work, not after it.

    It would replace another one (unless `force`; None where a verb has no --force), lie beside a model, or lie where no
    directory can be made.
    """
    if any((out / name).is_file() for name in MODEL_MARKS):
        raise StoreError(
            "a model is in this directory, and its weights belong to its own tokenizer",
            where=str(out),
            hint="write to another directory",
        )
    if (file := find_tokenizer(out)) is not None and out.is_dir() and not force:
        raise StoreError(
            "a tokenizer is already here",
            found=file.name,
            where=str(out),
            hint="choose another directory" if force is None else "--force replaces it; or choose another directory",
        )
    check_directory(out)


def write_tokenizer(tokenizer: Tokenizer, out: Path) -> None:
    """Write the tokenizer's files; `tokenizer.json` is written last, because readers look for it."""
    with explained(out, 0):
        out.mkdir(parents=True, exist_ok=True)
    for name, content in sorted(tokenizer.files().items(), reverse=True):
        replace_file(out / name, content.encode("utf-8"))
