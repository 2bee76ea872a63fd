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
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch

from pellucid.engine.account import Shape, build_account, record_shapes
from pellucid.engine.mode import inference
from pellucid.engine.sampler import build_stages, choose, uniform
from pellucid.engine.settings import SamplingSettings
from pellucid.engine.step import Completion, Step
from pellucid.engine.stop import Ending
from pellucid.errors import ContextError, RequestError
from pellucid.events import NULL, Event, Recorder
from pellucid.model.cache import ContiguousCache, KVCache
from pellucid.model.decoder import Decoder
from pellucid.tokens.tokenizer import Tokenizer

PLAIN = SamplingSettings()


def encode_prompt(tokenizer: Tokenizer, text: str) -> list[int]:
    """The ids a model reads before it writes: <bos> (when the tokenizer has one), then the text."""
    start = [] if tokenizer.bos_id is None else [tokenizer.bos_id]
    return start + list(tokenizer.encode(text).ids)


def generate(
    model: Decoder,
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
    check_prompt(model, prompt_ids)
    return _steps(model, tokenizer, list(prompt_ids), settle_seed(settings, recorder), explain)


def complete(
    model: Decoder,
    tokenizer: Tokenizer,
    prompt_ids: Sequence[int],
    settings: SamplingSettings = PLAIN,
    *,
    recorder: Recorder = NULL,
) -> Completion:
    """Continue a prompt to its end."""
    settled = settle_seed(settings, recorder)
    steps = list(generate(model, tokenizer, prompt_ids, settled, recorder=recorder))
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


def check_prompt(model: Decoder, prompt_ids: Sequence[int]) -> None:
    """Refuse a prompt that this model cannot continue."""
    config = model.config
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
    model: Decoder, tokenizer: Tokenizer, ids: list[int], settings: SamplingSettings, explain: bool
) -> Iterator[Step]:
    room = model.config.context_length - len(ids)
    ending = Ending(tokenizer, settings.stop, max_new_tokens=settings.max_new_tokens, room=room)
    stages = build_stages(settings, num_logits=model.config.vocab_size, num_known=tokenizer.vocab_size)
    cache = build_cache(model, len(ids) + min(room, settings.max_new_tokens or room))
    position, reason = len(ids), None
    while reason is None:
        watching: AbstractContextManager[list[Shape]] = record_shapes(model) if explain else nullcontext([])
        with watching as shapes:
            logits_V = next_logits(model, ids, cache)
        u = None if settings.seed is None else uniform(settings.seed, position)
        choice = choose(logits_V, stages, u)
        text, reason = ending.push(choice.id)
        yield Step(
            text=text,
            id=choice.id,
            position=position,
            logprob=choice.logprob,
            finish_reason=reason,
            account=build_account(choice, stages, tokenizer, position=position, shapes=shapes) if explain else None,
        )
        ids, position = [choice.id], position + 1


def build_cache(model: Decoder, max_length: int, *, batch_size: int = 1) -> ContiguousCache:
    """An empty cache where the model lives, in its number format."""
    weight = model.embed.weight
    return ContiguousCache(
        model.config, batch_size=batch_size, max_length=max_length, device=weight.device, dtype=weight.dtype
    )


def next_logits(model: Decoder, ids: Sequence[int], cache: KVCache | None = None) -> np.ndarray:
    """Read ids; the scores of what may follow the last of them, [V] in float64."""
    with inference(model):
        ids_BT = torch.tensor([ids], device=model.embed.weight.device)
        return model(ids_BT, cache=cache, last_only=True).logits_BTV[0, -1].cpu().double().numpy()
