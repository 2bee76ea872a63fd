"""The answer of `pellucid generate` on its way to a person, a pipe, a program or a trace."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pellucid.cli.common import Terminal, print_json, typed
from pellucid.cli.constrain import build_stages
from pellucid.cli.language import tell, words
from pellucid.cli.screen import Flow, open_console, say

if TYPE_CHECKING:  # they load torch, which help does without
    from pellucid.api import LanguageModel
    from pellucid.engine.account import PromptToken
    from pellucid.engine.constraints.settings import ConstraintSettings
    from pellucid.engine.runners.runner import Runner
    from pellucid.engine.sampling.settings import SamplingSettings
    from pellucid.engine.sampling.stage import Stage
    from pellucid.engine.step import Step
    from pellucid.engine.transcript import Transcript


@dataclass(frozen=True, kw_only=True)
class View:
    """What is wanted beside the text."""

    as_json: bool
    num_choices: int
    explain: bool
    prompt_logprobs: bool
    save_trace: Path | None
    lookup: int | None


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is to be continued and how; the seed is known."""

    prompt: str
    prompt_ids: list[int]
    settings: SamplingSettings
    form: ConstraintSettings | None


@dataclass(frozen=True, kw_only=True)
class Job:
    """A request with all that carries it out."""

    lm: LanguageModel
    request: Request
    runner: Runner
    stages: tuple[Stage, ...]

    def steps(self, *, explain: bool) -> Iterator[Step]:
        """The tokens, as they are chosen."""
        from pellucid.engine.generate import generate

        ids, settings = self.request.prompt_ids, self.request.settings
        return generate(
            self.runner, self.lm.tokenizer, ids, settings, extra=self.stages, explain=explain, recorder=Terminal()
        )

    def report(self) -> None:
        """What guessing brought, where there was any: said when the text's own line has ended."""
        from pellucid.engine.speculative import SpeculativeRunner, speculated

        if isinstance(self.runner, SpeculativeRunner):
            Terminal().record(speculated(self.runner.stats))


def prepare(lm: LanguageModel, request: Request, *, draft: Runner | None, lookup: int | None) -> Job:
    """Choose who reads the model, build the stages, and print both."""
    from pellucid.engine.generate import build_sampler, check_ids
    from pellucid.engine.settings import SpeculationSettings
    from pellucid.engine.speculative import build_speculative

    runner, settings = lm.runner, request.settings
    check_ids(lm.config, request.prompt_ids)
    stages = build_stages(request.form, lm.tokenizer, Terminal())
    if draft is not None or lookup is not None:
        guess = SpeculationSettings() if lookup is None else SpeculationSettings(max_tokens=lookup)
        runner = build_speculative(runner, lm.tokenizer, settings, guess, draft=draft, extra=stages)
    chain = build_sampler(runner, lm.tokenizer, settings, extra=stages).chain
    exact = "" if runner.exact else words(" (not exact)", err=True)
    tell(f"· {chain}; runner: {runner.name}{exact}", err=True)
    return Job(lm=lm, request=request, runner=runner, stages=stages)


def answer(job: Job, view: View, trace: Transcript | None) -> None:
    """Generate, show, compare with a trace or write one."""
    from pellucid.engine.account import score_prompt
    from pellucid.engine.transcript import follow

    scored = score_prompt(job.lm.runner, job.lm.tokenizer, job.request.prompt_ids) if view.prompt_logprobs else []
    if scored and not view.as_json:
        _print_scores(scored)
    if view.num_choices > 1:
        _answer_often(job, view, scored)
        return
    steps = job.steps(explain=view.explain or view.save_trace is not None)
    if trace is not None:
        steps = follow(trace, steps, runner=job.runner.name)
    try:
        done = list(steps) if view.as_json else _stream(steps, job.request.prompt, view.explain)
    finally:
        job.report()
    if view.as_json:
        _print_completion(job, done, view.explain, scored)
    if trace is not None:
        tell(f"· equal to the trace in all {len(done)} tokens", err=True)
    if view.save_trace is not None:
        _save(job, done, view.save_trace)


def _stream(steps: Iterator[Step], prompt: str, explain: bool) -> list[Step]:
    """Print the text as it comes, or the account of each token, then how it ended and how fast it went."""
    from pellucid.cli.explain import print_account

    console, watched, flow = open_console(), sys.stdout.isatty(), Flow()
    if watched and not explain:
        click.secho(flow.push(prompt), bold=True, nl=False)
    done, started, first = [], time.perf_counter(), 0.0
    for step in steps:
        done.append(step)
        first = first or time.perf_counter() - started
        if explain and step.account:
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


def _answer_often(job: Job, view: View, scored: Sequence[PromptToken]) -> None:
    """Several texts from one seed, one after the other in the order of their numbers."""
    from pellucid.engine.choices import complete_choices

    request = job.request
    completions = complete_choices(
        job.runner,
        job.lm.tokenizer,
        request.prompt_ids,
        request.settings,
        num_choices=view.num_choices,
        extra=job.stages,
        recorder=Terminal(),
    )
    if view.as_json:
        choices = [dataclasses.asdict(completion) for completion in completions]
        print_json({"choices": choices, **_circumstances(job, scored)})
        return
    for number, completion in enumerate(completions):
        say(f"[{number}] {completion.text}")
    reasons = ", ".join(words(completion.finish_reason, err=True) for completion in completions)
    tell(f"· ended: {reasons}", err=True)


def _print_completion(job: Job, steps: Sequence[Step], explain: bool, scored: Sequence[PromptToken]) -> None:
    from pellucid.engine.generate import collect

    completion = collect(steps, seed=job.request.settings.seed, num_prompt_tokens=len(job.request.prompt_ids))
    accounts = [step.account.to_dict() for step in steps if step.account] if explain else []
    document = {**dataclasses.asdict(completion), **_circumstances(job, scored)}
    print_json({**document, "accounts": accounts} if accounts else document)


def _circumstances(job: Job, scored: Sequence[PromptToken]) -> dict[str, Any]:
    """What belongs to every answer in JSON: all settings, who read the model, and the prompt's scores if asked for."""
    from pellucid.settings import to_dict

    form = {"constraint": to_dict(job.request.form)} if job.request.form else {}
    prompt = {"prompt_logprobs": [dataclasses.asdict(token) for token in scored]} if scored else {}
    runner = {"runner": job.runner.name, "exact": job.runner.exact}
    return {**runner, "settings": to_dict(job.request.settings), **form, **prompt}


def _print_scores(scored: Sequence[PromptToken]) -> None:
    from pellucid.cli.explain import print_prompt

    print_prompt(open_console(), scored)


def _save(job: Job, steps: Sequence[Step], path: Path) -> None:
    from pellucid.engine.transcript import build_transcript, hash_model, save_transcript

    request = job.request
    trace = build_transcript(
        steps,
        model_sha256=hash_model(job.lm.model),
        tokenizer=job.lm.tokenizer,
        prompt_ids=request.prompt_ids,
        settings=request.settings,
        constraint=request.form,
    )
    save_transcript(trace, path)
    again = typed("pellucid", "generate", "RUN", "--replay", path)
    tell(f"· trace in {path}: {again} makes the same text again", err=True)
