"""Beam search: the texts of highest probability, as far as a narrow search finds them.

    score(y) = log p(y) / |y|^a        |y| new tokens, <eos> among them;  a: length penalty

The `num_beams` best unfinished texts are kept side by side. Each step extends them by every token and looks at the
best 2 · num_beams results: those that end and stand among the first num_beams are finished, the best num_beams of
those that do not end go on. With twice as many candidates as beams <eos> alone can never use them up (each further
token that ends a text adds num_beams to them). The search is over when no text goes on, or by `early_stopping`:

    heuristic   the best running text, scored at its present length, is not above the worst of num_beams finished ones
    always      num_beams texts are finished
    never       as heuristic, but scored at the greatest length it may reach (for a > 0)

For a > 0 a score can still rise with the length, so that the heuristic may end too early; it is the default of Hugging
Face all the same, whose rules these are (`False`, `True`, `"never"` there): equal settings find equal texts. Equal
scores fall to the better beam, then to the lower id. This is *not* sampling, and it cannot stream: the first token is
known only when all is over. The likeliest text is often a dull one: use `generate` for free text.

Axes: B beams · V vocabulary.
Source: Wu et al. 2016 §7 (length penalty), Sutskever et al. 2014 §3.2.
"""

from __future__ import annotations

from collections import abc
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pellucid.arguments import SEARCH
from pellucid.counts import counted
from pellucid.engine.request import check_prompt, check_stop_ids
from pellucid.engine.runners.runner import ReadPart, Runner
from pellucid.engine.runners.sequence import Sequence
from pellucid.engine.runners.torch_runner import check_source, with_source
from pellucid.engine.sampling.sampler import MODEL, check_row
from pellucid.engine.sampling.stage import History, Stage
from pellucid.engine.scheduler import ALONE, RowsRead, Scheduler, Taker
from pellucid.engine.speculative import FREE, Price
from pellucid.engine.step import Completion
from pellucid.engine.stop import FinishReason, StopCondition
from pellucid.errors import SamplingError
from pellucid.events import NULL, Event, Recorder
from pellucid.settings import Named, setting
from pellucid.tokens.tokenizer import Tokenizer

MOST_BEAMS, MOST_PENALTY = 256, 16.0  # a length of 2^20 to that power is still a number


