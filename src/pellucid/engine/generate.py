"""Tokens out: the cached, streaming loop.

    read the prompt; then, until it ends: logits -> stages -> draw -> token -> read that token

The cache keeps the keys and values of all positions read, so that each new token costs one position. `simple` is the
same loop without a cache or a stream; a test holds the two equal. One sequence at a time: batches of requests are the
scheduler's business.

Axes: V vocabulary.
"""

from __future__ import annotations

import dataclasses
import secrets
import time
from collections.abc import Iterator, Sequence

from pellucid.counts import counted
from pellucid.engine.account import build_account
from pellucid.engine.runners.runner import Runner
from pellucid.engine.sampling.sampler import Sampler
from pellucid.engine.sampling.settings import SamplingSettings
from pellucid.engine.sampling.stage import Stage
from pellucid.engine.step import Completion, Step
from pellucid.engine.stop import StopCondition
from pellucid.engine.window import Reader, Window
from pellucid.errors import ContextError, RequestError
from pellucid.events import NULL, Event, Recorder
from pellucid.planning.config import ModelConfig
from pellucid.tokens.tokenizer import Tokenizer

PLAIN = SamplingSettings()


def generate(
    runner: Runner,
    tokenizer: Tokenizer,
    prompt_ids: Sequence[int],
    settings: SamplingSettings = PLAIN,
    *,
    extra: Sequence[Stage] = (),
    explain: bool = False,
    recorder: Recorder = NULL,
) -> Iterator[Step]:
    """Continue a prompt, handing out each token as it is chosen; `explain` adds to each the account of its choice.

    `extra` stages, such as a constraint, act on the logits before those of the settings.

    Raises ContextError when the prompt leaves no room, RequestError when it is empty or names an unknown id, or when
    nothing would ever end the text; all at the call, not at the first step.
    """
    config = runner.config
    window = build_window(config, prompt_ids, settings)
    check_stop_ids(config, settings.stop_ids)
    room = None if window else config.context_length - len(prompt_ids)
    most = min(n for n in (room, settings.max_new_tokens) if n is not None)
    sampler = build_sampler(runner, tokenizer, settle_seed(settings, recorder), extra=extra)
    ending = StopCondition(
        tokenizer, settings.stop, max_new_tokens=settings.max_new_tokens, room=room, stop_ids=settings.stop_ids
    )
    reader = Reader(runner, prompt_ids, max_length=len(prompt_ids) + most, window=window, recorder=recorder)
    return _steps(reader, sampler, ending, tokenizer, explain)


def complete(
    runner: Runner,
    tokenizer: Tokenizer,
    prompt_ids: Sequence[int],
    settings: SamplingSettings = PLAIN,
    *,
    recorder: Recorder = NULL,
) -> Completion:
    """Continue a prompt to its end."""
    settled = settle_seed(settings, recorder)
    steps = list(generate(runner, tokenizer, prompt_ids, settled, recorder=recorder))
    return collect(steps, seed=settled.seed, num_prompt_tokens=len(prompt_ids))


def collect(steps: Sequence[Step], *, seed: int | None, num_prompt_tokens: int) -> Completion:
    """All steps of one generation as its completion."""
    reason = steps[-1].finish_reason
    assert reason is not None, "the generation has not ended"
    return Completion(
        text="".join(step.text for step in steps),
        ids=tuple(step.id for step in steps),
        logprobs=tuple(step.logprob for step in steps),
        finish_reason=reason,
        seed=seed,
        num_prompt_tokens=num_prompt_tokens,
    )


def build_sampler(
    runner: Runner, tokenizer: Tokenizer, settings: SamplingSettings, *, extra: Sequence[Stage] = (), choice: int = 0
) -> Sampler:
    """The stages of one generation, the seed of its settings known; its text may end at `end_ids` and at `stop_ids`."""
    end_ids = tokenizer.end_ids | set(settings.stop_ids)
    num_logits, num_known = runner.config.vocab_size, tokenizer.vocab_size
    return Sampler(settings, num_logits=num_logits, num_known=num_known, end_ids=end_ids, choice=choice, extra=extra)


