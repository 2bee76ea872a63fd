"""Several continuations of one prompt from one seed.

    read the prompt once; fork its sequence; then all go on side by side, each with draws of its own

The number of a choice is part of the key of its draws, so choice 2 is the same text whether three or thirty are asked
for, and choice 0 is the text that `generate` gives alone. This is *not* a search: no choice knows of the others; `beam` is one.

Axes: B choices · V vocabulary.
"""

from __future__ import annotations

from collections import abc
from dataclasses import dataclass

from pellucid.counts import counted
from pellucid.engine.generate import Generation, advance
from pellucid.engine.request import Request
from pellucid.engine.step import Completion, Step
from pellucid.errors import RequestError, SamplingError


@dataclass(frozen=True, kw_only=True)
class ChoiceStep:
    """One token of one of several continuations."""

    index: int  # of the choice, from 0
    step: Step


def generate_choices(first: Generation) -> abc.Iterator[ChoiceStep]:
    """All the choices that a request asks for, from its generation: the tokens in rounds, in the order of the choices.

    Raises SamplingError when all choices would be the same text (temperature 0), RequestError for a sliding window;
    both at the call, not at the first step.
    """
    check_choices(first.request)
    return _rounds(first)


def complete_choices(first: Generation) -> tuple[Completion, ...]:
    """All the choices that a request asks for, from its generation, to their ends and in their order."""
    steps: list[list[Step]] = [[] for _ in range(first.request.num_choices)]
    for one in generate_choices(first):
        steps[one.index].append(one.step)
    first.report()
    return tuple(first.collect(steps_of_one) for steps_of_one in steps)


def check_choices(request: Request) -> None:
    """Refuse several choices where there cannot be several."""
    sampling, num_choices = request.sampling, request.num_choices
    if sampling.on_full == "slide":
        raise RequestError(
            "several choices share one reading of the prompt, which a sliding window would undo",
            found="on_full=slide",
            hint="ask for one text at a time, each with a seed of its own",
        )
    if num_choices < 1:
        raise SamplingError("the number of choices must be 1 or more", found=str(num_choices))
    if sampling.greedy and num_choices > 1:
        raise SamplingError(
            "at temperature 0 all choices are the same text",
            found=counted(num_choices, "choice"),
            hint="raise the temperature, or ask for the n best of a beam search",
        )


def _rounds(first: Generation) -> abc.Iterator[ChoiceStep]:
    logits_V = first.runner.read([first.sequence])[0]
    running = [first, *(first.fork(number) for number in range(1, first.request.num_choices))]
    steps = [generation.choose(logits_V) for generation in running]
    while running:
        yield from (ChoiceStep(index=one.number, step=step) for one, step in zip(running, steps, strict=True))
        running = [generation for generation in running if generation.finish_reason is None]
        steps = advance(running) if running else []
