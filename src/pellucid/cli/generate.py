"""`pellucid generate`: continue a prompt, and print each token as it comes.

The text goes to standard output and everything about it to standard error, so that a pipe receives the text alone.
"""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pellucid.cli.answers import write_answers
from pellucid.cli.common import (
    Common,
    Terminal,
    as_trained,
    common_options,
    open_model,
    pattern_option,
    print_json,
    read_standard_input,
    seed_option,
    set_option,
    tell_opening,
    typed,
    warn_of_escapes,
)
from pellucid.cli.constrain import constraint_options, read_constraint
from pellucid.cli.explain import plain, print_account, print_prompt
from pellucid.cli.language import aside, listed, tell, words
from pellucid.cli.screen import Flow, open_console, say
from pellucid.counts import counted
from pellucid.errors import SamplingError, SettingsError

if TYPE_CHECKING:  # they load torch, which help does without
    from pellucid.engine.account import PromptToken
    from pellucid.engine.constraints.settings import ConstraintSettings
    from pellucid.engine.generate import Generation
    from pellucid.engine.request import Request
    from pellucid.engine.sampling.settings import SamplingSettings
    from pellucid.engine.step import Step
    from pellucid.engine.transcript import Replayed, Transcript
    from pellucid.language_model import LanguageModel
    from pellucid.settings import Resolved

FILE = click.Path(dir_okay=False, path_type=Path)
SAMPLING = ("temperature", "top_k", "top_p", "min_p", "max_new_tokens", "stop")
FORM = ("regex", "json_schema", "choices", "grammar")
ENGINE = ("weights", "kernels")


@dataclass(frozen=True, kw_only=True)
class View:
    """The output that was asked for beside the text."""

    as_json: bool
    num_choices: int
    explain: bool
    prompt_logprobs: bool
    save_trace: Path | None
    lookup: int | None


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """Everything read from the disk: the model, its draft model, the settings that its directory suggests."""

    lm: LanguageModel
    draft: LanguageModel | None
    suggested: Mapping[str, object]


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
@click.option(
    "--prompts", type=FILE, metavar="FILE", help='answer each line of a .jsonl file: {"prompt": …}; needs --out'
)
@click.option("--out", type=FILE, metavar="FILE", help="write the answers to --prompts here, or go on with them")
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
@set_option(
    "pellucid.engine.sampling.settings:SamplingSettings",
    "any other knob of the sampler, for example --set repetition_penalty=1.1",
)
@pattern_option
@seed_option
@common_options
def command(
    common: Common,
    run: str,
    prompt: str,
    assignments: tuple[str, ...],
    replay: Path | None,
    prompts: Path | None,
    out: Path | None,
    **options: Any,
) -> None:
    """Continue PROMPT with the model in RUN: a run, a checkpoint, a Hugging Face directory, a .gguf file, a .bin of llama2.c.

    Without PROMPT the model starts a text of its own; "-" reads the prompt from standard input. A model with an encoder
    reads PROMPT as its source, and writes what it has learned to write about it, such as a translation. Nothing is filtered
    unless asked for: the default samples from the model's own distribution. Every other knob of the sampler is a
    --set NAME=VALUE, for example --set repetition_penalty=1.1 or --set order=llama.cpp.
    """
    knobs, form, flags = ({name: options.pop(name) for name in names} for names in (SAMPLING, FORM, ENGINE))
    apply, draft = options.pop("generation_config") == "apply", options.pop("draft")
    view, given = View(as_json=common.as_json, **options), _given(common, assignments, knobs)
    _check(view, bool(draft))
    _check_file(view, prompt, replay, prompts, out)
    resolved = _resolve(given)  # a setting out of range is refused before a model is loaded
    warn_of_escapes(resolved.settings.stop)
    tell_opening(run, quiet=common.as_json)
    constraint = read_constraint(**form) if any(value not in (None, ()) for value in form.values()) else None
    transcript = None
    if replay is not None:
        _check_replay(view, [*given, *(name for name in FORM if form[name]), *(["prompt"] if prompt else [])], apply)
        transcript = _load_transcript(replay)
    opened = _open(run, draft, common, flags, apply=apply)
    if prompts is not None and out is not None:
        resolved = _resolve(given, opened.suggested) if opened.suggested else resolved
        tell_settings(resolved)
        asked = _request(opened, (), None, resolved, constraint, view)
        write_answers(opened.lm, prompts, out, asked, resolved, as_json=common.as_json)
        return
    steps: Generation | Replayed
    if transcript is None:
        resolved = _resolve(given, opened.suggested) if opened.suggested else resolved
        steps = generation = opened.lm.start(_settle(opened, prompt, resolved, constraint, view), recorder=Terminal())
    else:
        steps = opened.lm.replay(
            transcript, lookup=view.lookup, draft=opened.draft, explain=view.explain, recorder=Terminal()
        )
        generation = steps.generation
    exact = "" if generation.runner.exact else aside(words("not exact", err=True), err=True)
    tell(f"· {generation.chain}; runner: {generation.runner.name}{exact}", err=True)
    scored = generation.score_prompt() if view.prompt_logprobs else []
    if scored and not view.as_json:
        print_prompt(open_console(), scored)
    if view.num_choices > 1:
        _answer_often(opened.lm, generation, view, scored)
    else:
        _answer(opened.lm, steps, generation, view, scored)


