"""Fill in the blanks with an encoder and a decoder: it reads the text with a sentinel in each gap, and writes what they held.

    text      The [MASK] ran to [MASK].
    source    The <X> ran to <Y> . <eos>
    written   <X> cat <Y> the garden <Z> <eos>       each sentinel, then what it stands for

A gap may hold any number of tokens, also none. The text is written greedily, so each gap has one filling; its probability is that
of its tokens and of the one that ends it, together, given the source and what was written before. It is *not* the filling of a masked model, which scores every
token for one place.

Source: Raffel et al. 2020, §3.1.4.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from pellucid.counts import counted
from pellucid.engine.fill import Blank, Filled, FilledSpan, cut_text, joined
from pellucid.engine.generate import complete, sides
from pellucid.engine.request import Request
from pellucid.engine.runners.runner import Runner
from pellucid.engine.sampling.settings import SamplingSettings
from pellucid.engine.step import Completion
from pellucid.errors import RequestError, TokenizerError
from pellucid.tokens.tokenizer import Tokenizer


def infill(runner: Runner, tokenizer: Tokenizer, text: str, *, mask: str | None) -> Filled:
    """Fill the gaps of a text; `mask` is how they are written in it (None: [MASK] or <mask>).

    A gap that the decoder writes nothing about stays as it is, without a candidate.

    Raises TokenizerError for a tokenizer with too few sentinels, RequestError for a text without a gap, ContextError for a
    text that is too long.
    """
    parts, names = cut_text(text, mask)
    if len(parts) == 1:
        raise RequestError(
            "the text has no mask", found=f"no {names[0]}", hint=f'write one: "The {names[0]} is in the box."'
        )
    sentinels = _sentinels(tokenizer, len(parts) - 1)
    source_ids = _source(parts, sentinels, tokenizer)
    prompt_ids, source = sides(runner.config, tokenizer, source_ids)
    request = Request(prompt_ids=prompt_ids, source_ids=source, sampling=SamplingSettings(temperature=0))
    spans = read_spans(complete(runner, tokenizer, request), sentinels, tokenizer)
    blanks = tuple(Blank(candidates=(spans[i],) if i in spans else (), turn=i) for i in range(len(parts) - 1))
    kept = [f" {names[0]}" if part.endswith(" ") else names[0] for part in parts]  # where nothing was written
    filling = [blank.candidates[0].text if blank.candidates else kept[blank.turn] for blank in blanks]
    return Filled(text=joined(parts, filling, tokenizer), blanks=blanks)


def _sentinels(tokenizer: Tokenizer, num_masks: int) -> Sequence[int]:
    """The sentinels that stand for the masks, and the one after them where there is one.

    Raises TokenizerError where there are none, or too few.
    """
    sentinels = tokenizer.roles.get("sentinel", ())
    if not sentinels:
        raise TokenizerError(
            "this model has no tokens that stand for a gap (sentinels), so it has not learned to fill one",
            found=f"{tokenizer.kind}, {tokenizer.vocab_size:,} tokens, none with the role sentinel",
            hint="try pellucid generate, which writes about a whole text, or train a model with --set objective=spans"
            " --set tokenizer.specials=sentinels",
        )
    if len(sentinels) < num_masks:
        raise TokenizerError(
            "each mask needs a sentinel of its own",
            found=f"{counted(num_masks, 'mask')}, {counted(len(sentinels), 'sentinel')}",
            hint="fill fewer masks at a time",
        )
    return sentinels[: num_masks + 1]


def read_spans(written: Completion, sentinels: Sequence[int], tokenizer: Tokenizer) -> dict[int, FilledSpan]:
    """What was written behind each sentinel, by its number; what stands before the first is nobody's."""
    numbers = {sentinel: number for number, sentinel in enumerate(sentinels)}
    found: dict[int, tuple[list[int], list[float]]] = {}
    current: int | None = None
    for token_id, logprob in zip(written.ids, written.logprobs, strict=True):
        if current is not None:
            found[current][1].append(logprob)
        if token_id in numbers:
            current = numbers[token_id] if numbers[token_id] not in found else None
            if current is not None:
                found[current] = [], []
        elif token_id in tokenizer.end_ids:
            break
        elif current is not None:
            found[current][0].append(token_id)
    return {
        number: FilledSpan(ids=tuple(ids), text=_spelled(ids, tokenizer), probability=math.exp(math.fsum(logprobs)))
        for number, (ids, logprobs) in found.items()
    }


def _spelled(ids: Sequence[int], tokenizer: Tokenizer) -> str:
    """The text of some tokens with the space before it, which decoding would leave out at the beginning of a text."""
    return tokenizer.decode_bytes(ids).decode("utf-8", errors="replace")


def _source(parts: Sequence[str], sentinels: Sequence[int], tokenizer: Tokenizer) -> list[int]:
    """The ids of the text with a sentinel in each gap, as in training: <bos> and <eos> around it, where there are any."""
    ids = tokenizer.encode_prompt(parts[0].rstrip(" "))
    for part, sentinel in zip(parts[1:], sentinels, strict=False):
        ids += [sentinel, *tokenizer.encode(part if part is parts[-1] else part.rstrip(" ")).ids]
    return ids if tokenizer.eos_id is None else [*ids, tokenizer.eos_id]
