"""`pellucid search`: beam search for the likeliest continuations of a prompt, best first. Nothing is sampled."""

from __future__ import annotations

import dataclasses
from typing import Any

import click

from pellucid.cli.common import (
    Common,
    as_trained,
    common_options,
    open_model,
    pattern_option,
    print_json,
    read_standard_input,
    set_option,
    tell_opening,
    warn_of_escapes,
)
from pellucid.cli.language import tell
from pellucid.cli.screen import say
from pellucid.cli.watch import Watch
from pellucid.counts import counted


@click.command()
@click.argument("run")
@click.argument("prompt", default="")
@click.option("--num-beams", type=int, help="unfinished texts kept side by side [default: 4]")
@click.option("--num-best", type=int, help="finished texts to show, best first [default: 1]")
@click.option("--max-new-tokens", type=int, help="end a text after this many tokens [default: at <eos>, full context]")
@click.option("--stop", multiple=True, metavar="TEXT", help="a text that ends an answer (may be given several times)")
@click.option("--length-penalty", type=float, help="above 1 favours longer texts, 0 shorter ones [default: 1]")
@click.option("--early-stopping", type=click.Choice(["heuristic", "always", "never"]), help="when the search is over")
@set_option("pellucid.engine.beam:BeamSettings", "any other setting of the search")
@pattern_option
@common_options
def command(common: Common, run: str, prompt: str, assignments: tuple[str, ...], **options: Any) -> None:
    """Search for the likeliest continuations of PROMPT with the model in RUN.

    The likeliest text is often a dull one: to write freely, use `pellucid generate`. "-" reads the prompt from
    standard input. Each text is shown with its score: log-probability (nats) over length to the power of the penalty.
    """
    tell_opening(run, quiet=common.as_json)
    from pellucid.engine.beam import BeamSettings
    from pellucid.settings import Layer, parse_assignments, resolve

    given = {name: value for name, value in options.items() if value not in (None, ())}
    layer = Layer("command line", {**given, **parse_assignments(assignments)})
    settings = dataclasses.asdict(resolve(BeamSettings, layer).settings)
    warn_of_escapes(settings["stop"])
    lm = open_model(run, common)
    text = as_trained(read_standard_input() if prompt == "-" else prompt, lm.checkpoint)
    with Watch(quiet=common.as_json) as watch:
        found = lm.search(text, recorder=watch, **settings)
    if common.as_json:
        print_json([dataclasses.asdict(one) for one in found])
        return
    for one in found:
        ended = f"{counted(len(one.completion.ids), 'token')}, ended: {one.completion.finish_reason}"
        tell(f"· score {one.score:.4f}, log-probability {one.logprob:.3f} nats, {ended}", err=True)
        say(one.completion.text)
