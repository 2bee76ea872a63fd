"""`pellucid generate`: continue a prompt, streaming.

The answer goes to standard output, everything about it to standard error, so that a pipe receives the text alone.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from pellucid.cli.common import Common, Terminal, common_options, print_json

if TYPE_CHECKING:  # they load torch, which help does without
    from rich.console import Console

    from pellucid.api import LanguageModel
    from pellucid.engine.account import Account
    from pellucid.engine.settings import SamplingSettings
    from pellucid.engine.step import Step

# The knobs that a generation_config.json may turn, and their values that leave the model's own distribution as it is.
CHANGES_NOTHING: dict[str, tuple[Any, ...]] = {
    "do_sample": (True,),
    "temperature": (None, 1),
    "top_k": (None, 0),
    "top_p": (None, 1),
    "min_p": (None, 0),
    "repetition_penalty": (None, 1),
    "max_new_tokens": (None,),
}


@click.command()
@click.argument("run")
@click.argument("prompt", default="")
@click.option("--temperature", type=float, help="divides the logits; 0 always takes the likeliest token [default: 1]")
@click.option("--top-k", type=int, help="keep only this many of the likeliest tokens [default: all]")
@click.option("--top-p", type=float, help="keep the fewest tokens whose probabilities reach this sum [default: 1, all]")
@click.option("--max-new-tokens", type=int, help="stop after this many tokens [default: at <eos> or a full context]")
@click.option("--stop", multiple=True, metavar="TEXT", help="a text that ends the answer (may be given several times)")
@click.option("--explain", is_flag=True, help="show for each token the shapes, the candidates, each stage and the draw")
@common_options
def command(common: Common, run: str, prompt: str, stop: tuple[str, ...], explain: bool, **knobs: Any) -> None:
    """Continue PROMPT with the model in RUN: a run, a checkpoint or a Hugging Face directory.

    Without PROMPT the model starts a text of its own; "-" reads the prompt from standard input. Nothing is filtered
    unless asked for: the default samples from the model's own distribution.
    """
    from pellucid.api import load
    from pellucid.engine.generate import encode_prompt, generate, settle_seed
    from pellucid.planning.machine import inspect_machine
    from pellucid.training.device import use_threads

    settings = _settings(common, stop=stop or None, **knobs)
    text = sys.stdin.read() if prompt == "-" else prompt
    use_threads(common.threads, inspect_machine())
    lm = load(run, device=common.device, recorder=Terminal())
    _show_generation_config(lm)
    settings = settle_seed(settings, Terminal())
    prompt_ids = encode_prompt(lm.tokenizer, text)
    steps = generate(lm.runner, lm.tokenizer, prompt_ids, settings, explain=explain, recorder=Terminal())
    if common.as_json:
        _print_completion(list(steps), settings, len(prompt_ids))
    else:
        _stream(steps, text, explain)


def _settings(common: Common, **knobs: Any) -> SamplingSettings:
    """The sampling settings, each value and its source printed."""
    from pellucid.engine.settings import SamplingSettings
    from pellucid.settings import Layer, resolve

    given = {name: value for name, value in {**knobs, "seed": common.seed}.items() if value is not None}
    resolved = resolve(SamplingSettings, Layer("command line", given))
    rows = (f"{key}={_plain(value)} ({source})" for key, value, source in resolved.rows())
    click.echo("· " + ", ".join(rows), err=True)
    return resolved.settings


def _plain(value: Any) -> str:
    """A setting as a person would type it."""
    if value is None or value == ():
        return "none"
    return json.dumps(value, ensure_ascii=False)


def _show_generation_config(lm: LanguageModel) -> None:
    """Say what the directory suggests; a plain generate samples from the model's own distribution all the same."""
    found = lm.checkpoint.generation
    suggested = {name: found[name] for name, off in CHANGES_NOTHING.items() if name in found and found[name] not in off}
    if suggested:
        text = ", ".join(f"{name}={_plain(value)}" for name, value in suggested.items())
        click.echo(f"· generation_config.json suggests {text} (shown, not applied)", err=True)


def _stream(steps: Any, prompt: str, explain: bool) -> None:
    """Print the text as it comes, or the account of each token, then how it ended and how fast it went."""
    from rich.console import Console

    console, show = Console(highlight=False), _harmless if sys.stdout.isatty() else str
    if sys.stdout.isatty() and not explain:
        click.secho(show(prompt), bold=True, nl=False)
    texts, started, first = [], time.perf_counter(), 0.0
    for step in steps:
        texts.append(step.text)
        first = first or time.perf_counter() - started
        if explain:
            _print_account(console, step.account)
        else:
            click.echo(show(step.text), nl=False)
            sys.stdout.flush()
    seconds = time.perf_counter() - started
    click.echo(show("".join(texts)) if explain else "")
    later = f"{(len(texts) - 1) / (seconds - first):.1f} tokens/s after the first" if len(texts) > 1 else "one token"
    click.echo(f"· ended: {step.finish_reason}; {len(texts)} tokens, the first after {first:.2f} s, {later}", err=True)


def _harmless(text: str) -> str:
    """Text without control characters: a model that writes bytes may write a terminal's commands."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text)


def _print_completion(steps: list[Step], settings: SamplingSettings, num_prompt_tokens: int) -> None:
    from pellucid.engine.generate import collect
    from pellucid.settings import to_dict

    completion = collect(steps, seed=settings.seed, num_prompt_tokens=num_prompt_tokens)
    document = {**dataclasses.asdict(completion), "settings": to_dict(settings)}
    accounts = [dataclasses.asdict(step.account) for step in steps if step.account]
    print_json({**document, "accounts": accounts} if accounts else document)


def _print_account(console: Console, account: Account) -> None:
    """One token: shapes from ids to logits, what each stage did, the candidates, the draw, the choice."""
    from rich.table import Table
    from rich.text import Text

    console.rule(f"token {account.position}", align="left")
    console.print(Text(" → ".join(f"{name} {'×'.join(map(str, shape))}" for name, shape in account.shapes)))
    stages = Table("stage", "tokens kept", "probability kept", "entropy, bits", box=None)
    for stage in account.stages:
        stages.add_row(stage.name, f"{stage.num_kept:,}", f"{stage.mass_kept:.4f}", f"{stage.entropy_bits:.3f}")
    candidates = Table("id", "token", *(stage.name for stage in account.stages), box=None)
    for candidate in account.candidates:
        shown = (f"{p:.4f}" if p else "-" for p in candidate.probabilities)
        style = "bold" if candidate.id == account.id else None
        candidates.add_row(str(candidate.id), Text(_plain(candidate.text)), *shown, style=style)
    console.print(stages)
    console.print(candidates)
    start, end = account.segment
    drawn = "the likeliest, no draw" if account.u is None else f"u = {account.u:.6f} in [{start:.6f}, {end:.6f})"
    console.print(Text(f"{drawn} → {account.id} {_plain(account.text)}"))