@dataclass(frozen=True, kw_only=True)
class BeamSettings(Named):
    """The settings of a beam search.

    >>> BeamSettings(num_beams=2, num_best=3)
    Traceback (most recent call last):
    ...
    pellucid.errors.SamplingError: num_best must lie between 1 and num_beams
      found: 3
      where: num_beams=2
    """

    num_beams: int = setting(4, "unfinished texts kept side by side", low=1, high=MOST_BEAMS)
    num_best: int = setting(1, "finished texts returned, best first", low=1)
    length_penalty: float = setting(
        1.0,
        "log p is divided by length to this power: 0 is plain, more favours longer",
        low=-MOST_PENALTY,
        high=MOST_PENALTY,
    )
    early_stopping: Literal["heuristic", "always", "never"] = setting(
        "heuristic", "end when nothing seems better (heuristic), enough are finished (always), nothing can be (never)"
    )
    max_new_tokens: int | None = setting(
        None, "end beams at this many tokens (none: at <eos> or a full context)", low=1
    )
    stop: tuple[str, ...] = setting((), "texts that end a beam; they are not part of the answer")
    stop_ids: tuple[int, ...] = setting((), "tokens that end a beam, beside <eos>; their text is not shown")

    @classmethod
    def elsewhere(cls) -> abc.Mapping[str, str]:
        """The names of these settings in other libraries."""
        return SEARCH

    def __post_init__(self) -> None:
        for name in ("num_beams", "max_new_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise SamplingError(f"{name} must be 1 or more", found=str(value))
        if self.num_beams > MOST_BEAMS:
            raise SamplingError(
                "so many texts are not kept side by side",
                found=f"num_beams={self.num_beams}",
                hint=f"at most {MOST_BEAMS}: each has a cache of its own; more than 16 rarely find a better text",
            )
        if not 1 <= self.num_best <= self.num_beams:
            raise SamplingError(
                "num_best must lie between 1 and num_beams",
                found=str(self.num_best),
                where=f"num_beams={self.num_beams}",
                hint="give a larger num_beams, or a smaller num_best",
            )
        if not abs(self.length_penalty) <= MOST_PENALTY:  # written so that NaN fails too
            raise SamplingError(
                "length_penalty is out of range",
                found=str(self.length_penalty),
                hint=f"give a number from {-MOST_PENALTY:g} to {MOST_PENALTY:g}",
            )


PLAIN = BeamSettings()


@dataclass(frozen=True, kw_only=True)
class Hypothesis:
    """A finished text and its score."""

    score: float  # log p over length to the power of the length penalty
    logprob: float  # nats, of all its new tokens together
    completion: Completion

    @property
    def text(self) -> str:
        """Its text, as `Completion.text`."""
        return self.completion.text

    @property
    def ids(self) -> tuple[int, ...]:
        """Its new tokens, the closing one included, as `Completion.ids`."""
        return self.completion.ids


@dataclass(frozen=True)
class Beam:
    """An unfinished text."""

    sequence: Sequence
    logprobs: tuple[float, ...] = ()  # nats, one per new token
    total: float = 0.0  # their sum


@dataclass(frozen=True)
class Extension:
    """A beam and one more token."""

    beam: Beam
    id: int
    logprob: float

    @property
    def total(self) -> float:
        return self.beam.total + self.logprob

    @property
    def new_ids(self) -> list[int]:
        return [*self.beam.sequence.new_ids, self.id]


def search(
    runner: Runner,
    tokenizer: Tokenizer,
    prompt_ids: abc.Sequence[int],
    settings: BeamSettings = PLAIN,
    *,
    source_ids: abc.Sequence[int] | None = None,
    extra: abc.Sequence[Stage] = (),
    recorder: Recorder = NULL,
) -> tuple[Hypothesis, ...]:
    """The best continuations that a beam search finds, best first; at most `num_best`.

    `source_ids` is what the encoder reads, where the model has one. `extra` stages, such as a constraint, may change or remove logits; what remains keeps the probability it had, as in
    Hugging Face, so that a text does not score higher for being one of few that are allowed.

    Raises what `generate` raises for a prompt, SamplingError for logits that are not numbers or when none is left.
    """
    scheduler = Scheduler(runner, ALONE)
    found = Search(runner, tokenizer, prompt_ids, settings, source_ids=source_ids, extra=extra, recorder=recorder)
    scheduler.add(found)
    scheduler.run()
    return found.best()


class Search:
    """One search in progress: its rules, its beams, and the texts it has finished so far."""

    def __init__(
        self,
        runner: Runner,
        tokenizer: Tokenizer,
        prompt_ids: abc.Sequence[int],
        settings: BeamSettings = PLAIN,
        *,
        source_ids: abc.Sequence[int] | None = None,
        extra: abc.Sequence[Stage] = (),
        recorder: Recorder = NULL,
    ) -> None:
        """What is given is that of `search`, which runs it alone; raises what `search` raises for a prompt."""
        check_prompt(runner.config, prompt_ids)
        check_stop_ids(runner.config, settings.stop_ids)
        check_source(runner.config, source_ids)
        self.runner, self.tokenizer, self.settings, self.extra = runner, tokenizer, settings, extra
        self.prompt_ids, self.source_ids, self.recorder = prompt_ids, source_ids, recorder
        self.num_prompt, self.num_source = len(prompt_ids), len(source_ids or ())
        self.room = runner.config.context_length - self.num_prompt
        self.max_new = min(self.room, settings.max_new_tokens or self.room)
        self.end_ids = tokenizer.end_ids | set(settings.stop_ids)
        self.num_candidates = max(2, 1 + len(self.end_ids)) * settings.num_beams
        self.finished: list[Hypothesis] = []
        self.beams: list[Beam] = []
        self.num_steps = self.num_rows = 0
        self.is_over = False
        self.error: Exception | None = None

    @property
    def sequences(self) -> list[Sequence]:
        """What is kept in memory of the beams."""
        return [beam.sequence for beam in self.beams]

    def best(self) -> tuple[Hypothesis, ...]:
        """The best texts, best first; raises what ended the search before its time."""
        if self.error is not None:
            raise self.error
        return tuple(self.finished[: self.settings.num_best])

    def parts(self, price: Price = FREE) -> list[ReadPart]:
        """What is new in each beam; nothing is guessed."""
        if not self.beams:
            reader = with_source(self.runner, self.source_ids)
            self.beams = [Beam(reader.start(self.prompt_ids, max_length=self.num_prompt + self.max_new))]
        return [ReadPart(beam.sequence, len(beam.sequence) - beam.sequence.cache.length, 1) for beam in self.beams]

    def take(self, readings: abc.Sequence[RowsRead]) -> list[Taker]:
        """Extend the beams by a token each; nothing is drawn for them."""
        self.num_steps, self.num_rows = self.num_steps + 1, self.num_rows + len(readings)
        running = self._finish(self._extend(self.beams, [np.asarray(reading.rows_NV[0]) for reading in readings]))
        self.is_over = not running or self._is_over(running[0])
        self.recorder.record(self._told())
        if not self.is_over:
            self.beams = advance(self.beams, running)
        return []

    def _told(self) -> Event:
        """How far the search is, as an event."""
        if not self.is_over:
            return Event(
                name="engine.progress",
                message=f"step {self.num_steps} of {self.max_new}",
                data={"label": "searching", "done": self.num_steps, "total": self.max_new},
            )
        return Event(
            name="engine.beams_searched",
            message=f"{counted(len(self.finished), 'text')} finished after {counted(self.num_steps, 'step')}; {counted(self.num_rows, 'row')} of logits read",
            data={"finished": len(self.finished), "steps": self.num_steps, "rows": self.num_rows},
        )

    def _extend(self, beams: abc.Sequence[Beam], rows: abc.Sequence[NDArray[np.float32]]) -> list[Extension]:
        """The best extensions by one token, best first: those that may end and enough that do not."""
        found = []
        for beam, logits_V in zip(beams, rows, strict=True):
            check_row(logits_V, MODEL)
            normaliser = log_normaliser(logits_V)
            for stage in self.extra:
                logits_V = stage.apply(logits_V, History(beam.sequence.ids, self.num_prompt))
            known_V = logits_V[: self.tokenizer.vocab_size]  # beyond it is padding that no text can hold
            found += [Extension(beam, *token) for token in highest(known_V, self.num_candidates, normaliser)]
        if not found:
            names = ", ".join(stage.name for stage in self.extra)
            raise SamplingError("no beam can go on", found="every logit of every beam is -inf", where=f"after {names}")
        return sorted(found, key=lambda extension: -extension.total)[: self.num_candidates]

    def _finish(self, extensions: abc.Sequence[Extension]) -> list[Extension]:
        """Put away those that end, and return the best of the others."""
        running = []
        for place, extension in enumerate(extensions):
            completion = self._complete(extension)
            if completion is None:
                running.append(extension)
            elif place < self.settings.num_beams:
                score = self._score(extension.total, len(completion.ids))
                self.finished.append(Hypothesis(score=score, logprob=extension.total, completion=completion))
        self.finished = sorted(self.finished, key=lambda done: -done.score)[: self.settings.num_beams]
        return running[: self.settings.num_beams]

    def _complete(self, extension: Extension) -> Completion | None:
        """The text as a completion when it ends with its last token, else None."""
        num_new = len(extension.beam.logprobs) + 1
        if not (self.settings.stop or extension.id in self.end_ids or num_new == self.max_new):
            return None  # the common case, decided without reading out the text
        new_ids = extension.new_ids
        text, reason = self._read_out(new_ids)
        if reason is None:
            return None
        return Completion(
            text=text,
            ids=tuple(new_ids),
            logprobs=(*extension.beam.logprobs, extension.logprob),
            finish_reason=reason,
            seed=None,
            num_prompt_tokens=self.num_prompt,
            num_source_tokens=self.num_source,
        )

    def _read_out(self, new_ids: abc.Sequence[int]) -> tuple[str, FinishReason | None]:
        """The text of these ids and why it ends with the last of them (None: it does not)."""
        ending = StopCondition(
            self.tokenizer,
            self.settings.stop,
            max_new_tokens=self.settings.max_new_tokens,
            room=self.room,
            stop_ids=self.settings.stop_ids,
        )
        pushed = [ending.push(token_id) for token_id in new_ids]
        return "".join(text for text, _ in pushed), pushed[-1][1]

    def _score(self, total: float, length: int) -> float:
        return float(total / length**self.settings.length_penalty)

    def _is_over(self, best: Extension) -> bool:
        """Whether the finished texts are final; `best` is the likeliest running one."""
        if len(self.finished) < self.settings.num_beams:
            return False
        if self.settings.early_stopping == "always":
            return True
        hopeful = self.settings.early_stopping == "never" and self.settings.length_penalty > 0
        length = self.max_new if hopeful else len(best.beam.logprobs) + 1
        return self._score(best.total, length) <= self.finished[-1].score


def advance(beams: abc.Sequence[Beam], extensions: abc.Sequence[Extension]) -> list[Beam]:
    """Each extension as a beam of its own. The first extension of a beam takes its sequence, the others get copies.

    Beams that nothing extends give their memory back.
    """
    taken: set[int] = set()
    sequences = []
    for extension in extensions:
        sequence = extension.beam.sequence
        sequences.append(sequence.fork() if id(sequence) in taken else sequence)
        taken.add(id(sequence))
    for beam in beams:
        if id(beam.sequence) not in taken:
            beam.sequence.cache.release()
    for sequence, extension in zip(sequences, extensions, strict=True):  # after all copies are made
        sequence.extend([extension.id])
    return [
        Beam(sequence, (*extension.beam.logprobs, extension.logprob), extension.total)
        for sequence, extension in zip(sequences, extensions, strict=True)
    ]


def log_normaliser(logits_V: NDArray[np.float32]) -> float:
    """log Σ exp(l), in nats."""
    highest_logit = logits_V.max()
    return float(highest_logit) + float(np.log(np.exp(logits_V - highest_logit).sum(dtype=np.float64)))


def highest(logits_V: NDArray[np.float32], count: int, normaliser: float) -> list[tuple[int, float]]:
    """The ids of the `count` highest logits and their log-probabilities, best first; of equal ones the lowest ids.

    >>> highest(np.array([1.0, 3.0, 1.0, 2.0]), 3, 0.0)
    [(1, 3.0), (3, 2.0), (0, 1.0)]
    """
    count = min(count, logits_V.size)
    threshold = np.partition(logits_V, -count)[-count]
    kept = np.flatnonzero((logits_V >= threshold) & (logits_V > -np.inf))
    best = kept[np.argsort(-logits_V[kept], kind="stable")][:count]
    return [(int(token_id), float(logits_V[token_id]) - normaliser) for token_id in best]
