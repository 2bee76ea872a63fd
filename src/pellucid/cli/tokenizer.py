"""`pellucid tokenizer`: train, show and extend a tokenizer, encode text, decode ids, explain how a text was split.

Results go to standard output and remarks to standard error, so that `encode` may be piped into `decode`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import click

from pellucid.cli.common import (
    PLACE,
    Terminal,
    encoding_option,
    errors_option,
    field_option,
    json_option,
    newlines_option,
    print_json,
    read_standard_input,
    set_option,
    typed,
)
from pellucid.cli.language import tell
from pellucid.cli.screen import say
from pellucid.cli.tokenizer_add import add
from pellucid.cli.tokenizer_compare import compare, read_sample, report_sample
from pellucid.cli.tokenizer_convert import convert
from pellucid.cli.tokenizer_effect import effect_document, print_effect
from pellucid.cli.tokenizer_explain import STANDARD_INPUT, explain_text
from pellucid.cli.tokenizer_file import check_free, open_tokenizer, where_argument, write_tokenizer
from pellucid.cli.tokenizer_show import show
from pellucid.cli.watch import Watch
from pellucid.counts import counted
from pellucid.errors import InputError
from pellucid.events import Event
from pellucid.settings import Layer, parse_assignments, resolve
from pellucid.tokens.compare import measure
from pellucid.tokens.settings import TokenizerSettings, check_taken


@click.group()
def command() -> None:
    """Train, use and explain tokenizers.

    DIR is a tokenizer.json or a tokenizer in another form (see convert), a directory that holds one, or a run.
    """


command.add_command(explain_text)
command.add_command(show)
command.add_command(compare)
command.add_command(add)
command.add_command(convert)


@command.command()
@click.argument("text")
@click.option("--out", type=PLACE, required=True, help="the directory to write the tokenizer into")
@click.option(
    "--kind",
    type=click.Choice(["auto", "bpe", "unigram", "wordpiece", "word", "char"]),
    help="byte-level BPE, Unigram, WordPiece, whole words, or characters [default: auto, which takes BPE]",
)
@click.option("--vocab-size", type=int, help="tokens in the vocabulary [default: chosen by the size of the text]")
@click.option(
    "--specials",
    type=click.Choice(["standard", "none"]),
    help="standard reserves pad, mask, cls, sep, turn marks and 16 spare ids; none has bos and eos [default: standard]",
)
@field_option
@errors_option
@encoding_option
@newlines_option
@set_option(
    "pellucid.tokens.settings:TokenizerSettings",
    "any other setting of the kind: pattern, sample_bytes, max_han, max_token_bytes, lowercase",
)
@click.option("--measure-on", metavar="TEXT", help="measure the result on this text [default: a sample of TEXT itself]")
@click.option("--force", is_flag=True, help="replace a tokenizer that is already there")
@json_option
def train(
    text: str,
    out: Path,
    kind: str | None,
    vocab_size: int | None,
    specials: str | None,
    field: str,
    errors: str,
    encoding: str | None,
    newlines: str | None,
    assignments: tuple[str, ...],
    measure_on: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """Train a tokenizer on TEXT.

    TEXT is a .txt, a folder, .jsonl, .jsonl.gz, .parquet, or - for standard input. What is written is what Hugging Face's AutoTokenizer loads.
    """
    from pellucid.data.source import open_source
    from pellucid.tokens.choose import train_tokenizer
    from pellucid.tokens.train import check_vocab_size

    named = {"kind": kind, "vocab_size": vocab_size, "specials": specials}
    given = {name: value for name, value in named.items() if value is not None}
    layer = Layer("command line", {**parse_assignments(assignments), **given})
    if vocab_size is not None:  # what is too few depends on the kind
        without = {name: value for name, value in layer.values.items() if name != "vocab_size"}
        chosen = resolve(TokenizerSettings, Layer("command line", without)).settings
        check_vocab_size(chosen.kind, vocab_size, chosen.specials)
    settings = resolve(TokenizerSettings, layer).settings
    check_taken(settings.kind, layer.values)
    check_free(out, force=force)
    reading = {"field": field, "errors": errors, "encoding": encoding or "auto", "newlines": newlines or "lf"}
    source = open_source(text, **reading, recorder=Terminal())  # type: ignore[arg-type]
    # Another text to measure on is read before the training, so that what is wrong with it is said before the work.
    other = open_source(measure_on, **reading, recorder=Terminal()) if measure_on else None  # type: ignore[arg-type]
    sample = None if other is None else read_sample(other)
    texts: Iterator[str] = (document.text for document in source.documents())
    with nullcontext(Terminal()) if as_json else Watch(quiet=False) as recorder:
        tokenizer = train_tokenizer(texts, source.survey.num_bytes, settings, recorder=recorder)
    write_tokenizer(tokenizer, out)
    sample = sample or read_sample(source)
    report_sample(sample, seen=other is None)
    measured = measure(tokenizer, sample)
    sizes = {"kind": tokenizer.kind, "vocab_size": tokenizer.vocab_size, "sha256": tokenizer.sha256}
    if as_json:
        print_json(
            {
                "out": str(out),
                **sizes,
                "losses": tokenizer.losses,
                "specials": dict(tokenizer.specials),
                "effect": effect_document(tokenizer, sample, measured),
            }
        )
    else:
        tell(
            f"{tokenizer.kind}, {tokenizer.vocab_size:,} tokens, from {counted(source.survey.num_bytes, 'byte')} of text: {out}"
        )
        for loss in tokenizer.losses:
            tell(f"not exact: {loss}")
        print_effect(tokenizer, sample, measured)
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
        spans = {"offsets": encoding.offsets, "byte_offsets": encoding.byte_offsets}
        print_json({"ids": encoding.ids, "tokens": tokens, **spans})
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
    given = read_standard_input() if ids in ((), (STANDARD_INPUT,)) else " ".join(ids)
    numbers = [read_id(word) for word in given.split()]
    text = tokenizer.decode(numbers, show_special=show_special)
    if as_json:
        tokens = [tokenizer.token_text(token_id) for token_id in numbers]
        print_json({"text": text, "tokens": tokens, "bytes": tokenizer.decode_bytes(numbers).hex(" ")})
    else:
        say(text, nl=sys.stdout.isatty())  # in a pipe the text and nothing else


def read_id(word: str) -> int:
    """Read one id as a person writes it."""
    if not (word.isascii() and word.removeprefix("-").isdigit()):
        raise InputError("ids are whole numbers with spaces between", found=repr(word), hint="for example: 72 105")
    return int(word)
