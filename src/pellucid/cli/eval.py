"""`pellucid eval`: loss, perplexity and bits per byte of a text under a model, and its least likely tokens.

A model that does not predict the next token has the loss of its own objective, and neither of the others.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import click

from pellucid.cli.common import (
    Common,
    Terminal,
    common_options,
    encoding_option,
    errors_option,
    newlines_option,
    pattern_option,
    print_json,
    tell_opening,
)
from pellucid.cli.language import tell
from pellucid.cli.tables import Side, print_table
from pellucid.cli.token_words import tell_marks, token_cell
from pellucid.cli.watch import watch_items
from pellucid.errors import SettingsError
from pellucid.events import Event
from pellucid.tokens.tokenizer import Tokenizer
from pellucid.untrusted import Table

if TYPE_CHECKING:  # they load torch, which help does without
    from pellucid.data.document import Document
    from pellucid.data.source import Source
    from pellucid.evaluate.likelihood import Likelihood, MeasuredLoss, ScoredToken
    from pellucid.language_model import LanguageModel

    Surprise = tuple[str, ScoredToken]  # the text before a token, and the token


@click.command()
@click.argument("run")
@click.argument("texts", nargs=-1, required=True, metavar="TEXT…")
@click.option(
    "--field",
    help="the field of .jsonl and .parquet rows that holds the text [default: text; of pairs, as in training]",
)
@click.option(
    "--source",
    help="of pairs: the field, or the number of the column, of the source [default: as in training]; --field is then the target's",
)
@errors_option
@encoding_option
@newlines_option
@click.option(
    "--surprising",
    type=click.IntRange(min=0),
    default=0,
    help="also show this many tokens of each text's first document that surprised the model most",
)
@pattern_option
@common_options
def command(
    common: Common,
    run: str,
    texts: tuple[str, ...],
    source: str | None,
    surprising: int,
    **reading: Any,
) -> None:
    """Loss, perplexity and bits per byte of each TEXT (a file, a folder, "-") under the model in RUN.

    Text is read in windows of the model's context, one after the other, each document between <bos> and <eos>. Only
    bits per byte may be compared between models with different tokenizers. Line ends are read as those of the text that
    the model was trained on were. A model that was trained by another objective, such as masked tokens, is measured by
    its own loss, which is not the likelihood of the text; one that was trained on pairs of texts needs both columns.
    """
    tell_opening(run, quiet=common.as_json)
    from pellucid.api import load
    from pellucid.data.objectives.settings import ROWS
    from pellucid.data.open_set import open_as_set
    from pellucid.data.settings import DataSettings
    from pellucid.evaluate.likelihood import measure_text, unwatched
    from pellucid.evaluate.objective import objective_of
    from pellucid.evaluate.score import check_scores
    from pellucid.model.device import use_threads
    from pellucid.planning.machine import inspect_machine

    use_threads(common.threads, inspect_machine())
    lm = load(run, device=common.device, pattern=common.pattern, recorder=Terminal())
    check_scores(lm.config)
    objective = objective_of(lm.checkpoint, lm.tokenizer)
    columns = _columns(lm, objective.name, source, reading.pop("field"))
    kind = ROWS.get(objective.name, "stream")
    given = {name: value for name, value in reading.items() if value is not None}
    settings = DataSettings(rows=kind, **columns, **{"newlines": lm.checkpoint.newlines, **given})
    results = []
    for text in texts:
        opened = open_as_set(text, settings, needs_weights=False, recorder=Terminal())
        documents, watch = (opened.documents(), unwatched) if common.as_json else (_documents(opened), _progress)
        most = _most_surprising(lm, opened, surprising)
        measured = measure_text(lm.model, lm.tokenizer, documents, objective=objective, kind=kind, watch=watch)
        _warn(text, measured, lm.config.vocab_size)
        results.append((text, measured, most))
    if common.as_json:
        more = {"vocab_size": lm.config.vocab_size, "objective": objective.name}
        rows = [
            {"text": text, **measured.to_dict(), **more, **_surprise_dict(most)} for text, measured, most in results
        ]
        print_json(rows)
    else:
        _print(results, objective.name, lm.tokenizer)


def _columns(lm: LanguageModel, objective: str, source: str | None, field: str | None) -> dict[str, Any]:
    """The settings of the data that name the columns: as they are given, and of pairs else as they were in training.

    Raises SettingsError for a source where the objective learns from single texts, and for pairs of unknown columns.
    """
    if objective != "seq2seq":
        if source is not None:
            raise SettingsError(
                "this model was trained on single texts, which have no source",
                found=f"--source {source}, objective={objective}",
                hint="leave --source out",
            )
        return {} if field is None else {"field": field}
    from pellucid.store.directory import INFO

    where = str(lm.checkpoint.directory / INFO)
    learned = Table(Table(lm.checkpoint.info, where).table("data", {}), where, "data")
    found = {"source": source or learned.word("data.source", ""), "field": field or learned.word("data.field", "")}
    if not all(found.values()):
        raise SettingsError(
            "this model was trained on pairs of texts: name the columns of both",
            found="no --source" if source is None else "no --field",
            hint="for example --source 1 --field 2",
        )
    if source is None or field is None:
        message = f"the columns of the pairs, as in training: source {found['source']}, target {found['field']}"
        Terminal().record(Event(name="cli.columns_of_the_run", message=message, data=dict(found)))
    return found


def _most_surprising(lm: LanguageModel, source: Source, count: int, num_before: int = 12) -> list[Surprise]:
    """The least likely tokens of the first document, each with the text before it, least likely first."""
    from pellucid.evaluate.likelihood import token_logprobs

    if not count:
        return []
    tokens = token_logprobs(lm.model, lm.tokenizer, next(source.documents()).text)
    order = sorted(range(len(tokens)), key=lambda i: tokens[i].logprob)[:count]
    before = {i: [token.id for token in tokens[max(0, i - num_before) : i]] for i in order}
    return [(lm.tokenizer.decode(before[i]), tokens[i]) for i in order]


def _progress(batches: Iterable[Any], num_batches: int) -> Iterable[Any]:
    """Pass the batches on, with progress on standard error."""
    return watch_items(batches, num_batches, "reading")


def _documents(source: Source) -> Iterator[Document]:
    """The documents, with progress while they are tokenised."""
    total = source.survey.num_characters
    return watch_items(source.documents(), total, "tokens", size=lambda document: len(document.text))


def _warn(text: str, measured: MeasuredLoss, vocab_size: int) -> None:
    """Warn when a uniform guess over the vocabulary would have had a lower loss."""
    if measured.loss <= math.log(vocab_size):
        return
    from pellucid.evaluate.likelihood import Likelihood

    if isinstance(measured, Likelihood):
        message = (
            f"{text}: a perplexity of {measured.perplexity:,.5g} is worse than guessing among all {vocab_size:,} tokens "
            "of the vocabulary alike: the model has learned other text than this, or nothing"
        )
    else:
        message = (
            f"{text}: a loss of {measured.loss:.4f} is worse than guessing among all {vocab_size:,} tokens "
            "of the vocabulary alike: the model has learned other text than this, or nothing"
        )
    data = {"text": text, "loss": measured.loss, "vocab_size": vocab_size}
    Terminal().record(Event(name="evaluate.worse_than_guessing", message=message, data=data, level="warning"))


def _surprise_dict(rows: list[Surprise]) -> dict[str, Any]:
    described = [
        {"before": before, "token": token.text, "id": token.id, "logprob": token.logprob, "rank": token.rank}
        for before, token in rows
    ]
    return {"surprising": described} if described else {}


def _print(results: list[tuple[str, MeasuredLoss, list[Surprise]]], objective: str, tokenizer: Tokenizer) -> None:
    from pellucid.evaluate.likelihood import Likelihood

    likelihoods = [(text, measured) for text, measured, _ in results if isinstance(measured, Likelihood)]
    others = [(text, measured) for text, measured, _ in results if not isinstance(measured, Likelihood)]
    if likelihoods:
        figures = ("loss, nats/token", "perplexity", "bits/byte", "tokens", "bytes")
        columns: dict[str, Side] = {"text": "left", **dict.fromkeys(figures, "right")}
        print_table(columns, [(text, *_cells(measured)) for text, measured in likelihoods])
    if others:
        tell(f"loss of the objective {objective}, which is not the likelihood of a text:")
        own: dict[str, Side] = {"text": "left", "loss, nats/token": "right", "predicted tokens": "right"}
        print_table(own, [(text, *_own_cells(measured)) for text, measured in others], names=[*others[0][1].means])
    for text, _, rows in results:
        if rows:
            tell(f"most surprising in {text}:")
            surprises: dict[str, Side] = {"bits": "right", "rank": "right", "token": "left", "after": "left"}
            cells = [_surprise_cells(before, token, tokenizer) for before, token in rows]
            print_table(surprises, cells)
            tell_marks(row[2] for row in cells)


def _cells(measured: Likelihood) -> tuple[str, ...]:
    """The figures of a text as table cells."""
    figures = (f"{measured.loss:.4f}", f"{measured.perplexity:,.5g}", f"{measured.bits_per_byte:.4f}")
    return (*figures, f"{measured.num_tokens:,}", f"{measured.num_bytes:,}")


def _own_cells(measured: MeasuredLoss) -> tuple[str, ...]:
    """The figures of an objective that gives no likelihood, and its other measures."""
    measures = (f"{value:.4f}" for value in measured.means.values())
    return (f"{measured.loss:.4f}", f"{measured.num_tokens:,}", *measures)


def _surprise_cells(before: str, token: ScoredToken, tokenizer: Tokenizer) -> tuple[str, ...]:
    cell = token_cell(tokenizer, token.id)
    return f"{-token.logprob / math.log(2):.1f}", str(token.rank), cell, repr(before)
