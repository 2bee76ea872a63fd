"""Speculative decoding: several tokens for one reading of the weights, and the same text as without.

    propose   a cheap guess at the next tokens: what followed the last words earlier on, or what a small model would say
    score     the model reads the whole guess at once, as it reads a prompt: a row of logits for every position
    check     each row, in order, chooses its token as it always would; a guess that agrees saved one reading,
              the first that does not is forgotten together with all behind it

Reading one token or eight takes nearly the same time as long as fetching the weights is what takes it. The guess
decides only which rows are ready before they are asked for, never what is chosen from them. The choice at a position
is a function of its row, the ids before it and a draw that belongs to the position, so the text is *equal* to plain
generation, token for token, with every stage of the sampler and for any proposer: good ones are fast, bad ones slow.
That takes a runner whose rows do not depend on how they are read (`exact`); with another, rounding in the last bits
may tip a choice between two tokens that are nearly tied.

This is *not* the rejection rule of the literature (accept x with probability min(1, p(x) / q(x)), else draw from the
rest of p), which keeps the distribution, but gives another text than plain generation and must know q exactly. It is
needed where draws are consumed one after the other; here each position has its own draw, however often it is used. A
draft model draws its guess with that very number, so that it agrees wherever the two distributions nearly do.

`Guesser` holds what one text needs for it; the text itself (`generate`) is read with its guess and checks it.

Axes: V vocabulary.
Source: Leviathan et al. 2023 §2 (draft model), Saxena 2023, "Prompt lookup decoding".
"""

from __future__ import annotations

import copy
import time
from collections import abc
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from pellucid.counts import counted
from pellucid.engine.runners.runner import Runner
from pellucid.engine.runners.sequence import Sequence
from pellucid.engine.sampling.sampler import Sampler, build_sampler
from pellucid.engine.sampling.settings import SamplingSettings
from pellucid.engine.sampling.stage import Stage
from pellucid.engine.settings import SpeculationSettings
from pellucid.errors import RequestError, SamplingError
from pellucid.events import Event
from pellucid.tokens.tokenizer import Tokenizer

FIRST_REACH = 3  # tokens to guess at first: with the token itself four rows
MEMORY, LEAST_LUCK, REST = (
    8,
    0.05,
    32,
)  # guesses that luck is taken over; below which share it rests, for how many tokens
FADING = 0.95  # of what is known of earlier passes, from one to the next
RECENT = 8  # earlier places that are compared: bounds the work on "aaaa…"


AHEAD = SpeculationSettings()


@dataclass(kw_only=True)
class SpeculationStats:
    """How often the guesses were right.

    >>> SpeculationStats(num_proposed=8, num_accepted=6, num_readings=4).acceptance
    0.75
    """

    num_proposed: int = 0  # tokens guessed
    num_accepted: int = 0  # of these, tokens that were then chosen
    num_readings: int = 0  # times the model was read after the prompt; plain decoding takes num_accepted more

    @property
    def acceptance(self) -> float:
        """The share of the guesses that came true; 0 when nothing was guessed."""
        return self.num_accepted / max(1, self.num_proposed)


class Proposer(Protocol):
    """Guesses the next ids of one sequence from its ids alone; these only grow, unless `truncate` is called."""

    def propose(self, sequence: Sequence, limit: int) -> list[int]:
        """At most `limit` ids that may follow; none when there is nothing to go by."""
        ...

    def truncate(self, length: int) -> None:
        """Forget the ids from `length` on: the sequence was cut back."""
        ...

    def fork(self) -> Proposer:
        """A copy for another sequence with the same ids so far."""
        ...


class PromptLookup:
    """Proposes what followed the last time the text ended as it ends now.

    Of the latest places where its last `ngram` ids occurred, the one that shares the longest past counts. A guess may
    run on into itself, which continues a repetition.

    >>> class Text:
    ...     ids = [1, 2, 3, 4, 9, 1, 2]
    >>> PromptLookup(ngram=2).propose(Text, 3), PromptLookup(ngram=3).propose(Text, 3)
    ([3, 4, 9], [])
    """

    def __init__(self, ngram: int) -> None:
        self.ngram = ngram
        self._forget()

    def propose(self, sequence: Sequence, limit: int) -> list[int]:
        ids = sequence.ids
        self._learn(ids)
        places = self.places.get(tuple(ids[-self.ngram :]), [])[-RECENT:]
        if not places:
            return []
        # The later of equals: max() keeps the first, so the latest come first.
        start = max(reversed(places), key=lambda place: self._shared_past(ids, place))
        guess: list[int] = []
        for place in range(start, start + limit):
            guess.append(ids[place] if place < len(ids) else guess[place - len(ids)])
        return guess

    def truncate(self, length: int) -> None:
        if length < self.num_known:
            self._forget()

    def fork(self) -> PromptLookup:
        return PromptLookup(self.ngram)  # learns again from the ids it is shown

    def _forget(self) -> None:
        self.num_known = 0
        self.places: dict[tuple[int, ...], list[int]] = {}  # n-gram -> where the text went on after it, in order

    def _learn(self, ids: list[int]) -> None:
        """Note where each n-gram of `ids` ends, all but the one at the very end, which nothing follows."""
        for end in range(max(self.num_known, self.ngram), len(ids)):
            self.places.setdefault(tuple(ids[end - self.ngram : end]), []).append(end)
        self.num_known = len(ids)

    def _shared_past(self, ids: list[int], place: int) -> int:
        """How many ids before `place` equal those at the end, counted up to four times the n-gram."""
        farthest = min(place, 4 * self.ngram)
        return next((n for n in range(self.ngram, farthest) if ids[place - 1 - n] != ids[-1 - n]), farthest)


