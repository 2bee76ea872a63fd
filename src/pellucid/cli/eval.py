"""`pellucid eval`: how likely a model finds a text, and which tokens surprised it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click

from pellucid.cli.common import (
    Common,
    Terminal,
    common_options,
    encoding_option,
    is_terminal,
    newlines_option,
    print_json,
)
from pellucid.cli.screen import cell, open_console

if TYPE_CHECKING:  # they load torch, which help does without
    from pellucid.api import LanguageModel
    from pellucid.data.source import Source
    from pellucid.evaluate.likelihood import Likelihood, ScoredToken

    Surprise = tuple[str, ScoredToken]  # the text before a token, and the token


@click.command()
@click.argument("run")
@click.argument("texts", nargs=-1, required=True, metavar="TEXT…")
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
@click.option(
    "--surprising",
    type=click.IntRange(min=0),
    default=0,
    help="also show this many tokens of each text's first document that surprised the model most",
)
@common_options
def command(
    common: Common, run: str, texts: tuple[str, ...], surprising: int, newlines: str | None, **reading: str | None
) -> None:
    """Loss, perplexity and bits per byte of each TEXT (a file, a folder, "-") under the model in RUN.

    Text is read in windows of the model's context, one after the other, each document between <bos> and <eos>. Only
    bits per byte may be compared between models with different tokenizers. Line ends are read as those of the text that
    the model was trained on were.
    """
    from pellucid.api import load
    from pellucid.data.source import open_source
    from pellucid.evaluate.likelihood import measure_text
    from pellucid.planning.machine import inspect_machine
    from pellucid.training.device import use_threads

    use_threads(common.threads, inspect_machine())
    lm = load(run, device=common.device, recorder=Terminal())
    given = {name: value for name, value in reading.items() if value is not None}
    results = []
    for text in texts:
        source = open_source(text, **given, newlines=newlines or lm.checkpoint.newlines, recorder=Terminal())  # type: ignore[arg-type]
        likelihood = measure_text(lm.model, lm.tokenizer, source.documents(), watch=_progress)
        results.append((text, likelihood, _most_surprising(lm, source, surprising)))
    if common.as_json:
        print_json([{"text": text, **measured.to_dict(), **_surprise_dict(rows)} for text, measured, rows in results])
    else:
        _print(results)


def _most_surprising(lm: LanguageModel, source: Source, count: int, num_before: int = 12) -> list[Surprise]:
    """The least likely tokens of the first document, each with the text before it, most surprising first."""
    from pellucid.evaluate.likelihood import token_logprobs

    if not count:
        return []
    tokens = token_logprobs(lm.model, lm.tokenizer, next(source.documents()).text)
    order = sorted(range(len(tokens)), key=lambda i: tokens[i].logprob)[:count]
    before = {i: [token.id for token in tokens[max(0, i - num_before) : i]] for i in order}
    return [(lm.tokenizer.decode(before[i]), tokens[i]) for i in order]


def _progress(batches: Iterable[Any], num_batches: int) -> Iterable[Any]:
    """The batches, behind a bar on standard error when a person watches."""
    from rich.progress import track

    console = open_console(stderr=True)
    return track(batches, "reading", total=num_batches, console=console, transient=True, disable=not is_terminal())


def _surprise_dict(rows: list[Surprise]) -> dict[str, Any]:
    described = [
        {"before": before, "token": token.text, "id": token.id, "logprob": token.logprob, "rank": token.rank}
        for before, token in rows
    ]
    return {"surprising": described} if described else {}


def _print(results: list[tuple[str, Likelihood, list[Surprise]]]) -> None:
    from rich.table import Table

    console = open_console()
    table = Table("text", box=None)
    for name in ("loss, nats/token", "perplexity", "bits/byte", "tokens", "bytes"):
        table.add_column(name, justify="right")
    for text, measured, _ in results:
        figures = (f"{measured.loss:.4f}", f"{measured.perplexity:,.5g}", f"{measured.bits_per_byte:.4f}")
        table.add_row(cell(text), *figures, f"{measured.num_tokens:,}", f"{measured.num_bytes:,}")
    console.print(table)
    for text, _, rows in results:
        if rows:
            surprises = Table("bits", "rank", "token", "after", title=cell(f"most surprising in {text}"), box=None)
            for before, token in rows:
                bits = f"{-token.logprob / math.log(2):.1f}"
                surprises.add_row(bits, str(token.rank), cell(repr(token.text)), cell(repr(before)))
            console.print(surprises)
