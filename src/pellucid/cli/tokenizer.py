"""`pellucid tokenizer`: train a tokenizer, encode text to ids, decode ids, and explain how a text was split.

Results go to standard output and remarks to standard error, so that `encode` may be piped into `decode`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from pellucid.cli.common import (
    PLACE,
    Terminal,
    encoding_option,
    newlines_option,
    print_json,
    read_standard_input,
    set_option,
    typed,
)
from pellucid.cli.language import tell
from pellucid.cli.screen import say
from pellucid.cli.tables import Side, print_table
from pellucid.cli.watch import watch_items
from pellucid.counts import counted
from pellucid.errors import InputError, StoreError
from pellucid.events import Event
from pellucid.settings import Layer, parse_assignments, resolve
from pellucid.tokens.explain import Piece, explain
from pellucid.tokens.formats.find import find_tokenizer
from pellucid.tokens.layout import TOKENIZER_FILE
from pellucid.tokens.settings import TokenizerSettings
from pellucid.tokens.tokenizer import Tokenizer

STANDARD_INPUT, GGUF = "-", ".gguf"
FORMS = ("tokenizer.json", "tiktoken", "merges.txt", "vocab.txt", "gguf")  # those of store/tokenizer_files.py
TOKEN_COLUMNS: dict[str, Side] = {
    "piece": "left",
    "characters": "left",
    "id": "right",
    "token": "left",
    "bytes": "left",
}
MERGE_COLUMNS: dict[str, Side] = {
    "merges of": "left",
    "rank": "right",
    "left": "left",
    "right": "left",
    "joined": "left",
}
json_option = click.option("--json", "as_json", is_flag=True, help="print JSON for machines")
where_argument = click.argument("where", metavar="DIR", type=PLACE)


@click.group()
def command() -> None:
    """Train, use and explain tokenizers.

    DIR is a tokenizer.json or a tokenizer in another form (see convert), a directory that holds one, or a run.
    """


@command.command()
@click.argument("text")
@click.option("--out", type=PLACE, required=True, help="the directory to write the tokenizer into")
@click.option(
    "--kind",
    type=click.Choice(["auto", "bpe", "char"]),
    help="byte-level BPE, or one token per character [default: auto, which takes BPE]",
)
@click.option("--vocab-size", type=int, help="tokens in the vocabulary [default: chosen by the size of the text]")
@click.option(
    "--field", default="text", show_default=True, help="the field of .jsonl and .parquet rows that holds the text"
)
@click.option(
    "--errors",
    type=click.Choice(["strict", "replace"]),
    default="strict",
    show_default=True,
    help="broken bytes and rows without text: stop, or replace, leave out, and count",
)
@encoding_option
@newlines_option
@set_option(
    "pellucid.tokens.settings:TokenizerSettings",
    "any other setting: pattern, sample_bytes, max_han, max_token_bytes",
)
@click.option("--force", is_flag=True, help="replace a tokenizer that is already there")
@json_option
def train(
    text: str,
    out: Path,
    kind: str | None,
    vocab_size: int | None,
    field: str,
    errors: str,
    encoding: str | None,
    newlines: str | None,
    assignments: tuple[str, ...],
    force: bool,
    as_json: bool,
) -> None:
    """Train a tokenizer on TEXT.

    TEXT is a .txt, a folder, .jsonl, .jsonl.gz, .parquet, or - for standard input. What is written is what Hugging Face's AutoTokenizer loads.
    """
    from pellucid.data.source import open_source
    from pellucid.tokens.choose import train_tokenizer

    named = {name: value for name, value in (("kind", kind), ("vocab_size", vocab_size)) if value is not None}
    layer = Layer("command line", {**parse_assignments(assignments), **named})
    settings = resolve(TokenizerSettings, layer).settings
    check_free(out, force=force)
    reading = {"field": field, "errors": errors, "encoding": encoding or "auto", "newlines": newlines or "lf"}
    source = open_source(text, **reading, recorder=Terminal())  # type: ignore[arg-type]
    texts: Iterator[str] = (document.text for document in source.documents())
    if not as_json:
        texts = watch_items(texts, source.survey.num_characters, "counting", size=len)
    tokenizer = train_tokenizer(texts, source.survey.num_bytes, settings, recorder=Terminal())
    write_tokenizer(tokenizer, out)
    sizes = {"kind": tokenizer.kind, "vocab_size": tokenizer.vocab_size, "sha256": tokenizer.sha256}
    if as_json:
        print_json({"out": str(out), **sizes, "specials": dict(tokenizer.specials)})
    else:
        tell(
            f"{tokenizer.kind}, {tokenizer.vocab_size:,} tokens, from {source.survey.num_bytes:,} bytes of text: {out}"
        )
        explained = typed("pellucid", "tokenizer", "explain", out)
        tell(f'next:  {explained} "…"')


@command.command()
@where_argument
@click.argument("text", default=STANDARD_INPUT)
@json_option
def encode(where: Path, text: str, as_json: bool) -> None:
    """Print the ids of TEXT.

    Without TEXT it is read from standard input. No special token is added, and text that spells one stays text.
    """
    tokenizer = open_tokenizer(where)
    text = read_standard_input() if text == STANDARD_INPUT else text
    encoding = tokenizer.encode(text)
    if as_json:
        tokens = [tokenizer.token_text(token_id) for token_id in encoding.ids]
        print_json({"ids": encoding.ids, "tokens": tokens, "offsets": encoding.offsets})
        return
    click.echo(" ".join(map(str, encoding.ids)))
    num_bytes, num_tokens = len(text.encode("utf-8")), len(encoding.ids)
    rate = f", {num_bytes / num_tokens:.2f} bytes for each token" if num_tokens else ""
    message = (
        f"{counted(num_tokens, 'token')} for {counted(len(text), 'character')}, {counted(num_bytes, 'byte')}{rate}"
    )
    Terminal().record(Event(name="cli.encoded", message=message))


@command.command()
@where_argument
@click.argument("ids", nargs=-1, metavar="[IDS…]")
@click.option("--show-special", is_flag=True, help="show special tokens by their names instead of leaving them out")
@json_option
def decode(where: Path, ids: tuple[str, ...], show_special: bool, as_json: bool) -> None:
    """Print the text of IDS.

    Without IDS they are read from standard input. In a pipe the text is exact, with no line end added; bytes that are
    not UTF-8 become U+FFFD.
    """
    tokenizer = open_tokenizer(where)
    words = read_standard_input().split() if ids in ((), (STANDARD_INPUT,)) else ids
    numbers = [read_id(word) for word in words]
    text = tokenizer.decode(numbers, show_special=show_special)
    if as_json:
        tokens = [tokenizer.token_text(token_id) for token_id in numbers]
        print_json({"text": text, "tokens": tokens, "bytes": tokenizer.decode_bytes(numbers).hex(" ")})
    else:
        say(text, nl=sys.stdout.isatty())  # in a pipe the text and nothing else


@command.command()
@click.argument("where", metavar="WHERE", type=PLACE)
@click.option("--to", "form", type=click.Choice(FORMS), default=FORMS[0], show_default=True, help="the form to write")
@click.option("--out", type=PLACE, required=True, help="the directory to write into")
@click.option("--pattern", help="where a text is cut, if the file does not say: gpt2, qwen2, llama3, cl100k, o200k, …")
@click.option("--lowercase/--no-lowercase", default=None, help="for a vocab.txt: whether capitals become small letters")
@click.option("--force", is_flag=True, help="replace a tokenizer that is already there")
@json_option
def convert(
    where: Path, form: str, out: Path, pattern: str | None, lowercase: bool | None, force: bool, as_json: bool
) -> None:
    """Write the tokenizer in WHERE in another form.

    WHERE is a tokenizer.json, a .tiktoken file, a SentencePiece .model, a vocab.json beside its merges.txt, a vocab.txt, a
    .gguf file, a directory that holds one of them (the first of these), or a run. What is written is read back, and
    refused if it gives other ids.
    """
    from pellucid.store.tokenizer_files import save_tokenizer

    tokenizer = open_tokenizer(where, pattern=pattern, lowercase=lowercase)
    check_free(out, force=force)
    written = save_tokenizer(tokenizer, out, form, recorder=Terminal())  # type: ignore[arg-type]
    sizes = {"kind": tokenizer.kind, "vocab_size": tokenizer.vocab_size, "sha256": tokenizer.sha256}
    if as_json:
        print_json({"files": [str(path) for path in written], **sizes, "losses": tokenizer.losses})
    else:
        tell(f"{tokenizer.kind}, {tokenizer.vocab_size:,} tokens: {', '.join(map(str, written))}")
        for loss in tokenizer.losses:
            tell(f"not exact: {loss}")


@command.command(name="explain")
@where_argument
@click.argument("text")
@json_option
def explain_text(where: Path, text: str, as_json: bool) -> None:
    """Show how TEXT became its tokens.

    The pieces that no token crosses, the ids in each with their bytes, and every merge in the order it was applied.
    """
    text = read_standard_input() if text == STANDARD_INPUT else text
    pieces = explain(open_tokenizer(where), text)
    if as_json:
        print_json([piece_document(piece) for piece in pieces])
        return
    print_table(TOKEN_COLUMNS, [cells for piece in pieces for cells in token_rows(piece)])
    if merges := [cells for piece in pieces for cells in merge_rows(piece)]:
        print_table(MERGE_COLUMNS, merges)


def open_tokenizer(where: Path, *, pattern: str | None = None, lowercase: bool | None = None) -> Tokenizer:
    """The tokenizer of a file, a directory, or a run's latest checkpoint; what a form leaves open may be chosen."""
    if (where.is_dir() and find_tokenizer(where)) or (where.is_file() and not where.name.endswith(GGUF)):
        return Tokenizer.load(where, pattern=pattern, lowercase=lowercase)
    from pellucid.store.directory import describe  # they load torch, which only these need
    from pellucid.store.run import is_run, resolve_checkpoint
    from pellucid.store.tokenizer_files import load_tokenizer

    if where.is_file():
        return load_tokenizer(where, pattern=pattern)
    if is_run(where):
        return Tokenizer.load(resolve_checkpoint(where))
    raise InputError(
        "no tokenizer is here",
        found=describe(where),
        where=str(where),
        hint="give a run or a directory with a tokenizer.json; `pellucid tokenizer train` makes one",
    )


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