def _given(common: Common, assignments: tuple[str, ...], knobs: dict[str, Any]) -> dict[str, Any]:
    """The sampling settings given on the command line."""
    from pellucid.settings import parse_assignments

    named = {name: value for name, value in {**knobs, "seed": common.seed}.items() if value not in (None, ())}
    return {**named, **parse_assignments(assignments)}


def _check(view: View, draft: bool) -> None:
    """Raise an error for flags that contradict each other."""
    if view.num_choices > 1 and (view.explain or view.save_trace):
        raise SettingsError(
            "the account of several texts at once is not kept",
            found=f"--num-choices {view.num_choices} with --explain or --save-trace",
            hint="ask for one text",
        )
    if draft and view.lookup:
        raise SettingsError("a guess comes from a draft model or from the text so far", found="--draft and --lookup")


def _check_file(view: View, prompt: str, replay: Path | None, prompts: Path | None, out: Path | None) -> None:
    """Raise an error for a file of prompts without a file of answers, and for what belongs to a single text."""
    if (prompts is None) != (out is None):
        raise SettingsError(
            "a file of prompts needs a file for the answers, and the other way round",
            found="--prompts" if out is None else "--out",
            hint="--prompts questions.jsonl --out answers.jsonl",
        )
    single = {
        "PROMPT": prompt,
        "--explain": view.explain,
        "--save-trace": view.save_trace,
        "--replay": replay,
        "--prompt-logprobs": view.prompt_logprobs,
    }
    given = [name for name, value in single.items() if value]
    if prompts is not None and given:
        raise SettingsError("this belongs to a single text", found=", ".join(given), hint="leave it out with --prompts")


def _check_replay(view: View, given: Sequence[str], apply: bool) -> None:
    if given or apply or view.num_choices > 1 or view.save_trace:
        raise SettingsError(
            "a replay takes its prompt and its settings from the trace",
            found=", ".join(given) or "--num-choices, --save-trace or --generation-config apply",
            hint="give --replay FILE without them",
        )


def _resolve(given: dict[str, Any], suggested: Mapping[str, object] | None = None) -> Resolved[SamplingSettings]:
    from pellucid.engine.sampling.settings import SamplingSettings
    from pellucid.settings import Layer, resolve

    return resolve(SamplingSettings, Layer("generation_config.json", suggested or {}), Layer("command line", given))


def _open(run: str, draft: str | None, common: Common, flags: dict[str, Any], *, apply: bool) -> Loaded:
    """Open the models; report the settings that the first one's directory suggests."""
    from pellucid.engine.request import check_writes
    from pellucid.engine.settings import EngineSettings
    from pellucid.settings import Layer, resolve

    given = {name: value for name, value in flags.items() if value is not None}
    engine = resolve(EngineSettings, Layer("command line", given)).settings
    lm = open_model(run, common, engine)
    check_writes(lm.config)  # before more is said about how it would write
    guesser = None if draft is None else open_model(draft, dataclasses.replace(common, pattern=None), engine)
    return Loaded(lm=lm, draft=guesser, suggested=_suggestions(lm, apply))


def _suggestions(lm: LanguageModel, apply: bool) -> Mapping[str, object]:
    """Report the settings that the model's directory suggests; return them if they are to be applied, else {}."""
    from pellucid.engine.sampling.generation_config import suggest

    try:
        changes, unknown = suggest(lm.checkpoint.generation, lm.tokenizer.end_ids)
    except SamplingError as error:
        if apply:
            raise
        fault = words(error.what, err=True, section="errors")
        tell(f"! generation_config.json suggests what cannot be: {fault}, {error.found}", err=True)
        return {}
    if apply and unknown:
        tell(f"! generation_config.json: no counterpart here, not applied: {', '.join(unknown)}", err=True)
    shown = ", ".join(f"{name}={plain(value)}" for name, value in changes.items() if name != "order")
    if shown and not apply:
        tell(f"· generation_config.json suggests {shown} (shown, not applied)", err=True)
    return changes if apply else {}


def _settle(
    opened: Loaded, prompt: str, resolved: Resolved[SamplingSettings], constraint: ConstraintSettings | None, view: View
) -> Request:
    """The request of the command line; each setting that is not a default is printed with its source."""
    from pellucid.engine.generate import sides
    from pellucid.language_model import check_source

    tell_settings(resolved)
    text = as_trained(read_standard_input() if prompt == "-" else prompt, opened.lm.checkpoint)
    lm = opened.lm
    check_source(lm.config, text)
    ids = lm.tokenizer.encode_prompt(text, whole=lm.config.encoder is not None)
    prompt_ids, source_ids = sides(lm.config, lm.tokenizer, ids)
    return _request(opened, prompt_ids, source_ids, resolved, constraint, view)


