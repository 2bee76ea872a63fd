"""The scheduler: many requests side by side, one pass of the model at a time (continuous batching).

    admit      whoever waited longest joins, while there is room
    plan       one part of each text in progress: a new token, a guess, a piece of a prompt
    reserve    pages for what will be read; where they run out, the youngest is put back and read again later
    read       all parts in one pass
    choose     every row that was wanted: stages, draw, stop; whoever has ended leaves

So requests join and leave between any two steps. A long prompt is read in pieces beside the steps of others, which
bounds how long these wait for a token. With an exact runner no bit of a text depends on any of this: on its neighbours,
the size of pieces, what the cache held already, or whether it was put back meanwhile.

What runs is a `Job`: one text (`generate`), several choices from one seed (`choices`), a beam search (`beam`). An error
of one, in a stage of its own or a constraint, ends that one alone. A scheduler belongs to one thread; `service` lets
others ask it.

Axes: N rows · V vocabulary.
Source: Yu et al. 2022, "Orca" (iteration-level scheduling); Agrawal et al. 2024 (pieces of prompts beside steps).
"""

from __future__ import annotations

import time
from collections import abc, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

import torch

from pellucid.counts import counted
from pellucid.engine.pages import PagedCache, num_shared
from pellucid.engine.runners.runner import ReadPart, Runner
from pellucid.engine.runners.sequence import PooledCache, Sequence
from pellucid.engine.sampling.distribution import FEW
from pellucid.engine.sampling.find_loops import find_loops
from pellucid.engine.sampling.rows import AnyRow, Loops, RowAsk, choose_rows
from pellucid.engine.sampling.sampler import Choice
from pellucid.engine.settings import SchedulerSettings
from pellucid.engine.speculative import FREE, Price, Prices
from pellucid.engine.step import Step
from pellucid.errors import OutOfPagesError
from pellucid.events import NULL, Event, Recorder

PLAIN, ALONE = SchedulerSettings(), SchedulerSettings(shares_prefixes=False)


@dataclass(frozen=True, slots=True)
class RowsRead:
    """The rows that a part asked for, and the seconds of all passes since rows were last given."""

    rows_NV: abc.Sequence[AnyRow]
    seconds: float


Taker = abc.Generator[RowAsk, Choice, None]  # asks for one choice after the other


class Job(Protocol):
    """Something that asks for rows of logits until it is over."""

    error: Exception | None  # what ended it before its time

    @property
    def is_over(self) -> bool:
        """Whether it needs no more rows."""
        ...

    @property
    def sequences(self) -> abc.Sequence[Sequence]:
        """What is kept in memory of it."""
        ...

    def parts(self, price: Price = FREE) -> abc.Sequence[ReadPart]:
        """What must be read for it next: of each sequence all that is new, and guesses that are worth their `price`."""
        ...

    def take(self, readings: abc.Sequence[RowsRead]) -> abc.Sequence[Taker]:
        """Use what was read, in the order of `parts`; a taker for each text in which tokens are to be chosen from it."""
        ...


