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
from pellucid.engine.runners import kernel_runner
from pellucid.engine.runners.build import build_runner
from pellucid.engine.runners.kernel_runner import KernelRunner
from pellucid.engine.runners.kernels.launch import most_threads
from pellucid.engine.runners.torch_runner import TorchRunner
from pellucid.engine.sampling.settings import SamplingSettings
from pellucid.engine.sampling.stage import FunctionStage
from pellucid.engine.scheduler import Scheduler
from pellucid.engine.settings import SchedulerSettings, SpeculationSettings
from pellucid.engine.step import Step
from pellucid.errors import OutOfPagesError, SamplingError
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
    """One thread; where two are asked for, they get tasks, however small the model is."""
    torch.set_num_threads(1)
    found = build_runner(model)
    assert isinstance(found, KernelRunner)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernel_runner, "SERIAL_BYTES", 0)
        yield found


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
    nodes = list(pool._nodes())
    assert pool.num_used == 0
    assert len(pool.free) + len(nodes) == pool.num_made
    assert all(node.page.num_users == 0 and node.page.node is node for node in nodes)
    assert all(page.num_users == 0 and page.node is None for page in pool.free)
    assert len({id(page) for page in pool.free} | {id(node.page) for node in nodes}) == pool.num_made


@given(data=st.data())
@settings(max_examples=12, deadline=None)
def test_every_schedule_gives_the_texts_of_each_alone(runner, alone, merged_tokenizer, data):
    """Neighbours, places, pieces of prompts, hits of the cache, being put back, threads: no bit of a step depends on any."""
    pages = data.draw(st.sampled_from([None, 7, 12]), label="pages")
    own = runner.set_aside(None if pages is None else pages * page_bytes(runner))
    own.num_threads = min(data.draw(st.sampled_from([1, 2]), label="threads"), most_threads())
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


def outcome(work) -> object:
    return work.error or [step.id for step in work.steps]


def test_an_error_of_one_request_ends_that_one_alone(runner, merged_tokenizer):
    """A stage of its own, its constraint, its stop condition, a logit bias that leaves nothing: whoever is beside goes on."""

    def broken(logits_V, history):
        if len(history.ids) > 5:
            raise ZeroDivisionError("a caller's stage")
        return logits_V

    good = Request(prompt_ids=[1, 2], sampling=SamplingSettings(seed=1, max_new_tokens=9))
    bad = Request(prompt_ids=[1, 2, 3], sampling=SamplingSettings(seed=1), stages=[FunctionStage("broken", broken)])
    none_left = Request(prompt_ids=[4], sampling=SamplingSettings(seed=1, ban=tuple(range(286))))
    expected = [step.id for step in generate(runner, merged_tokenizer, good)]
    own = runner.set_aside(None)
    works = [prepare(own, merged_tokenizer, request) for request in (good, bad, none_left, good)]
    scheduler = Scheduler(own)
    for work in works:
        scheduler.add(work)
    scheduler.run()
    assert outcome(works[0]) == outcome(works[3]) == expected
    assert isinstance(works[1].error, ZeroDivisionError) and len(works[1].steps) == 3
    assert isinstance(works[2].error, SamplingError) and not works[2].steps
    with pytest.raises(ZeroDivisionError, match="a caller's stage"):
        list(works[1])
    check_empty(own.pool)


def test_nobody_waits_for_a_long_prompt(runner, merged_tokenizer):
    """Every step of the scheduler gives each text in progress its token, while a prompt is read in pieces."""
    own = runner.set_aside(None)
    scheduler = Scheduler(own, SchedulerSettings(prompt_rows=50))
    short = prepare(
        own, merged_tokenizer, Request(prompt_ids=[1], sampling=SamplingSettings(seed=1, max_new_tokens=40))
    )
    scheduler.add(short)
    scheduler.step()
    long = prepare(own, merged_tokenizer, Request(prompt_ids=[7] * 495, sampling=SamplingSettings(seed=2)))
    scheduler.add(long)
    for number in range(2, 12):
        scheduler.step()
        assert len(short.steps) == number
        assert len(long.steps) == (number == 11)  # 495 ids, 50 at a time


def test_a_beginning_that_is_shared_is_read_once(model, merged_tokenizer):
    """Sixteen requests with the same 300 ids before their own: even when all come at once."""
    counting = CountingRows(model)
    prompts = [[*SHARED, 7, number, number] for number in range(16)]
    scheduler = Scheduler(counting)
    works = [
        prepare(
            counting, merged_tokenizer, Request(prompt_ids=ids, sampling=SamplingSettings(seed=1, max_new_tokens=1))
        )
        for ids in prompts
    ]
    for work in works:
        scheduler.add(work)
    scheduler.run()
    assert counting.num_read == 303 + 15 * 2  # the first whole; of each other its own two, since 301 are alike
    one = Request(prompt_ids=prompts[3], sampling=SamplingSettings(seed=1, max_new_tokens=1))
    assert outcome(works[3]) == [step.id for step in generate(counting, merged_tokenizer, one)]


class CountingRows(KernelRunner):
    """Counts the ids that are read."""

    def __init__(self, model) -> None:
        plain = build_runner(model)
        super().__init__(plain.packed, num_threads=1, arithmetic=plain.arithmetic)
        self.num_read = 0

    def read_parts(self, parts):
        self.num_read += sum(part.count for part in parts)
        return super().read_parts(parts)