def _request(
    opened: Loaded,
    prompt_ids: Sequence[int],
    source_ids: Sequence[int] | None,
    resolved: Resolved[SamplingSettings],
    constraint: ConstraintSettings | None,
    view: View,
) -> Request:
    """A prompt with all that the command line asks for."""
    from pellucid.engine.request import Request
    from pellucid.engine.settings import SpeculationSettings

    return Request(
        prompt_ids=prompt_ids,
        source_ids=source_ids,
        sampling=resolved.settings,
        constraint=constraint,
        num_choices=view.num_choices,
        speculation=None if view.lookup is None else SpeculationSettings(max_tokens=view.lookup),
        draft=None if opened.draft is None else opened.draft.runner,
        explain=view.explain or view.save_trace is not None,
    )


def tell_settings(resolved: Resolved[SamplingSettings]) -> None:
    """Print each setting that is not a default, and where it is from."""
    chosen = [row for row in resolved.rows() if row[2] != "default"]
    rows = [f"{key}={plain(value)}{aside(words(source, err=True), err=True)}" for key, value, source in chosen]
    rest = words("all else at its default" if rows else "every setting at its default", err=True)
    click.echo("· " + listed([*rows, rest], err=True), err=True)


def _load_transcript(path: Path) -> Transcript:
    from pellucid.engine.transcript import load_transcript  # it loads torch

    return load_transcript(path)


def _answer(
    lm: LanguageModel, steps: Generation | Replayed, generation: Generation, view: View, scored: Sequence[PromptToken]
) -> None:
    """Generate and print the text; `steps` are compared with a trace in a replay. Write a trace if asked."""
    try:
        done = list(steps) if view.as_json else _stream(steps, generation, explain=view.explain)
    finally:
        generation.report()  # when the text's own line has ended
    if view.as_json:
        document = {**dataclasses.asdict(generation.collect(done)), **_circumstances(generation, scored)}
        accounts = [step.account.to_dict() for step in done if step.account] if view.explain else []
        print_json({**document, "accounts": accounts} if accounts else document)
    if steps is not generation:
        tell(f"· equal to the trace: {counted(len(done), 'token')}", err=True)
    if view.save_trace is not None:
        _save(lm, generation, done, view.save_trace)


def _stream(steps: Iterable[Step], generation: Generation, *, explain: bool) -> list[Step]:
    """Print the text as it comes, or the account of each token, then how it ended and how fast it went."""
    watched, flow = sys.stdout.isatty(), Flow()
    console = open_console() if explain else None
    if watched and not explain and generation.request.source_ids is None:
        click.secho(flow.push(generation.tokenizer.decode(generation.request.prompt_ids)), bold=True, nl=False)
    done, started, first = [], time.perf_counter(), 0.0
    for step in steps:
        done.append(step)
        first = first or time.perf_counter() - started
        if console is not None and step.account:
            print_account(console, step.account)
        else:
            click.echo(flow.push(step.text) if watched else step.text, nl=False)
            sys.stdout.flush()
    seconds = time.perf_counter() - started
    say("".join(step.text for step in done) if explain else flow.finish())
    reason = words(done[-1].finish_reason or "", err=True)
    if len(done) == 1:
        tell(f"· ended: {reason}; one token, after {first:.2f} s", err=True)
        return done
    pace = f"{(len(done) - 1) / (seconds - first):.1f}"
    tell(f"· ended: {reason}; {len(done)} tokens, the first after {first:.2f} s, then {pace} tokens/s", err=True)
    return done


def _answer_often(lm: LanguageModel, generation: Generation, view: View, scored: Sequence[PromptToken]) -> None:
    """Generate several texts from one seed, one after the other in the order of their numbers."""
    completions = lm.finish(generation)
    if view.as_json:
        choices = [dataclasses.asdict(completion) for completion in completions]
        print_json({"choices": choices, **_circumstances(generation, scored)})
        return
    for number, completion in enumerate(completions):
        say(f"[{number}] {completion.text}")
    reasons = ", ".join(words(completion.finish_reason, err=True) for completion in completions)
    tell(f"· ended: {reasons}", err=True)


def _circumstances(generation: Generation, scored: Sequence[PromptToken]) -> dict[str, Any]:
    """The JSON fields of every answer: all settings, the runner, and the prompt's scores if asked for."""
    from pellucid.settings import to_dict

    request, runner = generation.request, generation.runner
    form = {"constraint": to_dict(request.constraint)} if request.constraint else {}
    prompt = {"prompt_logprobs": [dataclasses.asdict(token) for token in scored]} if scored else {}
    return {"runner": runner.name, "exact": runner.exact, "settings": to_dict(request.sampling), **form, **prompt}


def _save(lm: LanguageModel, generation: Generation, steps: Sequence[Step], path: Path) -> None:
    lm.save_trace(path, steps, generation.request)
    again = typed("pellucid", "generate", "RUN", "--replay", path)
    tell(f"· trace in {path}: {again} makes the same text again", err=True)
