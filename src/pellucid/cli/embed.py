"""`pellucid embed`: one vector for each text of a file, written to an .npz, and the texts that are nearest to one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pellucid.cli.common import (
    PLACE,
    Common,
    Terminal,
    as_json,
    common_options,
    encoding_option,
    errors_option,
    field_option,
    open_reader,
    pattern_option,
    print_json,
    tell_blank,
    tell_opening,
)
from pellucid.cli.language import tell, words
from pellucid.cli.tables import Side, print_table
from pellucid.cli.watch import watch_items
from pellucid.counts import counted
from pellucid.errors import InputError, SettingsError

if TYPE_CHECKING:  # they load torch, which help does without
    from pellucid.engine.embed import Embeddings

Texts = list[tuple[str, str]]  # where each text is from, and the text


@click.command()
@click.argument("run")
@click.argument("file")
@click.option("--out", type=PLACE, metavar="FILE.npz", help="write the vectors here, with the texts beside them")
@click.option("--near", metavar="TEXT", help="rank the texts by their likeness to this one (cosine)")
@click.option("--top", type=click.IntRange(1), default=10, show_default=True, help="so many texts of --near")
@click.option(
    "--pooling",
    type=click.Choice(["mean", "first", "last"]),
    help="how a text's token vectors become one [default: as the model's files say; the mean for an encoder]",
)
@click.option(
    "--normalise/--as-they-come",
    default=None,
    help="vectors of length 1, or not [default: as the model's files say, else as they come]",
)
@click.option("--cut", is_flag=True, help="read only the beginning of texts that are too long, and count them")
@field_option
@errors_option
@encoding_option
@pattern_option
@common_options
def command(
    common: Common,
    run: str,
    file: str,
    out: Path | None,
    near: str | None,
    top: int,
    field: str,
    errors: str,
    encoding: str | None,
    **how: Any,
) -> None:
    """One vector for each text of FILE: each line of a text file, each row of a .jsonl or .parquet, each file of a folder.

    Vectors are float32. How they are made belongs to the model: files of sentence-transformers beside it say it (get
    fetches them). An .npz holds `vectors`, `texts` and `origins` (file and line), and numpy.load opens it.
    """
    if out is None and near is None:
        raise SettingsError(
            "what is to become of the vectors is not said", hint="add --out FILE.npz, or --near TEXT to rank the texts"
        )
    if out is not None and out.suffix != ".npz":
        raise SettingsError("vectors are written to a file of numpy's", found=str(out), hint="--out vectors.npz")
    if near is not None and not near.strip():
        raise SettingsError(
            "there is no text to rank the others by", found=f"--near {near!r}", hint='--near "a cat sleeps"'
        )
    texts = _read_texts(file, field=field, errors=errors, encoding=encoding or "auto")
    tell_opening(run, quiet=common.as_json)
    lm = open_reader(run, common)
    found = lm.embed([text for _, text in texts], **how, watch=None if common.as_json else _progress)
    if out is not None:
        _write(out, texts, found)
    ranked = [] if near is None else _rank(lm.embed([near], **how).vectors[0], found, texts)[:top]
    if common.as_json:
        print_json({**_about(found), "out": None if out is None else str(out), "near": ranked})
        return
    _tell(found)
    if ranked:
        columns: dict[str, Side] = {"cosine": "right", "from": "left", "text": "left"}
        print_table(columns, [(f"{one['cosine']:.4f}", one["origin"], one["text"]) for one in ranked])
    if out is not None:
        tell(f"· vectors of {counted(len(texts), 'text')} in {out}", err=True)


def _read_texts(file: str, **reading: Any) -> Texts:
    """Every text of a file, and where it is from. Lines of a plain text are texts; blank ones are left out, and counted."""
    from pellucid.data.source import open_source

    source = open_source(file, recorder=Terminal(), **reading)
    by_line = len(source.files) == 1 and source.files[0].kind == "text"
    wholes: dict[str, list[str]] = {}
    for document in source.documents():
        wholes.setdefault(document.origin, []).append(document.text)
    joined = {origin: "".join(parts) for origin, parts in wholes.items()}
    if not by_line:
        return list(joined.items())
    lines = [
        (f"{origin}:{number}", line)
        for origin, text in joined.items()
        for number, line in enumerate(text.removesuffix("\n").split("\n"), start=1)
    ]
    texts = [(origin, line) for origin, line in lines if line.strip()]
    if not texts:
        raise InputError("there is no text here, only blank space", where=file)
    if blank := len(lines) - len(texts):
        tell_blank(blank, file)
    return texts


def _progress(batches: Iterable[list[int]], num_batches: int) -> Iterator[list[int]]:
    return watch_items(batches, num_batches, "reading")


def _write(out: Path, texts: Texts, found: Embeddings) -> None:
    """Write the vectors at once or not at all."""
    import numpy as np

    from pellucid.files import replacing_file

    origins, lines = zip(*texts, strict=True)
    with replacing_file(out) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(
            stream,
            vectors=found.vectors,
            texts=np.array(lines),
            origins=np.array(origins),
            num_tokens=np.array(found.num_tokens),
            how=np.array(as_json(_about(found))),
        )


def _rank(vector_D: Any, found: Embeddings, texts: Texts) -> list[dict[str, Any]]:
    """The texts, the likest first."""
    from pellucid.engine.embed import cosines

    values = cosines(found.vectors, vector_D).tolist()
    order = sorted(range(len(texts)), key=lambda number: -values[number])
    return [{"cosine": values[number], "origin": texts[number][0], "text": texts[number][1]} for number in order]


def _about(found: Embeddings) -> dict[str, Any]:
    how, (num_texts, width) = found.how, found.vectors.shape
    made = {"pooling": how.pooling, "normalise": how.normalise, "max_tokens": how.max_tokens, "said_by": how.said_by}
    return {"texts": num_texts, "width": width, **made, "cut": found.num_cut}


def _tell(found: Embeddings) -> None:
    """Say how the vectors were made, and what was not read."""
    how, (num_texts, width) = found.how, found.vectors.shape
    told = {
        "asked": words("as asked", err=True),
        "files": words("as the model's files say", err=True),
        "usual": words("usual for an encoder", err=True),
    }
    length = words("of length 1" if how.normalise else "as long as they come", err=True)
    who = told[how.said_by]
    tell(
        f"· {counted(num_texts, 'vector')} of {counted(width, 'number')}, {length}; pooling: {how.pooling} ({who})",
        err=True,
    )
    if how.prompt:
        tell(f"· put before every text, as the model's files say: {how.prompt!r}", err=True)
    if found.num_cut:
        tell(f"! cut after {counted(how.max_tokens, 'token')}: {counted(found.num_cut, 'text')}", err=True)
