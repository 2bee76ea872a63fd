"""`pellucid generate`: continue a prompt, streaming.

The answer goes to standard output, everything about it to standard error, so that a pipe receives the text alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pellucid.cli.answer import Request, View, answer, prepare
from pellucid.cli.common import (
    Common,
    Terminal,
    as_trained,
    common_options,
    read_standard_input,
    set_option,
    tell_opening,
    warn_of_escapes,
)
from pellucid.cli.constrain import constraint_options
from pellucid.cli.explain import plain
from pellucid.cli.language import tell, words
from pellucid.errors import SamplingError, SettingsError

if TYPE_CHECKING:  # they load torch, which help does without
    from pellucid.api import LanguageModel
    from pellucid.engine.constraints.settings import ConstraintSettings
    from pellucid.engine.sampling.settings import SamplingSettings
    from pellucid.engine.settings import EngineSettings
    from pellucid.engine.transcript import Transcript
    from pellucid.settings import Resolved

FILE = click.Path(dir_okay=False, path_type=Path)
SAMPLING = ("temperature", "top_k", "top_p", "min_p", "max_new_tokens", "stop")
FORM = ("regex", "json_schema", "choices", "grammar")
ENGINE = ("weights", "kernels", "exact")


@click.command()
@click.argument("run")
@click.argument("prompt", default="")
@click.option("--temperature", type=float, help="divides the logits; 0 always takes the likeliest token [default: 1]")
@click.option("--top-k", type=int, help="keep only this many of the likeliest tokens [default: all]")
@click.option("--top-p", type=float, help="keep the fewest tokens whose probabilities reach this sum [default: 1, all]")
@click.option("--min-p", type=float, help="keep tokens this many times as likely as the likeliest [default: 0, all]")
@click.option("--max-new-tokens", type=int, help="stop after this many tokens [default: at <eos> or a full context]")
@click.option("--stop", multiple=True, metavar="TEXT", help="a text that ends the answer (may be given several times)")
@click.option(
    "-n", "--num-choices", type=click.IntRange(1, 256), default=1, metavar="N", help="so many texts from one seed"
)
@constraint_options
@click.option("--explain", is_flag=True, help="show for each token the shapes, the candidates, each stage and the draw")
@click.option("--prompt-logprobs", is_flag=True, help="show how likely the model found each token of the prompt")
@click.option("--save-trace", type=FILE, metavar="FILE", help="write down all that led to the text, to be replayed")
@click.option("--replay", type=FILE, metavar="FILE", help="generate the text of a trace again and compare each token")
@click.option(
    "--generation-config",
    type=click.Choice(["show", "apply"]),
    default="show",
    show_default=True,
    help="what to do with the model's generation_config.json",
)
@click.option("--draft", metavar="RUN", help="a smaller model that guesses ahead: the same text, sooner")
@click.option("--lookup", type=click.IntRange(1), metavar="N", help="guess up to N tokens from what came before")
@click.option("--weights", type=click.Choice(["auto", "fp32", "bf16", "int8", "int4"]), help="their number format here")
@click.option("--kernels", type=click.Choice(["auto", "on", "off"]), help="compiled loops on a CPU [default: auto]")
@click.option("--exact/--no-exact", default=None, help="the same bits whatever else runs [default: exact]")
@set_option(
    "pellucid.engine.sampling.settings:SamplingSettings",
    "any other knob of the sampler, for example --set repetition_penalty=1.1",
)
@common_options
def command(
    common: Common, run: str, prompt: str, assignments: tuple[str, ...], replay: Path | None, **options: Any
) -> None:
    """Continue PROMPT with the model in RUN: a run, a checkpoint, a Hugging Face directory or a .gguf file.

    Without PROMPT the model starts a text of its own; "-" reads the prompt from standard input. Nothing is filtered
    unless asked for: the default samples from the model's own distribution. Every other knob of the sampler is a
    --set NAME=VALUE, for example --set repetition_penalty=1.1 or --set order=llama.cpp.
    """
    knobs, form, flags = ({name: options.pop(name) for name in names} for names in (SAMPLING, FORM, ENGINE))
    apply, draft = options.pop("generation_config") == "apply", options.pop("draft")
    view, given = View(as_json=common.as_json, **options), _given(common, assignments, knobs)
    _check(view, bool(draft))
    warn_of_escapes(_resolve(given).settings.stop)  # and a knob out of range is refused before a model is loaded
    tell_opening(run, quiet=common.as_json)
    from pellucid.api import load  # these load torch, which takes a moment
    from pellucid.cli.constrain import read_constraint
    from pellucid.engine.transcript import load_transcript
    from pellucid.model.device import use_threads
    from pellucid.planning.machine import inspect_machine

    asked, trace = read_constraint(**form), load_transcript(replay) if replay else None
    if trace is not None:
        _check_replay(view, [*given, *(name for name in FORM if form[name]), *(["prompt"] if prompt else [])], apply)
    use_threads(common.threads, inspect_machine())
    engine = _engine_settings(flags)
    lm = load(run, device=common.device, engine=engine, recorder=Terminal())
    guesser = load(draft, device=common.device, engine=engine, recorder=Terminal()).runner if draft else None
    if trace is not None:
        request = _from_trace(lm, trace)
    else:
        request = _settle(lm, read_standard_input() if prompt == "-" else prompt, given, asked, apply)
    answer(prepare(lm, request, draft=guesser, lookup=view.lookup), view, trace)


def _given(common: Common, assignments: tuple[str, ...], knobs: dict[str, Any]) -> dict[str, Any]:
    """What the command line says about sampling."""
    from pellucid.settings import parse_assignments

    named = {name: value for name, value in {**knobs, "seed": common.seed}.items() if value not in (None, ())}
    return {**named, **parse_assignments(assignments)}


def _check(view: View, draft: bool) -> None:
    """Refuse flags that contradict each other."""
    if view.num_choices > 1 and (view.explain or view.save_trace):
        raise SettingsError(
            "the account of several texts at once is not kept",
            found=f"--num-choices {view.num_choices} with --explain or --save-trace",
            hint="ask for one text",
        )
    if draft and view.lookup:
        raise SettingsError("a guess comes from a draft model or from the text so far", found="--draft and --lookup")


def _check_replay(view: View, given: Sequence[str], apply: bool) -> None:
    if given or apply or view.num_choices > 1 or view.save_trace:
        raise SettingsError(
            "a replay takes its prompt and its settings from the trace",
            found=", ".join(given) or "--num-choices, --save-trace or --generation-config apply",
            hint="give --replay FILE without them",
        )


def _engine_settings(flags: dict[str, Any]) -> EngineSettings:
    from pellucid.engine.settings import EngineSettings
    from pellucid.settings import Layer, resolve

    given = {name: value for name, value in flags.items() if value is not None}
    return resolve(EngineSettings, Layer("command line", given)).settings


def _resolve(given: dict[str, Any], suggested: dict[str, Any] | None = None) -> Resolved[SamplingSettings]:
    from pellucid.engine.sampling.settings import SamplingSettings
    from pellucid.settings import Layer, resolve

    return resolve(SamplingSettings, Layer("generation_config.json", suggested or {}), Layer("command line", given))


def _settle(lm: LanguageModel, prompt: str, given: dict[str, Any], form: ConstraintSettings, apply: bool) -> Request:
    """The request of the command line, each setting that is not a default printed with its source."""
    from pellucid.engine.generate import settle_seed

    resolved = _resolve(given, _suggestions(lm, apply))
    chosen = [row for row in resolved.rows() if row[2] != "default"]
    rows = [f"{key}={plain(value)} ({words(source, err=True)})" for key, value, source in chosen]
    rest = words("all else at its default" if rows else "every setting at its default", err=True)
    click.echo("· " + ", ".join([*rows, rest]), err=True)
    settings = settle_seed(resolved.settings, Terminal())
    prompt = as_trained(prompt, lm.checkpoint.newlines)
    ids = lm.tokenizer.encode_prompt(prompt)
    return Request(prompt=prompt, prompt_ids=ids, settings=settings, form=form if form.kind else None)


def _suggestions(lm: LanguageModel, apply: bool) -> dict[str, Any]:
    """What the model's directory suggests, said aloud; {} unless it is to be applied."""
    from pellucid.engine.sampling.generation_config import from_generation_config
    from pellucid.engine.sampling.settings import SamplingSettings
    from pellucid.settings import shallow

    try:
        suggested, unknown = from_generation_config(lm.checkpoint.generation)
    except SamplingError as error:
        if apply:
            raise
        fault = words(error.what, err=True, section="errors")
        tell(f"! generation_config.json suggests what cannot be: {fault}, {error.found}", err=True)
        return {}
    defaults = shallow(SamplingSettings())
    changes = {name: value for name, value in shallow(suggested).items() if value != defaults[name]}
    if lm.tokenizer.end_ids.issuperset(changes.get("stop_ids", ())):
        changes.pop("stop_ids", None)  # they end a text anyway
    if apply and unknown:
        tell(f"! generation_config.json: no counterpart here, not applied: {', '.join(unknown)}", err=True)
    shown = ", ".join(f"{name}={plain(value)}" for name, value in changes.items() if name != "order")
    if shown and not apply:
        tell(f"· generation_config.json suggests {shown} (shown, not applied)", err=True)
    return changes if apply and shown else {}


def _from_trace(lm: LanguageModel, trace: Transcript) -> Request:
    """The request that a trace was made from. Raises RequestError when the model is another one."""
    from pellucid.engine.transcript import check_origin, hash_model

    check_origin(trace, model_sha256=hash_model(lm.model), tokenizer=lm.tokenizer)
    return Request(
        prompt=lm.tokenizer.decode(trace.prompt_ids),
        prompt_ids=list(trace.prompt_ids),
        settings=trace.sampling_settings,
        form=trace.constraint_settings,
    )
