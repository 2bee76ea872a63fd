"""`pellucid fill`: what a masked model puts where a text hides words, with the candidates for each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pellucid.cli.common import (
    Common,
    as_trained,
    common_options,
    open_reader,
    pattern_option,
    print_json,
    read_standard_input,
    tell_opening,
)
from pellucid.cli.language import tell, words
from pellucid.cli.screen import say
from pellucid.cli.tables import Side, print_table
from pellucid.cli.token_words import tell_marks, token_cell
from pellucid.tokens.labels import label_of_bytes
from pellucid.tokens.tokenizer import Tokenizer

if TYPE_CHECKING:  # they load torch, which help does without
    from pellucid.engine.fill import BlankToken, Filled, FilledSpan


@click.command()
@click.argument("run")
@click.argument("text")
@click.option("--top", type=click.IntRange(1, 1000), help="so many candidates for each mask [default: 5]")
@click.option(
    "--one-by-one", is_flag=True, help="fill several masks in turn, the surest first, and ask again for the rest"
)
@click.option(
    "--mask", metavar="TEXT", help="how a mask is written in TEXT [default: [MASK], <mask>, the tokenizer's own]"
)
@pattern_option
@common_options
def command(common: Common, run: str, text: str, top: int | None, one_by_one: bool, mask: str | None) -> None:
    """Fill the masks of TEXT with the model in RUN: one that was trained to (BERT, T5, XLNet, or --set objective=masked).

    Write [MASK] where a word is hidden: pellucid fill RUN "The [MASK] is in the box." "-" reads the text from standard
    input. Probabilities are the model's own, among all its tokens. Several masks are filled together, each as if the
    others stayed hidden, or one by one. An encoder beside a decoder (T5, --set objective=spans) writes one filling for each, of any
    length.
    """
    tell_opening(run, quiet=common.as_json)
    from pellucid.engine.fill import to_dict

    lm = open_reader(run, common)
    given = as_trained(read_standard_input() if text == "-" else text, lm.checkpoint)
    filled = lm.fill(given, top=top, one_by_one=one_by_one, mask=mask)
    if common.as_json:
        print_json(to_dict(filled))
        return
    say(filled.text)
    _print_candidates(filled, lm.tokenizer, one_by_one=one_by_one)


def _print_candidates(filled: Filled, tokenizer: Tokenizer, *, one_by_one: bool) -> None:
    """The candidates of each mask, in the order of the text."""
    columns: dict[str, Side] = {"mask": "right", "token": "left", "probability": "right"}
    rows = [
        (str(number), _cell(candidate, tokenizer), f"{candidate.probability:.4f}")
        for number, blank in enumerate(filled.blanks, start=1)
        for candidate in blank.candidates
    ]
    if rows:
        print_table(columns, rows)
    tell_marks(text for _, text, _ in rows)
    if left := [str(number) for number, blank in enumerate(filled.blanks, start=1) if not blank.candidates]:
        tell(
            f"! nothing was written for mask {', '.join(left)}, which stays: the model has not learned to fill it",
            err=True,
        )
    if one_by_one and len(filled.blanks) > 1:
        order = sorted(range(len(filled.blanks)), key=lambda number: filled.blanks[number].turn)
        tell(f"· filled in this order: mask {', '.join(str(number + 1) for number in order)}", err=True)


def _cell(candidate: BlankToken | FilledSpan, tokenizer: Tokenizer) -> str:
    """A candidate as a table shows it: one token, or the text of as many as a decoder wrote."""
    token_id = getattr(candidate, "id", None)
    if token_id is not None:
        return token_cell(tokenizer, token_id)
    return label_of_bytes(candidate.text.encode()) or f"({words('no token')})"
