"""Several continuations of one prompt from one seed.

    read the prompt once; fork its sequence; then all go on side by side, each with draws of its own

The number of a choice is part of the key of its draws, so choice 2 is the same text whether three or thirty are asked
for, and choice 0 is the text that `generate` gives alone: a line of its own, not a share of a batch. `generate` is the
case of one line. This is *not* a search: no choice knows of the others; `beam` is one.

Axes: B lines · V vocabulary.
"""

from __future__ import annotations

from collections import abc
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pellucid.counts import counted
from pellucid.engine.generate import build_sampler, check_prompt, check_stop_ids, collect, settle_seed
from pellucid.engine.runners.runner import Runner
from pellucid.engine.runners.sequence import Sequence
from pellucid.engine.sampling.sampler import Sampler
from pellucid.engine.sampling.settings import SamplingSettings
from pellucid.engine.sampling.stage import Stage
from pellucid.engine.step import Completion, Step
from pellucid.engine.stop import StopCondition
from pellucid.errors import RequestError, SamplingError
from pellucid.events import NULL, Recorder
from pellucid.tokens.tokenizer import Tokenizer

PLAIN = SamplingSettings()


@dataclass(frozen=True, kw_only=True)
class ChoiceStep:
    """One token of one of several continuations."""

    index: int  # of the choice, from 0
    step: Step


@dataclass
class Line:
    """A continuation under way: what it has read, how it chooses, when it ends."""

    index: int
    sequence: Sequence
    sampler: Sampler
    ending: StopCondition

    def choose(self, logits_V: np.ndarray) -> ChoiceStep:
        """The next token; it is added to the sequence unless it is the last."""
        position = len(self.sequence)
        choice = self.sampler.choose(logits_V, self.sequence.ids, self.sequence.num_prompt)
        text, reason = self.ending.push(choice.id)
        if reason is None:
            self.sequence.extend([choice.id])
        step = Step(text=text, id=choice.id, position=position, logprob=choice.logprob, finish_reason=reason)
        return ChoiceStep(index=self.index, step=step)


def generate_choices(
    runner: Runner,
    tokenizer: Tokenizer,
    prompt_ids: abc.Sequence[int],
    settings: SamplingSettings = PLAIN,
    *,
    num_choices: int,
    extra: abc.Sequence[Stage] = (),
    recorder: Recorder = NULL,
) -> Iterator[ChoiceStep]:
    """Continue a prompt `num_choices` times at once, handing out the tokens in rounds, in the order of the choices.

    Raises what `generate` raises, and SamplingError when all choices would be the same text (temperature 0); both at
    the call, not at the first step.
    """
    check_prompt(runner.config, prompt_ids)
    check_stop_ids(runner.config, settings.stop_ids)
    if settings.on_full == "slide":
        raise RequestError(
            "several choices share one reading of the prompt, which a sliding window would undo",
            found="on_full=slide",
            hint="ask for one text at a time, each with a seed of its own",
        )
    if num_choices < 1:
        raise SamplingError("the number of choices must be 1 or more", found=str(num_choices))
    if settings.greedy and num_choices > 1:
        raise SamplingError(
            "at temperature 0 all choices are the same text",
            found=counted(num_choices, "choice"),
            hint="raise the temperature, or ask for the n best of a beam search",
        )
    settled = settle_seed(settings, recorder)
    room = runner.config.context_length - len(prompt_ids)
    first = runner.start(prompt_ids, max_length=len(prompt_ids) + min(room, settings.max_new_tokens or room))
    samplers = [build_sampler(runner, tokenizer, settled, extra=extra, choice=index) for index in range(num_choices)]
    endings = [
        StopCondition(
            tokenizer, settings.stop, max_new_tokens=settings.max_new_tokens, room=room, stop_ids=settings.stop_ids
        )
        for _ in samplers
    ]
    return _rounds(runner, first, samplers, endings)


def complete_choices(
    runner: Runner,
    tokenizer: Tokenizer,
    prompt_ids: abc.Sequence[int],
    settings: SamplingSettings = PLAIN,
    *,
    num_choices: int,
    extra: abc.Sequence[Stage] = (),
    recorder: Recorder = NULL,
) -> tuple[Completion, ...]:
    """Continue a prompt `num_choices` times to the end, in the order of the choices."""
    settled = settle_seed(settings, recorder)
    lines: list[list[Step]] = [[] for _ in range(num_choices)]
    for one in generate_choices(runner, tokenizer, prompt_ids, settled, num_choices=num_choices, extra=extra):
        lines[one.index].append(one.step)
    return tuple(collect(steps, seed=settled.seed, num_prompt_tokens=len(prompt_ids)) for steps in lines)


def _rounds(
    runner: Runner, first: Sequence, samplers: abc.Sequence[Sampler], endings: abc.Sequence[StopCondition]
) -> Iterator[ChoiceStep]:
    logits_V = runner.prefill(first)
    sequences = [first, *(first.fork() for _ in samplers[1:])]
    lines = [Line(*parts) for parts in zip(range(len(samplers)), sequences, samplers, endings, strict=True)]
    rows_BV = np.broadcast_to(logits_V, (len(lines), logits_V.size))
    while lines:
        running = []
        for line, row_V in zip(lines, rows_BV, strict=True):
            one = line.choose(row_V)
            if one.step.finish_reason is None:
                running.append(line)
            yield one
        lines = running
        if lines:
            rows_BV = runner.decode([line.sequence for line in lines])