def read_id(word: str) -> int:
    """Read one id as a person writes it."""
    if not (word.isascii() and word.isdigit()):
        raise InputError("ids are whole numbers with spaces between", found=repr(word), hint="for example: 72 105")
    return int(word)


def token_rows(piece: Piece) -> Iterator[tuple[str, ...]]:
    """A piece's tokens as rows under TOKEN_COLUMNS; the piece stands beside its first."""
    label = (quote(piece.text), f"{piece.start}-{piece.end}")
    for token in piece.tokens:
        yield (*label, str(token.id), quote(token.text), token.bytes.hex(" "))
        label = ("", "")


def merge_rows(piece: Piece) -> Iterator[tuple[str, ...]]:
    """A piece's merges as rows under MERGE_COLUMNS, in the order in which they were applied."""
    label = quote(piece.text)
    for merge in piece.merges:
        parts = (merge.left, merge.right, merge.left + merge.right)
        yield (label, f"{merge.rank:,}", *(quote(show_bytes(part)) for part in parts))
        label = ""


def piece_document(piece: Piece) -> dict[str, Any]:
    """A piece as JSON; bytes in hexadecimal."""
    merges = [{"rank": m.rank, "left": m.left.hex(" "), "right": m.right.hex(" ")} for m in piece.merges]
    tokens = [{"id": token.id, "bytes": token.bytes.hex(" "), "text": token.text} for token in piece.tokens]
    return {"text": piece.text, "start": piece.start, "end": piece.end, "merges": merges, "tokens": tokens}


def show_bytes(data: bytes) -> str:
    """Bytes for people: text where they are text, `<0xE4>` where they are part of a character.

    >>> show_bytes("中".encode()), show_bytes("中".encode()[:2])
    ('中', '<0xE4><0xB8>')
    """
    text = data.decode("utf-8", errors="surrogateescape")
    return "".join(f"<0x{ord(c) - 0xDC00:02X}>" if 0xDC80 <= ord(c) <= 0xDCFF else c for c in text)


def quote(text: str) -> str:
    """Text between quotation marks, with visible spaces and line ends."""
    return json.dumps(text, ensure_ascii=False)
