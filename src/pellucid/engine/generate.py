"""Tokens out: the cached, streaming loop.

    read the prompt; then, until it ends: logits -> stages -> draw -> token -> read that token

The cache keeps the keys and values of all positions read, so that each new token costs one position. `simple` is the
same loop without a cache or a stream; a test holds the two equal. One sequence at a time: batches of requests are the
scheduler's business.

Axes: B batch (one) · T new positions · V vocabulary.
"""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Iterator, Sequence

from pellucid.engine.account import build_account
from pellucid.engine.runner import Runner
from pellucid.engine.sampler import Sampler
from pellucid.engine.settings import SamplingSettings
from pellucid.engine.step import Completion, Step
from pellucid.engine.stop import Ending
from pellucid.errors import ContextError, RequestError
from pellucid.events import NULL, Event, Recorder
from pellucid.planning.config import ModelConfig
from pellucid.tokens.tokenizer import Tokenizer

PLAIN = SamplingSettings()


def encode_prompt(tokenizer: Tokenizer, text: str) -> list[int]:
    """The ids a model reads before it writes: <bos> (when the tokenizer has one), then the text."""
    start = [] if tokenizer.bos_id is None else [tokenizer.bos_id]
    return start + list(tokenizer.encode(text).ids)


def generate(
    runner: Runner,
    tokenizer: Tokenizer,
    prompt_ids: Sequence[int],
    settings: SamplingSettings = PLAIN,
    *,
    explain: bool = False,
    recorder: Recorder = NULL,
) -> Iterator[Step]:
    """Continue a prompt, handing out each token as it is chosen.

    Raises ContextError when the prompt leaves no room, RequestError when it is empty or names an unknown id; both at
    the call, not at the first step.
    """
    check_prompt(runner.config, prompt_ids)
    return _steps(runner, tokenizer, list(prompt_ids), settle_seed(settings, recorder), explain)


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


def check_prompt(config: ModelConfig, prompt_ids: Sequence[int]) -> None:
    """Refuse a prompt that this model cannot continue."""
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
    if len(prompt_ids) >= config.context_length:
        raise ContextError(
            "the prompt leaves no room for a new token",
            found=f"{len(prompt_ids)} tokens",
            where=f"context_length={config.context_length}",
            hint=f"shorten the prompt to {config.context_length - 1} tokens or fewer",
        )


def _steps(
    runner: Runner, tokenizer: Tokenizer, ids: list[int], settings: SamplingSettings, explain: bool
) -> Iterator[Step]:
    room = runner.config.context_length - len(ids)
    ending = Ending(tokenizer, settings.stop, max_new_tokens=settings.max_new_tokens, room=room)
    sampler = Sampler(settings, num_logits=runner.config.vocab_size, num_known=tokenizer.vocab_size)
    sequence = runner.start(ids, max_length=len(ids) + min(room, settings.max_new_tokens or room))
    logits_V, reason = runner.prefill(sequence), None
    while reason is None:
        position = len(sequence)
        choice = sampler.choose(logits_V, sequence.ids, sequence.num_prompt)
        text, reason = ending.push(choice.id)
        account = build_account(choice, sampler.stages, tokenizer, position=position) if explain else None
        yield Step(
            text=text,
            id=choice.id,
            position=position,
            logprob=choice.logprob,
            finish_reason=reason,
            account=account,
        )
        if reason is None:
            sequence.extend([choice.id])
            logits_V = runner.decode([sequence])[0]
