"""Several continuations of one prompt from one seed.

    read the prompt once; fork its sequence; then all go on side by side, each with draws of its own

The number of a choice is part of the key of its draws, so choice 2 is the same text whether three or thirty are asked
for, and choice 0 is the text that `generate` gives alone. This is *not* a search: no choice knows of the others; `beam` is one.
"""

from __future__ import annotations

from collections import abc

from pellucid.counts import counted
from pellucid.engine.generate import Generation
from pellucid.engine.request import Request
from pellucid.engine.runners.runner import ReadPart
from pellucid.engine.runners.sequence import Sequence
from pellucid.engine.scheduler import RowsRead, Steps, Taker
from pellucid.engine.speculative import FREE, Price
from pellucid.engine.step import Completion, Step
from pellucid.errors import RequestError, SamplingError


class Choices(Steps):
    """All the texts that a request asks for: an iterator of their steps, in rounds; `Step.choice` says whose each is.

    Raises SamplingError when all choices would be the same text (temperature 0), RequestError for a sliding window.
    """

    def __init__(self, first: Generation) -> None:
        """`first` is the generation of the request, before its first step."""
        check_choices(first.request)
        self.first, self.texts, self.steps = first, [first], first.steps
        if first.scheduler is not None:
            self.scheduler = first.scheduler
            self.scheduler.drop(first)
            self.scheduler.add(self)

    @property
    def is_over(self) -> bool:
        """Whether all texts have ended."""
        return all(text.is_over for text in self.texts)

    @property
    def sequences(self) -> list[Sequence]:
        """What is kept in memory of all texts."""
        return [sequence for text in self.texts for sequence in text.sequences]

    def parts(self, price: Price = FREE) -> list[ReadPart]:
        """What each text in progress needs next; those that have ended need nothing any more."""
        for text in self.texts:
            for sequence in text.sequences if text.is_over else ():
                sequence.cache.release()
        return [part for text in self._running() for part in text.parts(price)]

    def take(self, readings: abc.Sequence[RowsRead]) -> list[Taker]:
        """Give each text its rows; those of the prompt are for all of them."""
        if len(self.texts) < self.first.request.num_choices:
            self.texts += [self.first.fork(number) for number in range(1, self.first.request.num_choices)]
            readings = [readings[0]] * len(self.texts)
        return [text.taker(reading) for text, reading in zip(self._running(), readings, strict=True)]

    def complete(self) -> tuple[Completion, ...]:
        """Go on to the ends; the texts in their order."""
        steps: list[list[Step]] = [[] for _ in range(self.first.request.num_choices)]
        for step in self:
            steps[step.choice].append(step)
        self.first.report()
        return tuple(text.collect(own) for text, own in zip(self.texts, steps, strict=True))

    def _running(self) -> list[Generation]:
        return [text for text in self.texts if not text.is_over]


def check_choices(request: Request) -> None:
    """Refuse several choices where there cannot be several."""
    sampling, num_choices = request.sampling, request.num_choices
    if sampling.on_full == "slide" and num_choices > 1:
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
