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
from pellucid.cli.language import tell
from pellucid.cli.screen import say
from pellucid.cli.tables import Side, print_table

if TYPE_CHECKING:  # it loads torch, which help does without
    from pellucid.engine.fill import Filled


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
    _print_candidates(filled, one_by_one=one_by_one)


def _print_candidates(filled: Filled, *, one_by_one: bool) -> None:
    """The candidates of each mask, in the order of the text."""
    columns: dict[str, Side] = {"mask": "right", "token": "left", "probability": "right"}
    rows = [
        (str(number), repr(candidate.text), f"{candidate.probability:.4f}")
        for number, blank in enumerate(filled.blanks, start=1)
        for candidate in blank.candidates
    ]
    print_table(columns, rows)
    if one_by_one and len(filled.blanks) > 1:
        order = sorted(range(len(filled.blanks)), key=lambda number: filled.blanks[number].turn)
        tell(f"· filled in this order: mask {', '.join(str(number + 1) for number in order)}", err=True)
