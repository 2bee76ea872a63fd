"""`pellucid train TEXT --out RUN`: train a model on a person's own text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.cells import cell_len

from pellucid.cli.common import (
    PLACE,
    Common,
    common_options,
    encoding_option,
    print_json,
    seed_option,
    set_option,
    tell_opening,
    typed,
)
from pellucid.cli.language import tell, words
from pellucid.cli.watch import Watch
from pellucid.errors import SettingsError
from pellucid.settings import Layer, Resolved, load_toml, parse_assignments, put, resolve
from pellucid.training.interrupt import exit_code, is_signal
from pellucid.training.settings import TrainSettings

NAMED = {  # named flags and the settings they stand for
    "steps": "steps",
    "epochs": "epochs",
    "minutes": "minutes",
    "preset": "model.preset",
    "depth": "model.depth",
    "context_length": "model.context_length",
    "tokenizer": "tokenizer.kind",
    "vocab_size": "tokenizer.vocab_size",
    "field": "data.field",
    "source": "data.source",
    "errors": "data.errors",
    "encoding": "data.encoding",
    "tensorboard": "tensorboard",
    "probe": "probe.texts",
}


@click.command()
@click.argument("text", required=False)
@click.option("--out", type=PLACE, required=True, help="the run's directory; a run that is there goes on")
@click.option("--recipe", type=PLACE, help="a TOML file of settings")
@click.option(
    "--from",
    "start_from",
    type=PLACE,
    help="start from the weights of a run or a Hugging Face directory",
)
@click.option(
    "--draft-of",
    type=PLACE,
    help="train a small model that guesses for this run (`pellucid generate --draft`), on the run's own text or on TEXT",
)
@click.option("--steps", type=int, help="updates")
@click.option("--epochs", type=float, help="times through the training text")
@click.option("--minutes", type=float, help="how long, by the clock (default: about 10, less for a small text)")
@click.option("--preset", help="a named shape (see `pellucid plan --list`)")
@click.option("--depth", type=int, help="one dial: blocks; width and heads follow")
@click.option("--context-length", type=int, help="positions the model can hold, in tokens")
@click.option("--tokenizer", type=click.Choice(["auto", "bpe", "char"]), help="kind of tokenizer to train")
@click.option("--vocab-size", type=int, help="tokens in the vocabulary")
@click.option("--field", help="the field of .jsonl and .parquet rows that holds the text (default: text)")
@click.option(
    "--source", help="of pairs: the field, or the number of the column, of the source; --field is then the target's"
)
@click.option(
    "--errors",
    type=click.Choice(["strict", "replace"]),
    help="broken bytes and rows without text: stop, or replace, leave out, and count",
)
@encoding_option
@click.option("--tensorboard", is_flag=True, default=None, help="also write the metrics for TensorBoard")
@click.option(
    "--probe", multiple=True, help="a text to look at while the model trains, for `pellucid lens`; may be repeated"
)
@click.option("--why", is_flag=True, help="print the reason of every figure of the plan")
@click.option("--extend", is_flag=True, help="give a run that is there another length")
@click.option("--verify", is_flag=True, help="read all prepared tokens again and compare them with their hashes")
@click.option("--require-exact", is_flag=True, help="go on only where the bits would equal an uninterrupted run's")
@set_option("pellucid.training.settings:TrainSettings", "any other setting, for example --set optimizer.muon_rate=0.01")
@seed_option
@common_options
def command(
    common: Common,
    text: str | None,
    out: Path,
    recipe: Path | None,
    start_from: Path | None,
    draft_of: Path | None,
    why: bool,
    extend: bool,
    verify: bool,
    require_exact: bool,
    assignments: tuple[str, ...],
    **named: Any,
) -> int:
    """Train a model on TEXT: a .txt, a folder, .jsonl, .jsonl.gz, .parquet, or - for standard input.

    Settings that are left open fit themselves to the text and the machine; the plan is printed (with its reasons:
    --why). The same command goes on with a run that was interrupted.
    """
    if text is None and draft_of is None:
        raise click.UsageError("Missing argument 'TEXT'.")
    resolved = settings_of(common, recipe, assignments, named, draft_of)
    tell_opening(text or str(draft_of), quiet=common.as_json)
    from pellucid.training.recipes.pretrain import Pretraining, pretrain

    task = Pretraining(
        text=text,
        out=out,
        resolved=resolved,
        start_from=start_from,
        draft_of=draft_of,
        extend=extend,
        verify=verify,
        require_exact=require_exact,
    )
    with Watch(quiet=common.as_json, why=why) as watch:
        watch.settings(resolved)
        finished = pretrain(task, recorder=watch)
    report(finished, as_json=common.as_json)
    return exit_code(finished.reason)


def settings_of(
    common: Common,
    recipe: Path | None,
    assignments: tuple[str, ...],
    named: dict[str, Any],
    draft_of: Path | None = None,
) -> Resolved[TrainSettings]:
    """The resolved settings: defaults, those of a draft's model about its text, the recipe's, the command line's."""
    layers = []
    if draft_of is not None:
        from pellucid.training.teacher import how_it_was_read  # it loads torch

        layers.append(how_it_was_read(draft_of))
    if recipe:
        layers.append(load_toml(recipe))
    values = parse_assignments(assignments)
    device = None if common.device == "auto" else common.device
    flags = {"device": device, "threads": common.threads, "seed": common.seed}
    flags |= {NAMED[name]: value for name, value in named.items() if value != ()}  # a repeatable flag that is not given
    for key, value in flags.items():
        if value is not None and key in {assignment.partition("=")[0] for assignment in assignments}:
            raise SettingsError(f"{key} is given twice, as a flag and by --set", hint="leave one of them out")
        if value is not None:
            put(values, key, value)
    return resolve(TrainSettings, *layers, Layer("command line", values))


