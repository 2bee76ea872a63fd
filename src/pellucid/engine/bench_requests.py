"""Benchmark of many requests at once: what each of them waits for, and what a step costs beside the model.

    arrival ──► first token ──► second token ──► …          time to first token · gap between tokens

A request waits for its first token while it stands in the queue and its prompt is read; after that, a gap is as long as
a step of all that runs. The texts may not end early, so that every measurement is of the same number of tokens.
"""

from __future__ import annotations

import time
from collections import abc, deque
from dataclasses import dataclass

import numpy as np

from pellucid.engine.bench import Format, cache_bytes_per_position, random_ids, weight_bytes_per_token
from pellucid.engine.generate import Generation, prepare
from pellucid.engine.request import Request
from pellucid.engine.runners.runner import Runner
from pellucid.engine.sampling.settings import SamplingSettings
from pellucid.engine.scheduler import Scheduler
from pellucid.engine.settings import SchedulerSettings
from pellucid.planning.config import ModelConfig
from pellucid.planning.flops import count_flops
from pellucid.tokens.tokenizer import Tokenizer

PLAIN = SchedulerSettings()


@dataclass(frozen=True, kw_only=True)
class Served:
    """What some requests waited for, in seconds.

    >>> served = Served(
    ...     num_tokens=4, seconds=2.0, first=(0.5, 0.7), gaps=(0.1, 0.3), reading=1.8, choosing=0.1, num_pages=3, page_bytes=64
    ... )
    >>> served.tokens_per_second, round(served.outside, 3), served.cache_bytes
    (2.0, 0.1, 192)
    """

    num_tokens: int  # that were written, of all requests
    seconds: float  # from the first arrival to the last token
    first: tuple[float, ...]  # of each request, from its arrival to its first token
    gaps: tuple[float, ...]  # between two tokens of a request, all together
    reading: float  # in passes of the model
    choosing: float  # in stages and draws
    num_pages: int  # of keys and values, at the most
    page_bytes: int

    @property
    def tokens_per_second(self) -> float:
        """New tokens of all requests, a second."""
        return self.num_tokens / self.seconds

    @property
    def outside(self) -> float:
        """The share of the time that is not the model's: planning, stages, draws, spelling (without waits for arrivals)."""
        return 1 - self.reading / self.seconds

    @property
    def cache_bytes(self) -> int:
        """The most memory that keys and values took."""
        return self.num_pages * self.page_bytes


def make_requests(
    config: ModelConfig,
    count: int,
    *,
    prompt: int,
    tokens: int,
    shared: int = 0,
    sampling: SamplingSettings | None = None,
) -> list[Request]:
    """Requests of `prompt` ids each, the first `shared` of them the same, that write `tokens` tokens.

    >>> one, two = make_requests(ModelConfig(vocab_size=50), 2, prompt=4, tokens=3, shared=2)
    >>> one.prompt_ids[:2] == two.prompt_ids[:2], one.prompt_ids == two.prompt_ids, one.sampling.max_new_tokens
    (True, False, 3)
    """
    knobs = {"max_new_tokens": tokens, "min_new_tokens": tokens}
    base = SamplingSettings(temperature=0, **knobs) if sampling is None else sampling  # type: ignore[arg-type]
    beginning = random_ids(config, shared)
    return [
        Request(prompt_ids=[*beginning, *random_ids(config, prompt - shared, seed=1 + number)], sampling=base)
        for number in range(count)
    ]


def quantile(values: abc.Sequence[float], share: float = 0.5) -> float:
    """The value below which so large a share of all lies; the middle one, if nothing is said.

    >>> quantile([3.0, 1.0, 2.0]), quantile([1.0, 2.0, 3.0, 4.0], 0.99)
    (2.0, 4.0)
    """
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def poisson_arrivals(count: int, per_second: float, *, seed: int = 0) -> list[float]:
    """Seconds at which requests arrive, independent of each other, so many a second on average.

    >>> arrivals = poisson_arrivals(1000, 5.0)
    >>> arrivals == sorted(arrivals), abs(arrivals[-1] - 200) < 20
    (True, True)
    """
    return np.random.default_rng(seed).exponential(1 / per_second, count).cumsum().tolist()


def measure_requests(
    runner: Runner,
    tokenizer: Tokenizer,
    requests: abc.Sequence[Request],
    *,
    arrivals: abc.Sequence[float] | None = None,
    settings: SchedulerSettings = PLAIN,
) -> Served:
    """Answer requests as they arrive (None: all at once), and time every token."""
    own = runner.set_aside(None)
    scheduler = Scheduler(own, settings)
    coming = deque(zip(arrivals or [0.0] * len(requests), requests, strict=True))
    born, times = dict[Generation, float](), dict[Generation, list[float]]()
    began = time.perf_counter()
    while coming or not scheduler.is_idle:
        while coming and coming[0][0] <= time.perf_counter() - began:
            arrival, request = coming.popleft()
            text = prepare(own, tokenizer, request)
            born[text], times[text] = arrival, []
            scheduler.add(text)
        if scheduler.is_idle:
            time.sleep(max(0.0, coming[0][0] - (time.perf_counter() - began)))
            continue
        scheduler.step()
        now = time.perf_counter() - began
        for text, own_times in times.items():
            own_times += [now] * len(text.steps)
            text.steps.clear()
    seconds = time.perf_counter() - began - (0.0 if arrivals is None else arrivals[0])
    pool = own.pool
    return Served(
        num_tokens=sum(map(len, times.values())),
        seconds=seconds,
        first=tuple(own_times[0] - born[text] for text, own_times in times.items()),
        gaps=tuple(float(gap) for own_times in times.values() for gap in np.diff(own_times)),
        reading=scheduler.reading_seconds,
        choosing=scheduler.choosing_seconds,
        num_pages=0 if pool is None else pool.num_made,
        page_bytes=0 if pool is None else pool.page_bytes,
    )


def step_limit_seconds(
    config: ModelConfig,
    weights: Format,
    *,
    requests: int,
    positions: float,
    read_bytes_per_second: float,
    flops_per_second: float,
) -> float:
    """The least time of a step of some requests: every weight is read once, each has its products and its own cache."""
    read = weight_bytes_per_token(config, weights) + requests * positions * cache_bytes_per_position(config, weights)
    flops = requests * token_flops(config, positions)
    return max(read / read_bytes_per_second, flops / flops_per_second)


def token_flops(config: ModelConfig, positions: float) -> float:
    """FLOPs of one token that looks at so many positions; `count_flops` tells those of the average over a context.

    >>> config = ModelConfig(vocab_size=50, context_length=100)
    >>> token_flops(config, 30) == count_flops(config, context_length=60).forward, token_flops(config, 99) > token_flops(config, 50)
    (True, True)
    """
    full = config.context_length
    if 2 * positions <= full:
        return count_flops(config, context_length=max(1, int(2 * positions))).forward
    least, most = (count_flops(config, context_length=length).forward for length in (1, full))
    return most + (most - least) * (positions - full / 2) / max(1.0, full / 2)
