"""The memory of keys and values: every page holds what the ids of its text say, and none is lost."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest

from pellucid.engine.pages import PagedCache, PagePool
from pellucid.engine.runners.runner import ReadPart, Runner
from pellucid.engine.runners.sequence import Sequence
from pellucid.engine.scheduler import Scheduler
from pellucid.engine.settings import SchedulerSettings
from pellucid.planning.config import ModelConfig

SIZE = 4


class Ledger(Runner):
    """A runner without a model: what it keeps of a position is its id. Each pass reads back all that a text holds."""

    exact, config = True, ModelConfig(vocab_size=2)

    def __init__(self, budget: int | None) -> None:
        self.pool = PagePool(lambda: np.full(SIZE, -1), size=SIZE, budget=budget, shortest=2)
        self.num_read = 0

    def start(self, ids, *, max_length=40):
        return Sequence(list(ids), PagedCache(self.pool, max_length))

    def read_parts(self, parts):
        for part in parts:
            sequence, cache = part.sequence, part.sequence.cache
            end = cache.length + part.count
            cache.reserve(end)
            for place in range(cache.length, end):
                cache.pages[place // SIZE].memory[place % SIZE] = sequence.ids[place]
            cache.length = end
            self.num_read += part.count
        for part in parts:
            held = [int(i) for page in part.sequence.cache.pages for i in page.memory]
            assert held[: part.sequence.cache.length] == part.sequence.ids[: part.sequence.cache.length]
        return np.zeros((sum(part.num_rows for part in parts), 1), np.float32)


class Anything:
    """A work that does all that works do: it grows, guesses and is wrong, forks, lets forks go, breaks down, ends."""

    def __init__(self, runner: Ledger, draw: random.Random) -> None:
        self.draw, self.error, self.is_over = draw, None, False
        self.sequences = [runner.start([draw.randrange(2) for _ in range(draw.randint(1, 13))])]
        self.left = draw.randint(1, 9)
        self.guessed = 0

    def parts(self, price):
        if self.draw.random() < 0.01:
            raise ValueError("asked too much")
        first = self.sequences[0]
        first.truncate(len(first) - self.guessed)
        self.guessed = 0
        if len(first) - first.cache.length == 1 and self.draw.random() < 0.3:
            self.guessed = self.draw.randint(1, 3)
            first.extend(self.draw.choices((0, 1), k=self.guessed))
        counts = [len(sequence) - sequence.cache.length for sequence in self.sequences]
        return [ReadPart(sequence, count, 1) for sequence, count in zip(self.sequences, counts, strict=True)]

    def take(self, readings):
        assert len(readings) == len(self.sequences)
        if self.draw.random() < 0.02:
            raise ValueError("had enough")
        self.sequences[0].truncate(len(self.sequences[0]) - self.guessed)
        self.guessed = 0
        if self.draw.random() < 0.15 and len(self.sequences) < 3:
            self.sequences.append(self.draw.choice(self.sequences).fork())
        if self.draw.random() < 0.1 and len(self.sequences) > 1:
            self.sequences.pop().cache.release()
        for sequence in self.sequences:
            if self.draw.random() < 0.05:
                sequence.truncate(self.draw.randint(1, len(sequence)))
            sequence.extend([self.draw.randrange(2)])
        self.left -= 1
        self.is_over = self.left == 0
        return []


def check(pool: PagePool, caches: list[PagedCache]) -> None:
    """The counts of the pool are those of whoever uses its pages."""
    users = Counter(id(page) for cache in caches for page in cache.pages)
    nodes = list(pool._nodes())
    kept = [node.page for node in nodes if node.page.num_users == 0]
    assert all(node.page.node is node for node in nodes)
    assert all(page.num_users == users[id(page)] for cache in caches for page in cache.pages)
    assert (len(users), len(kept)) == (pool.num_used, pool.num_kept)
    assert len(users) + len(kept) + len(pool.free) == pool.num_made
    assert all(page.num_users == 0 and page.node is None for page in pool.free)
    assert pool.budget is None or pool.num_made <= pool.budget


@pytest.mark.parametrize("half", [0, 1])
def test_no_page_is_lost_in_ten_thousand_schedules(half):
    """Requests join, leave, fail, are dropped and are put back; after each step all pages are accounted for."""
    events = Counter()
    for seed in range(half * 5000, half * 5000 + 5000):
        draw = random.Random(seed)
        runner = Ledger(draw.choice((None, 3, 5, 9)))
        chosen = SchedulerSettings(
            max_running=draw.choice((1, 2, 5)),
            prompt_rows=draw.choice((1, 3, 9)),
            prompt_rows_alone=draw.choice((2, 9)),
            shares_prefixes=draw.random() < 0.8,
        )
        scheduler = Scheduler(runner, chosen, recorder=events_of(events))
        works, numbers = [], draw.randint(1, 4)
        while numbers or not scheduler.is_idle:
            if numbers and draw.random() < 0.5:
                works.append(Anything(runner, draw))
                scheduler.add(works[-1], priority=draw.randint(0, 1))
                numbers -= 1
            if works and draw.random() < 0.02:
                scheduler.drop(draw.choice(works))
            scheduler.step()
            caches = [sequence.cache for work in works for sequence in work.sequences]
            events["adopted"] += any(cache.num_adopted for cache in caches)
            if seed % 9 == 0:
                check(runner.pool, caches)
        check(runner.pool, caches)
        assert runner.pool.num_used == 0
        events.update(type(work.error).__name__ for work in works)
    tried = {"adopted", "engine.put_back", "NoneType", "ValueError", "OutOfPagesError"}
    assert {name for name, count in events.items() if count > 50} == tried


def events_of(events: Counter):
    class Counting:
        def record(self, event):
            events[event.name] += 1

    return Counting()
