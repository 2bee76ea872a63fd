"""The whole of generation on one page: no cache, no stream. The slow twin of `generate`, and its test's oracle.

    ids -> model -> logits of the last position -> stages -> draw -> one more id, and again

Every step reads the whole sequence afresh, so a text of N tokens costs N²/2 positions. Nothing here is needed for
speed; everything here is needed for understanding.

Axes: V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch

from pellucid.engine.generate import settle_seed
from pellucid.engine.request import check_prompt
from pellucid.engine.sampling.sampler import build_sampler
from pellucid.engine.sampling.settings import SamplingSettings
from pellucid.engine.step import Completion
from pellucid.engine.stop import FinishReason, find_stop
from pellucid.errors import RequestError
from pellucid.model.context import Context
from pellucid.model.device import inference
from pellucid.model.protocol import Encodes, Model
from pellucid.tokens.tokenizer import Tokenizer


def complete_simply(
    model: Model,
    tokenizer: Tokenizer,
    prompt_ids: Sequence[int],
    settings: SamplingSettings,
    source_ids: Sequence[int] | None = None,
) -> Completion:
    """Continue a prompt to its end, reading everything again for every token; `source_ids` are for an encoder.

    Raises the errors of `generate`, and RequestError for a sliding window, which this page leaves out.
    """
    if settings.on_full == "slide":
        raise RequestError("the simple loop has no sliding window", found="on_full=slide", hint="use generate")
    check_prompt(model.config, prompt_ids)
    settings = settle_seed(settings)
    sampler = build_sampler(model.config, tokenizer, settings)
    ids, logprobs, reason = list(prompt_ids), [], None
    while reason is None:
        choice = sampler.choose(next_logits(model, ids, source_ids), ids, len(prompt_ids))
        ids.append(choice.id)
        logprobs.append(choice.logprob)
        reason = find_reason(model, tokenizer, ids, len(prompt_ids), settings)
    new_ids = tuple(ids[len(prompt_ids) :])
    silent = {*settings.stop_ids, *tokenizer.end_ids}
    text = tokenizer.decode(new_ids[:-1] if new_ids[-1] in silent else new_ids)
    return Completion(
        text=text[: find_stop(text, settings.stop)],
        ids=new_ids,
        logprobs=tuple(logprobs),
        finish_reason=reason,
        seed=settings.seed,
        num_prompt_tokens=len(prompt_ids),
        num_source_tokens=len(source_ids or ()),
    )


def next_logits(model: Model, ids: Sequence[int], source_ids: Sequence[int] | None = None) -> np.ndarray:
    """Read ids from the first to the last; the scores of what may follow, [V] in float32."""
    with inference():
        ids_BT, memory = torch.tensor([ids], device=model.device), None
        if source_ids is not None:
            memory = cast("Encodes", model).encode(torch.tensor([list(source_ids)], device=model.device))
        return model(ids_BT, Context(memory=memory), last_only=True).logits_BTV[0, -1].float().cpu().numpy()


def find_reason(
    model: Model, tokenizer: Tokenizer, ids: Sequence[int], num_prompt: int, settings: SamplingSettings
) -> FinishReason | None:
    """Why the generation ends with the last id; None when it goes on."""
    new_ids = ids[num_prompt:]
    stream = tokenizer.stream()
    text = "".join(stream.push(i) for i in new_ids if i not in settings.stop_ids and i not in tokenizer.end_ids)
    reason: FinishReason | None = None
    if new_ids[-1] in tokenizer.end_ids:
        reason = "eos"
    elif new_ids[-1] in settings.stop_ids:
        reason = "stop"
    elif len(new_ids) == settings.max_new_tokens:
        reason = "length"
    elif len(ids) == model.config.context_length:
        reason = "context"
    if reason is not None:
        text += stream.flush()  # an unfinished character counts only once nothing can finish it
    return "stop" if find_stop(text, settings.stop) is not None else reason