def report(finished: Any, *, as_json: bool) -> None:
    """Print how the run ended, and what to type next."""
    if as_json:
        print_json(
            {
                "out": str(finished.out),
                "step": finished.step,
                "steps": finished.steps,
                "reason": finished.reason,
                "checkpoint": str(finished.checkpoint) if finished.checkpoint else None,
                "best": str(finished.best.directory) if finished.best else None,
            }
        )
        return
    out = finished.out
    if is_signal(finished.reason):
        tell(f"stopped by {finished.reason} after step {finished.step} of {finished.steps}; everything is saved.")
        tell("repeat the same command to go on.")
        return
    reason = words(finished.reason)
    tell(f"{reason} after step {finished.step} of {finished.steps}; loss curve: {out / 'loss.svg'}")
    if finished.best is not None and finished.best.step != finished.step:
        tell(f"the best model on validation text is that of step {finished.best.step}: it is the one used below.")
    label = words("next:  ")
    for command in next_commands(finished):
        click.echo(label + command)
        label = " " * cell_len(label)


def next_commands(finished: Any) -> list[str]:
    """What a model of this objective is used for: the verbs, ready to be typed."""
    out, opening = finished.out, [finished.opening] if finished.opening else []
    if finished.draft_of is not None:
        return [typed("pellucid", "generate", finished.draft_of, *opening, "--draft", out)]
    fills = finished.objective in ("masked", "next_sentence", "spans")
    first = (
        typed("pellucid", "fill", out, " ".join([*opening, "[MASK]"]))
        if fills
        else typed("pellucid", "generate", out, *opening)
    )
    return [first, _measured(out, finished.columns), typed("pellucid", "lens", out)]


def _measured(out: Path, columns: tuple[str, str] | None) -> str:
    """How to measure another text, or other pairs from the same columns."""
    if columns is None:
        return typed("pellucid", "eval", out, "OTHER.txt")
    source, target = columns
    file = "OTHER.tsv" if source.isdecimal() and target.isdecimal() else "OTHER.jsonl"
    return typed("pellucid", "eval", out, file, "--source", source, "--field", target)