def settle_seed(settings: SamplingSettings, recorder: Recorder = NULL) -> SamplingSettings:
    """Settings whose seed is known: drawn and reported when it was left open, none when nothing will be drawn."""
    if settings.greedy:
        return dataclasses.replace(settings, seed=None)
    if settings.seed is not None:
        return settings
    seed = secrets.randbelow(2**32)
    recorder.record(
        Event(
            name="engine.seed_drawn",
            message=f"seed {seed} (drawn; give it again for the same text)",
            data={"seed": seed},
        )
    )
    return dataclasses.replace(settings, seed=seed)


def build_window(config: ModelConfig, prompt_ids: Sequence[int], settings: SamplingSettings) -> Window | None:
    """What slides over the text when the context is full; None when the generation ends there. Checks the prompt."""
    if settings.on_full == "stop":
        check_prompt(config, prompt_ids)
        return None
    check_ids(config, prompt_ids)
    if settings.max_new_tokens is None:
        raise RequestError(
            "a text that slides through the context may never end",
            found="on_full=slide without max_new_tokens",
            hint="say how many tokens are wanted at most: max_new_tokens",
        )
    return Window(context_length=config.context_length, keep_first=settings.keep_first)


def check_prompt(config: ModelConfig, prompt_ids: Sequence[int]) -> None:
    """Refuse a prompt that this model cannot continue."""
    check_ids(config, prompt_ids)
    if len(prompt_ids) >= config.context_length:
        raise ContextError(
            "the prompt leaves no room for a new token",
            found=counted(len(prompt_ids), "token"),
            where=f"context_length={config.context_length}",
            hint=f"shorten the prompt to {config.context_length - 1} tokens or fewer, or let the window slide over it "
            "(on_full=slide)",
        )


def check_stop_ids(config: ModelConfig, stop_ids: Sequence[int]) -> None:
    """Refuse stop tokens that this model can never write."""
    unknown = [token_id for token_id in stop_ids if not 0 <= token_id < config.vocab_size]
    if unknown:
        raise RequestError(
            "stop_ids names a token that the model does not have",
            found=str(unknown[0]),
            where=f"vocab_size={config.vocab_size}",
        )


def check_ids(config: ModelConfig, prompt_ids: Sequence[int]) -> None:
    """Refuse ids that this model cannot read, whatever their number."""
    if not config.causal:
        raise RequestError("this model sees the whole row at once: it cannot continue a text", found="causal=False")
    if not len(prompt_ids):
        raise RequestError(
            "the prompt is empty and the tokenizer has no <bos> to start from", hint="give at least one token"
        )
    if not 0 <= min(prompt_ids) <= max(prompt_ids) < config.vocab_size:
        raise RequestError(
            "the prompt names a token that the model does not have",
            found=f"ids from {min(prompt_ids)} to {max(prompt_ids)}",
            where=f"vocab_size={config.vocab_size}",
            hint="encode the prompt with the model's own tokenizer",
        )


def _steps(
    reader: Reader, sampler: Sampler, ending: StopCondition, tokenizer: Tokenizer, explain: bool
) -> Iterator[Step]:
    reason = None
    while reason is None:
        logits_V, reading = reader.read()
        position, started = len(reader.ids), time.perf_counter()
        choice = sampler.choose(logits_V, reader.ids, reader.num_prompt, keep_rows=explain)
        choose_seconds = time.perf_counter() - started
        text, reason = ending.push(choice.id)
        account = None
        if explain:
            account = build_account(
                choice,
                sampler.stages,
                tokenizer,
                config=reader.runner.config,
                position=position,
                reading=reading,
                choose_seconds=choose_seconds,
            )
        yield Step(
            text=text,
            id=choice.id,
            position=position,
            logprob=choice.logprob,
            finish_reason=reason,
            account=account,
        )
        if reason is None:
            reader.extend(choice.id)