class DraftModel:
    """Proposes what a smaller model of the same vocabulary would write with the same stages and the same draws."""

    def __init__(self, runner: Runner, sampler: Sampler, end_ids: Collection[int | None], max_length: int) -> None:
        self.runner, self.sampler, self.end_ids = runner, sampler, end_ids
        self.own = runner.start([], max_length=min(max_length, runner.config.context_length))
        self.num_known = 0  # ids of `own` that are the sequence's, not guesses

    def propose(self, sequence: Sequence, limit: int) -> list[int]:
        limit = min(limit, self.own.cache.max_length - len(sequence) + 1)
        if limit < 1:
            return []  # the text has outgrown the draft's context
        self._follow(sequence.ids)
        self._choose(self.runner.read([self.own])[0], sequence.num_prompt)
        while self.own.ids[-1] not in self.end_ids and len(self.own) < len(sequence) + limit:
            logits_V = self.runner.read([self.own])[0]
            try:
                self._choose(logits_V, sequence.num_prompt)
            except SamplingError:  # a ban or a grammar leaves this guess no way on; the text itself may never come here
                break
        return self.own.ids[len(sequence) :]

    def truncate(self, length: int) -> None:
        self.num_known = min(self.num_known, length)

    def fork(self) -> DraftModel:
        twin = copy.copy(self)
        twin.own = self.own.fork()
        return twin

    def _choose(self, logits_V: np.ndarray, num_prompt: int) -> None:
        self.own.extend([self.sampler.choose(logits_V, self.own.ids, num_prompt).id])

    def _follow(self, ids: list[int]) -> None:
        """Replace what the draft guessed by what was chosen; the last id at least is read (again)."""
        shared, most = min(self.num_known, len(ids) - 1), min(len(self.own), len(ids) - 1)
        while shared < most and self.own.ids[shared] == ids[shared]:
            shared += 1
        self.own.truncate(shared)
        self.own.extend(ids[shared:])
        self.num_known = len(ids)


@dataclass(frozen=True)
class Price:
    """What a guess costs in a step to come; nothing where it is not known yet."""

    row: float = 0.0  # one more row of the model, as a share of what a token costs
    token_seconds: float = 0.0  # what a token costs; 0: not known


FREE = Price()


