"""Many requests side by side: each gets, to the bit, what it would get alone, whatever the schedule; nothing leaks."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.engine.beam import BeamSettings, Search, search
from pellucid.engine.choices import Choices
from pellucid.engine.constraints.settings import ConstraintSettings
from pellucid.engine.generate import generate, prepare
from pellucid.engine.request import Request
from pellucid.engine.runners.build import build_runner
from pellucid.engine.runners.kernel_runner import KernelRunner
from pellucid.engine.runners.torch_runner import TorchRunner
from pellucid.engine.sampling.settings import SamplingSettings
from pellucid.engine.sampling.stage import FunctionStage
from pellucid.engine.scheduler import Scheduler
from pellucid.engine.settings import SchedulerSettings, SpeculationSettings
from pellucid.engine.step import Step
from pellucid.errors import SamplingError
from pellucid.events import MemoryRecorder

CONTEXT = 700  # nearly three pages
SHARED = [int(i) for i in np.random.default_rng(0).integers(0, 250, 300)]  # a page and a part of one
KNOBS = [
    {"temperature": 0, "max_new_tokens": 9},
    {"seed": 1, "max_new_tokens": 12},
    {"seed": 2, "max_new_tokens": 6, "mirostat": 2, "repetition_penalty": 1.3},
    {"seed": 3, "max_new_tokens": 20, "stop": ("l",)},
    {"seed": 5, "max_new_tokens": 8, "temperature": 0.7, "top_k": 12, "top_p": 0.95, "min_p": 0.01},
]


def request_of(number: int) -> Request:
    """The same request for the same number: prompts of all lengths, many with the same beginning, all that can be asked."""
    draw = random.Random(number)
    own = [draw.randrange(250) for _ in range(draw.choice((1, 3, 20, 90, 300)))]
    prompt = SHARED[: draw.choice((0, 0, 40, 256, 300))] + own
    knobs = dict(draw.choice(KNOBS))
    more = draw.choice(({}, {}, {"explain": True}, {"speculation": SpeculationSettings(ngram=1)}, {"num_choices": 3}))
    if more.get("num_choices"):
        knobs.setdefault("seed", 4), knobs.pop("temperature", None)
    form = ConstraintSettings(regex="[a-z ]{3,9}") if draw.random() < 0.15 else None
    return Request(prompt_ids=prompt, sampling=SamplingSettings(**knobs), constraint=form, **more)


def as_told(step: Step) -> object:
    """A step as it must be: how long a reading took, and what the cache held already, may differ."""
    account = step.account
    told = account and (account.stages, account.candidates, account.u, account.segment)
    return step.choice, step.id, step.text, step.position, step.logprob, step.finish_reason, told


def begin(runner, tokenizer, request):
    generation = prepare(runner, tokenizer, request)
    return generation if request.num_choices == 1 else Choices(generation)


@pytest.fixture(scope="module")
def model(merged_tokenizer, tiny_model):
    return tiny_model(merged_tokenizer.vocab_size, context_length=CONTEXT)


@pytest.fixture(scope="module")
def runner(model):
    torch.set_num_threads(1)
    found = build_runner(model)
    assert isinstance(found, KernelRunner)
    return found


@pytest.fixture(scope="module")
def alone(runner, merged_tokenizer):
    """What each request gets when nobody else is there; computed once."""
    known = {}

    def answer(number: int) -> list[object]:
        if number not in known:
            generation = generate(runner, merged_tokenizer, request_of(number))
            steps = generation if generation.request.num_choices == 1 else Choices(generation)
            known[number] = sorted(map(as_told, steps), key=lambda told: told[0])
        return known[number]

    return answer


def page_bytes(runner) -> int:
    return runner.pool.make_memory().nbytes


def check_empty(pool) -> None:
    """Every page that was made is free, or kept for texts to come by nobody but the tree."""
    nodes = [node for node in pool._nodes()]
    assert pool.num_used == 0
    assert len(pool.free) + len(nodes) == pool.num_made
    assert all(node.page.num_users == 0 and node.page.node is node for node in nodes)
    assert all(page.num_users == 0 and page.node is None for page in pool.free)
    assert len({id(page) for page in pool.free} | {id(node.page) for node in nodes}) == pool.num_made


@given(data=st.data())
@settings(max_examples=12, deadline=None)
def test_every_schedule_gives_the_texts_of_each_alone(runner, alone, merged_tokenizer, data):
    """Neighbours, places, pieces of prompts, hits of the cache, being put back: no bit of a step depends on any."""
    pages = data.draw(st.sampled_from([None, 7, 12]), label="pages")
    own = runner.set_aside(None if pages is None else pages * page_bytes(runner))
    chosen = SchedulerSettings(
        max_running=data.draw(st.sampled_from([1, 3, 32]), label="running"),
        prompt_rows=data.draw(st.sampled_from([1, 7, 64]), label="rows beside"),
        prompt_rows_alone=data.draw(st.sampled_from([5, 100, 512]), label="rows alone"),
        shares_prefixes=data.draw(st.booleans(), label="shares"),
    )
    scheduler = Scheduler(own, chosen)
    arrivals = data.draw(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 3)), min_size=1, max_size=8))
    works = []
    for number, gap in arrivals:
        works.append(begin(own, merged_tokenizer, request_of(number)))
        scheduler.add(works[-1], priority=gap % 2)
        for _ in range(gap):
            scheduler.step()
    scheduler.run()
    numbers = [number for number, _ in arrivals]
    for number, work in zip(numbers, works, strict=True):
        assert work.error is None
        assert sorted(map(as_told, work.steps), key=lambda told: told[0]) == alone(number)
    check_empty(own.pool)
