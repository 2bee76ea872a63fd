"""`pellucid score`: how likely a model finds a text, token by token, or which of several texts it finds the likelier."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from pellucid.cli.common import (
    Common,
    Terminal,
    as_trained,
    common_options,
    open_model,
    pattern_option,
    print_json,
    read_standard_input,
    tell_opening,
)
from pellucid.cli.language import tell
from pellucid.cli.tables import Side, print_table
from pellucid.cli.token_words import tell_marks, token_cell
from pellucid.counts import counted
from pellucid.events import Without
from pellucid.tokens.read_roles import NO_END

if TYPE_CHECKING:  # it loads torch, which help does without
    from pellucid.evaluate.score import Score
    from pellucid.tokens.tokenizer import Tokenizer


@click.command()
@click.argument("run")
@click.argument("texts", nargs=-1, required=True, metavar="TEXT…")
@click.option(
    "--source", metavar="TEXT", help="what the encoder reads, for a model that has one beside its decoder (T5)"
)
@pattern_option
@common_options
def command(common: Common, run: str, texts: tuple[str, ...], source: str | None) -> None:
    """How likely the model in RUN finds each TEXT: the log-probability of every token, in nats; "-" reads one from standard input, without its last line end.

    A model that continues text tells each token after those before it, an encoder beside a decoder (T5) those of a target
    after its --source. A masked model (BERT) tells each token given all the others: that ranks texts, and is no
    likelihood. `eval` measures whole files.
    """
    tell_opening(run, quiet=common.as_json)
    lm = open_model(run, common, recorder=Without(Terminal(), NO_END))
    read = [read_standard_input().removesuffix("\n") if text == "-" else text for text in texts]
    given = [as_trained(text, lm.checkpoint) for text in read]
    scores = lm.score(given, source=source)
    if common.as_json:
        print_json([_to_dict(text, score) for text, score in zip(given, scores, strict=True)])
        return
    if len(scores) == 1:
        _print_tokens(scores[0], lm.tokenizer)
    else:
        columns: dict[str, Side] = {"nats": "right", "tokens": "right", "nats per token": "right", "text": "left"}
        likeliest = max(range(len(scores)), key=lambda number: scores[number].total)
        rows = [
            (f"{score.total:.3f}", f"{len(score.ids):,}", f"{score.loss:.3f}", text)
            for text, score in zip(given, scores, strict=True)
        ]
        print_table(columns, rows, strong={likeliest})
        tell(f"· the likeliest as a whole: {given[likeliest]!r}", err=True)
    if not scores[0].is_likelihood:
        tell("· each token is told given all the others: this ranks texts, and is no likelihood of a text", err=True)


def _print_tokens(score: Score, tokenizer: Tokenizer) -> None:
    """Every token of one text, and the sum."""
    columns: dict[str, Side] = {"token": "left", "log-probability": "right"}
    rows = [
        (token_cell(tokenizer, token_id), f"{value:.3f}")
        for token_id, value in zip(score.ids, score.logprobs, strict=True)
    ]
    print_table(columns, rows)
    tell_marks(text for text, _ in rows)
    tokens, bits = counted(len(score.ids), "token"), _bits_per_byte(score)
    tell(f"· {score.total:.3f} nats over {tokens}, {score.loss:.3f} nats per token", err=True)
    if bits is not None:
        tell(f"· {bits:.3f} bits per byte", err=True)


def _bits_per_byte(score: Score) -> float | None:
    """None for a score that is no likelihood of a text, or whose tokens spell no bytes."""
    return score.bits_per_byte if score.is_likelihood and score.num_bytes else None


def _to_dict(text: str, score: Score) -> dict[str, Any]:
    return {
        "text": text,
        "total": score.total,
        "loss": score.loss,
        "is_likelihood": score.is_likelihood,
        "bits_per_byte": _bits_per_byte(score),
        "tokens": [
            {"id": token_id, "logprob": value} for token_id, value in zip(score.ids, score.logprobs, strict=True)
        ],
    }