class Guesser:
    """Guesses ahead in one text, further after guesses that held; all forks of a text count together in `stats`.

    It rests for a while when guesses bring less than they cost: `luck` is the share of them that came true lately, and
    what each cost is measured, unless `weighed` is False.
    """

    def __init__(self, proposer: Proposer, *, max_tokens: int, weighed: bool = True) -> None:
        self.proposer, self.max_tokens, self.weighed, self.reach = proposer, max_tokens, weighed, FIRST_REACH
        self.stats = SpeculationStats()
        self.luck, self.num_to_rest, self.seconds = 1.0, 0, 0.0  # seconds: to guess one token, lately

    def guess(self, sequence: Sequence, room: int, price: Price) -> list[int]:
        """At most `room` ids that may follow; none while they bring less than they cost."""
        self.stats.num_readings += 1
        least = max(LEAST_LUCK, self._cost(price))
        if self.luck < least:
            self.luck, self.num_to_rest = least, REST  # after it, one guess decides
        if self.num_to_rest:
            self.num_to_rest -= 1
            return []
        limit, started = min(self.reach, self.max_tokens, room), time.perf_counter()
        found = self.proposer.propose(sequence, limit) if limit > 0 else []
        if found:
            each = (time.perf_counter() - started) / len(found)
            self.seconds = each if not self.seconds else self.seconds + (each - self.seconds) / MEMORY
        self.stats.num_proposed += len(found)
        return found

    def _cost(self, price: Price) -> float:
        """What it costs to guess a token and to read it, as a share of a token's cost, 1 at most: luck can be no more."""
        if not self.weighed:
            return 0.0
        own = self.seconds / price.token_seconds if price.token_seconds else 0.0
        return min(1.0, price.row + own)

    def judge(self, num_guessed: int, num_held: int) -> None:
        """Learn how many tokens of a guess came true: the reach doubles after a whole one and halves after another."""
        self.stats.num_accepted += num_held
        if num_guessed:
            held = num_held == num_guessed
            self.reach = min(2 * self.reach + 1, self.max_tokens) if held else max(1, self.reach // 2)
            self.luck += (num_held / num_guessed - self.luck) / MEMORY

    def fork(self) -> Guesser:
        """Another for a text that begins with the same ids."""
        twin = copy.copy(self)
        twin.proposer = self.proposer.fork()
        return twin


class Prices:
    """What rows cost, from the seconds of recent passes: a line in their number (least squares, older passes count less).

    While fetching the weights is what takes the time, a row more is nearly free, and guesses pay even if few come true. In
    a pass of many rows each has its price, and at a price of 1 no guess can pay.

    >>> prices = Prices()
    >>> for rows in (1, 4, 1, 4):
    ...     prices.note(rows, 0.1 + 0.01 * rows)
    >>> one, many = prices.at(1), prices.at(90)
    >>> round(one.row, 3), round(one.token_seconds, 3), round(many.row, 3), Prices().at(4)
    (0.091, 0.11, 0.9, Price(row=0.0, token_seconds=0.0))
    """

    def __init__(self) -> None:
        self.weight = self.rows = self.squares = self.seconds = self.products = 0.0

    def note(self, rows: int, seconds: float) -> None:
        """One pass more."""
        old, new = (
            (self.weight, self.rows, self.squares, self.seconds, self.products),
            (1.0, rows, rows * rows, seconds, rows * seconds),
        )
        self.weight, self.rows, self.squares, self.seconds, self.products = (
            FADING * before + now for before, now in zip(old, new, strict=True)
        )

    def at(self, rows: int) -> Price:
        """The price in a pass of so many rows; a row's is 0 while passes of one size alone are known."""
        if not self.weight or not rows:
            return Price()
        spread, slope = self.weight * self.squares - self.rows**2, 0.0
        if spread > 1e-9 * self.squares * self.weight:
            slope = max(0.0, (self.weight * self.products - self.rows * self.seconds) / spread)
        whole = self.seconds / self.weight + slope * (rows - self.rows / self.weight)
        if whole <= 0:
            return Price()
        return Price(row=min(1.0, slope * rows / whole), token_seconds=whole / rows)


def build_guesser(
    tokenizer: Tokenizer,
    settings: SamplingSettings,
    speculation: SpeculationSettings = AHEAD,
    *,
    max_length: int,
    draft: Runner | None = None,
    extra: abc.Sequence[Stage] = (),
) -> Guesser:
    """Guesses for a text of at most `max_length` ids: by prompt lookup, or those of `draft` when one is given.

    `settings`, with the seed known, and `extra` stages are those of the request: a draft guesses with the same draws
    and stages. Only mirostat is left out, which knows the way of chosen tokens and not that of guesses.

    Raises RequestError for a draft that does not know every token of the tokenizer.
    """
    if draft is None:
        return Guesser(PromptLookup(speculation.ngram), max_tokens=speculation.max_tokens, weighed=speculation.weighed)
    if draft.config.vocab_size < tokenizer.vocab_size:
        raise RequestError(
            "the draft model does not know every token of the model it guesses for",
            found=counted(draft.config.vocab_size, "token"),
            where=f"tokenizer of {tokenizer.vocab_size}",
            hint="draft and model must share one tokenizer",
        )
    sampler = build_sampler(draft.config, tokenizer, replace(settings, mirostat=0), extra=extra)
    end_ids = tokenizer.end_ids | set(settings.stop_ids)
    proposer = DraftModel(draft, sampler, end_ids, max_length)
    return Guesser(proposer, max_tokens=speculation.max_tokens, weighed=speculation.weighed)


def speculated(stats: SpeculationStats) -> Event:
    """How often the guesses were right, as an event."""
    return Event(
        name="engine.speculated",
        message=f"accepted: {stats.num_accepted} of {counted(stats.num_proposed, 'proposed token')} "
        f"({counted(stats.num_readings, 'reading')} instead of {stats.num_readings + stats.num_accepted})",
        data={"proposed": stats.num_proposed, "accepted": stats.num_accepted, "readings": stats.num_readings},
    )