def test_a_request_that_is_dropped_gives_its_memory_back(runner, merged_tokenizer):
    own = runner.set_aside(None)
    scheduler = Scheduler(own)
    works = [prepare(own, merged_tokenizer, Request(prompt_ids=[number] * 300)) for number in (1, 2)]
    for work in works:
        scheduler.add(work)
    scheduler.step()
    scheduler.drop(works[0])
    scheduler.step()
    assert own.pool.num_used == len(works[1].sequence.cache.pages) == 2
    scheduler.drop(works[1])
    assert scheduler.is_idle
    check_empty(own.pool)


def test_who_is_put_back_is_told_and_goes_on_with_the_same_bits(runner, merged_tokenizer):
    """Two texts of two pages each and memory for three: the younger gives up its pages and is read again later."""
    recorder = MemoryRecorder()
    own = runner.set_aside(3 * page_bytes(runner))
    scheduler = Scheduler(own, recorder=recorder)
    asked = [Request(prompt_ids=[n] * 250, sampling=SamplingSettings(seed=n, max_new_tokens=20)) for n in (1, 2)]
    works = [prepare(own, merged_tokenizer, request) for request in asked]
    for work in works:
        scheduler.add(work)
    scheduler.run()
    assert recorder.names() == ["engine.put_back"]
    assert [outcome(work) for work in works] == [
        [step.id for step in generate(runner, merged_tokenizer, request)] for request in asked
    ]
    check_empty(own.pool)


def test_one_text_that_never_fits_fails_with_a_word(runner, merged_tokenizer):
    own = runner.set_aside(page_bytes(runner))
    scheduler = Scheduler(own)
    work = prepare(own, merged_tokenizer, Request(prompt_ids=[1] * 300))
    scheduler.add(work)
    scheduler.run()
    with pytest.raises(OutOfPagesError, match="no memory for keys and values is left"):
        list(work)
    check_empty(own.pool)


def test_a_text_that_is_shared_may_be_cut_and_goes_its_own_way(runner):
    """What is written after a cut is a copy: whoever took the page over still reads what it was."""
    own = runner.set_aside(None)
    first = own.start(SHARED, max_length=400)
    expected_V = own.read([first])[0].copy()
    first.cache.publish(first.ids)
    second = own.start(SHARED, max_length=400)
    second.cache.adopt(second.ids)
    assert second.cache.length == 299
    first.truncate(280)
    first.extend([9] * 20)
    own.read([first])
    assert np.array_equal(own.read([second])[0], expected_V)


def test_beams_are_searched_beside_texts(runner, merged_tokenizer):
    own = runner.set_aside(None)
    settings, prompt = BeamSettings(num_beams=3, num_best=3, max_new_tokens=12), SHARED[:270]
    found = Search(own, merged_tokenizer, prompt, settings)
    text = prepare(own, merged_tokenizer, request_of(3))
    scheduler = Scheduler(own)
    scheduler.add(text)
    scheduler.add(found)
    scheduler.run()
    assert found.best() == search(runner, merged_tokenizer, prompt, settings)
    check_empty(own.pool)


def test_bits_do_differ_where_a_runner_is_not_exact(merged_tokenizer, tiny_model):
    """The check can fail: torch orders its sums by the number of rows."""
    wide = {"d_model": 512, "d_ff": 1024, "head_dim": 64, "n_heads": 8, "context_length": 200}
    plain = TorchRunner(tiny_model(merged_tokenizer.vocab_size, sharpness=3.0, **wide))
    request = Request(prompt_ids=SHARED[:100], sampling=SamplingSettings(seed=1, max_new_tokens=20))
    whole = [step.logprob for step in generate(plain, merged_tokenizer, request)]
    work = prepare(plain, merged_tokenizer, request)
    scheduler = Scheduler(plain, SchedulerSettings(prompt_rows_alone=7))
    scheduler.add(work)
    scheduler.run()
    assert [step.logprob for step in work.steps] != whole
    assert [step.logprob for step in work.steps] == pytest.approx(whole, abs=1e-3)


@pytest.mark.parametrize("build", [build_runner, TorchRunner])
def test_a_generation_can_be_left_and_taken_up_again(merged_tokenizer, tiny_model, build):
    plain = build(tiny_model(merged_tokenizer.vocab_size))
    request = Request(prompt_ids=list(range(20)), sampling=SamplingSettings(seed=1))
    whole = list(generate(plain, merged_tokenizer, request))
    generation = generate(plain, merged_tokenizer, request)
    assert [next(generation), *generation] == whole
    assert generation.finish_reason == whole[-1].finish_reason
    assert list(generation) == []


def test_the_request_that_is_kept_can_be_asked_again(merged_tokenizer, tiny_model):
    """Its seed is the one that was drawn."""
    plain = TorchRunner(tiny_model(merged_tokenizer.vocab_size))
    asked = Request(prompt_ids=[1], constraint=ConstraintSettings(regex="[a-z]+"), speculation=SpeculationSettings())
    generation = generate(plain, merged_tokenizer, asked)
    steps = list(generation)
    assert generation.request.sampling.seed is not None
    assert list(generate(plain, merged_tokenizer, generation.request)) == steps


def test_what_cannot_be_is_refused_at_the_call(merged_tokenizer, tiny_model):
    plain = TorchRunner(tiny_model(merged_tokenizer.vocab_size))
    with pytest.raises(SamplingError, match="regex"):
        generate(plain, merged_tokenizer, Request(prompt_ids=[1], constraint=ConstraintSettings(regex="(")))
