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

from pellucid.engine.fill import Blank, Filled, FilledSpan, joined
from pellucid.engine.generate import complete, sides
from pellucid.engine.masked_text import WRITTEN, read_gaps
from pellucid.engine.request import Request
from pellucid.engine.runners.runner import Runner
from pellucid.engine.sampling.settings import SamplingSettings
from pellucid.engine.step import Completion
from pellucid.errors import RequestError
from pellucid.store.text_frame import frame_of_source
from pellucid.tokens.tokenizer import Tokenizer


def infill(runner: Runner, tokenizer: Tokenizer, text: str, *, mask: str | None) -> Filled:
    """Fill the gaps of a text; `mask` is how they are written in it (None: [MASK] or <mask>).

    A gap that the decoder writes nothing about stays as it is, without a candidate.

    Raises TokenizerError for a tokenizer with too few sentinels, RequestError for a text without a gap, ContextError for a
    text that is too long.
    """
    cut, name = read_gaps(text, tokenizer, frame_of_source(tokenizer), mask), mask or WRITTEN[0]
    if not cut.places:
        raise RequestError("the text has no mask", found=f"no {name}", hint=f'write one: "The {name} is in the box."')
    sentinels = tokenizer.roles["sentinel"][: len(cut.parts)]
    prompt_ids, source = sides(runner.config, tokenizer, cut.ids)
    request = Request(prompt_ids=prompt_ids, source_ids=source, sampling=SamplingSettings(temperature=0))
    spans = read_spans(complete(runner, tokenizer, request), sentinels, tokenizer)
    blanks = tuple(Blank(candidates=(spans[i],) if i in spans else (), turn=i) for i in range(len(cut.places)))
    kept = [f" {name}" if part.endswith(" ") else name for part in cut.parts]  # where nothing was written
    filling = [blank.candidates[0].text if blank.candidates else kept[blank.turn] for blank in blanks]
    return Filled(text=joined(cut.parts, filling, tokenizer), blanks=blanks)


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