class Steps:
    """The steps of a job, as an iterator: where none is ready, its scheduler takes a step of all that it runs."""

    scheduler: Scheduler | None = None  # who runs it
    error: Exception | None = None
    steps: deque[Step]  # chosen, and not yet fetched

    @property
    def is_over(self) -> bool:
        """Whether its last token is chosen."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[Step]:
        return self

    def __next__(self) -> Step:
        while not self.steps:
            if self.error is not None:
                raise self.error
            if self.is_over:
                raise StopIteration
            assert self.scheduler is not None, "nobody runs it"
            self.scheduler.step()
        return self.steps.popleft()


@dataclass(eq=False)
class Entry:
    """A job in its place among others."""

    job: Job
    place: tuple[int, int]  # its priority, lowest first, then its number
    seconds: float = 0.0  # of the passes since it was given rows
    parts: abc.Sequence[ReadPart] = field(default_factory=list)  # what it asks for in this step
    planned: list[ReadPart] = field(default_factory=list)  # what of that is read in this step

    @property
    def is_read(self) -> bool:
        """Whether all that it asks for is read in this step."""
        return len(self.planned) == len(self.parts) and all(
            part.count == asked.count for part, asked in zip(self.planned, self.parts, strict=True)
        )


class Scheduler:
    """Runs many jobs over one runner, a step of all at a time.

    `waiting` and `running` are in the order in which they are served.
    """

    def __init__(self, runner: Runner, settings: SchedulerSettings = PLAIN, *, recorder: Recorder = NULL) -> None:
        self.runner, self.settings, self.recorder = runner, settings, recorder
        self.waiting: list[Entry] = []
        self.running: list[Entry] = []
        self.reading_seconds = self.choosing_seconds = 0.0  # of all steps so far
        self.prices, self.loops = Prices(), _find_loops(runner, recorder)
        self._num_added = 0

    @property
    def is_idle(self) -> bool:
        """Whether nothing is to be done."""
        return not self.waiting and not self.running

    def add(self, job: Job, *, priority: int = 0) -> None:
        """Let a job join at the next step; of equal priority, whoever came first is served first."""
        self._wait(Entry(job, (priority, self._num_added)))
        self._num_added += 1

    def drop(self, job: Job) -> None:
        """Let a job leave now, wherever it stands."""
        for entries in (self.waiting, self.running):
            entries[:] = [entry for entry in entries if entry.job is not job]
        _release(job)

    def step(self) -> list[Job]:
        """One pass over all that runs; the jobs that came further by it, or ended."""
        moved = self._admit() + self._plan() + self._reserve()
        planned = [entry for entry in self.running if entry.planned]
        parts = [part for entry in planned for part in entry.planned]
        if not parts:
            return moved
        started = time.perf_counter()
        rows_NV = self.runner.read_held(parts)
        seconds = time.perf_counter() - started
        self.reading_seconds += seconds
        if not any(_is_prompt(entry) for entry in planned):
            self.prices.note(sum(part.count for part in parts), seconds)
        ready, first = list[tuple[Entry, list[RowsRead]]](), 0
        for entry in planned:
            entry.seconds += seconds
            if _is_prompt(entry):
                self._publish(entry.job)
            readings = []
            for part in entry.planned:
                readings.append(RowsRead(rows_NV[first : first + part.num_rows], entry.seconds))
                first += part.num_rows
            if entry.is_read:
                entry.seconds = 0.0
                ready.append((entry, readings))
        self._choose(ready)
        return moved + self._clear([entry for entry, _ in ready])

    def run(self) -> None:
        """Go on until nothing is left to do."""
        while not self.is_idle:
            self.step()

    def _wait(self, entry: Entry) -> None:
        self.waiting = sorted([*self.waiting, entry], key=lambda one: one.place)

    def _admit(self) -> list[Job]:
        """Let those who wait join, while there is room for their prompts beside what runs.

        Returns the jobs that failed when they were asked what they need.
        """
        failed = []
        while self.waiting and len(self.running) < self.settings.max_running:
            entry = self.waiting[0]
            if self._ask(entry) and self.running and not self._has_room(entry):
                break
            del self.waiting[0]
            if entry.job.error is not None:
                failed.append(entry.job)
                continue
            self.running = sorted([*self.running, entry], key=lambda one: one.place)
        return failed

    def _ask(self, entry: Entry) -> bool:
        """Ask a job what must be read for it; False when it fails at that."""
        entry.planned = []
        price = self.prices.at(len(self.running))
        try:
            entry.parts = entry.job.parts(price)
            if self.settings.shares_prefixes and self._adopt(entry.parts):
                entry.parts = entry.job.parts(price)
        except Exception as error:  # a draft or a stage of a caller may raise anything
            entry.job.error = error
            _release(entry.job)
            return False
        return True

    def _has_room(self, entry: Entry) -> bool:
        """Whether its prompt fits into the pages that are left, with one more for each text in progress."""
        pool = self.runner.pool
        num_growing = sum(len(other.job.sequences) for other in self.running)
        return pool is None or pool.has_room([len(part.sequence) for part in entry.parts], num_growing)

    def _adopt(self, parts: abc.Sequence[ReadPart]) -> bool:
        """Let prompts begin with what is known of them; whether any of them does."""
        for part in parts:
            cache = part.sequence.cache
            if isinstance(cache, PagedCache) and part.count > cache.pool.shortest:
                cache.adopt(part.sequence.ids)
        return any(len(part.sequence) - part.sequence.cache.length < part.count for part in parts)

    def _plan(self) -> list[Job]:
        """Decide what is read in this step: every new token, and pieces of prompts in order of arrival.

        Returns the jobs that failed when they were asked.
        """
        failed = [entry for entry in self.running if not self._ask(entry)]
        self.running = [entry for entry in self.running if entry.job.error is None]
        prompts = [entry for entry in self.running if _is_prompt(entry)]
        for entry in self.running:
            entry.planned = [] if entry in prompts else list(entry.parts)
        alone = len(prompts) == len(self.running)
        left = self.settings.prompt_rows_alone if alone else self.settings.prompt_rows
        readers: list[Sequence] = []
        for entry in prompts:
            entry.planned = self._pieces(entry.parts, left, readers)
            readers += [part.sequence for part in entry.planned]
            left -= sum(part.count for part in entry.planned)
        return [entry.job for entry in failed]

    def _pieces(self, parts: abc.Sequence[ReadPart], left: int, readers: abc.Sequence[Sequence]) -> list[ReadPart]:
        """What is read of some prompts when `left` ids may be; `readers` are those that read beside them.

        Rows are given only when all parts are read to their ends: until then the ids that give them are left.
        """
        if self.settings.shares_prefixes and any(_is_being_read(part.sequence, readers) for part in parts):
            return []
        if sum(part.count for part in parts) <= left:
            return list(parts)
        pieces = []
        for part in parts:
            count = min(part.count - part.num_rows, left)
            left -= count
            pieces += [ReadPart(part.sequence, count, 0)] if count > 0 else []
        return pieces

    def _reserve(self) -> list[Job]:
        """Take the pages for what will be read, the oldest first; put back the youngest where there are too few.

        Returns the jobs for which there will never be enough.
        """
        failed = []
        for entry in list(self.running):
            while entry.planned:
                try:
                    for part in entry.planned:
                        cache = part.sequence.cache
                        if isinstance(cache, PooledCache):
                            cache.reserve(part.sequence.cache.length + part.count)
                    break
                except OutOfPagesError as error:
                    holders = [other for other in self.running if other is entry or _num_pages(other.job)]
                    if holders == [entry]:
                        failed.append(self._fail(entry, error))
                    else:
                        self._put_back(holders[-1])
        return failed

    def _put_back(self, entry: Entry) -> None:
        """Give up the pages of a text; it waits at its place, and what it held is read again."""
        num_pages = _num_pages(entry.job)
        _release(entry.job)
        entry.planned = []
        self.running.remove(entry)
        self._wait(entry)
        self.recorder.record(
            Event(
                name="engine.put_back",
                message=f"memory for keys and values is full: a text gives up {counted(num_pages, 'page')} and goes on later",
                data={"pages": num_pages, "number": entry.place[1]},
            )
        )

    def _choose(self, ready: abc.Sequence[tuple[Entry, list[RowsRead]]]) -> None:
        """Let all jobs take their rows; what they want to be chosen is chosen together, round by round."""
        takers, answers = list[tuple[Job, Taker]](), list[Choice | Exception | None]()
        for entry, readings in ready:
            try:
                takers += [(entry.job, taker) for taker in entry.job.take(readings)]
            except Exception as error:  # of its own stages or its constraint
                entry.job.error = error
        answers = [None] * len(takers)
        while takers:
            asking, asked = list[tuple[Job, Taker]](), list[RowAsk]()
            for (job, taker), answer in zip(takers, answers, strict=True):
                try:
                    if isinstance(answer, Exception):
                        raise answer
                    asked.append(next(taker) if answer is None else taker.send(answer))
                    asking.append((job, taker))
                except StopIteration:
                    pass
                except Exception as error:  # of its own stages, its constraint, its stop condition
                    job.error = error
            started = time.perf_counter()
            takers, answers = asking, list(choose_rows(asked, self.loops))
            self.choosing_seconds += time.perf_counter() - started

    def _publish(self, job: Job) -> None:
        """Let texts to come begin with what was read of this one."""
        for sequence in job.sequences if self.settings.shares_prefixes else ():
            if isinstance(sequence.cache, PagedCache):
                sequence.cache.publish(sequence.ids)

    def _clear(self, entries: abc.Sequence[Entry]) -> list[Job]:
        """Let those that have ended leave; all their jobs."""
        for entry in entries:
            if entry.job.error is not None:
                self._fail(entry, entry.job.error)
            elif entry.job.is_over:
                self._publish(entry.job)
                self.running.remove(entry)
                _release(entry.job)
        return [entry.job for entry in entries]

    def _fail(self, entry: Entry, error: Exception) -> Job:
        entry.job.error = error
        entry.planned = []
        self.running.remove(entry)
        _release(entry.job)
        return entry.job


def run_together(runner: Runner, jobs: abc.Sequence[Job]) -> None:
    """Run some jobs of this runner to their ends, side by side. Raises the first error of any."""
    scheduler = Scheduler(runner)
    for job in jobs:
        scheduler.add(job)
    while not scheduler.is_idle:
        for job in scheduler.step():
            if job.error is not None:
                raise job.error


def _find_loops(runner: Runner, recorder: Recorder) -> Loops | None:
    """The loops that choose from rows, where the rows are long enough to be worth them."""
    return find_loops(threads=torch.get_num_threads(), recorder=recorder) if runner.config.vocab_size > FEW else None


def _is_prompt(entry: Entry) -> bool:
    """Whether more is new than the rows that are wanted: a prompt, or a text that is read again."""
    return any(part.count > part.num_rows for part in entry.parts)


def _is_being_read(sequence: Sequence, readers: abc.Sequence[Sequence]) -> bool:
    """Whether somebody reads, in this very step, what this text would read next: it will be there for both."""
    if not isinstance(sequence.cache, PagedCache):
        return False
    enough = sequence.cache.length + sequence.cache.pool.shortest
    return any(num_shared(sequence.ids[:-1], reader.ids) >= enough for reader in readers)


def _num_pages(job: Job) -> int:
    return sum(sequence.cache.num_pages for sequence in job.sequences if isinstance(sequence.cache, PooledCache))


def _release(job: Job) -> None:
    for sequence in job.sequences:
        sequence.cache.release()
