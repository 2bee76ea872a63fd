"""Requests from many threads and from asyncio: one thread answers them, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from pellucid.engine.choices import Choices
from pellucid.engine.generate import generate
from pellucid.engine.request import Request
from pellucid.engine.runners.build import build_runner
from pellucid.engine.sampling.settings import SamplingSettings
from pellucid.engine.sampling.stage import FunctionStage
from pellucid.engine.service import Service
from pellucid.engine.settings import SchedulerSettings
from pellucid.errors import CancelledRequestError, OutOfPagesError, QueueFullError, RequestError

PATIENCE_SECONDS = 60.0


@pytest.fixture(scope="module")
def runner(merged_tokenizer, tiny_model):
    return build_runner(tiny_model(merged_tokenizer.vocab_size, context_length=400))


@pytest.fixture
def service(runner, merged_tokenizer):
    with Service(runner, merged_tokenizer) as open_service:
        yield open_service


def asked(number: int, **more) -> Request:
    sampling = SamplingSettings(seed=number, max_new_tokens=5 + number % 7)
    return Request(prompt_ids=[1 + number % 9] * (1 + 37 * number % 90), sampling=sampling, **more)


def wait_until(condition) -> None:
    ends = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < ends, "nothing happened"
        time.sleep(0.001)


def test_every_thread_gets_its_own_text(service, runner, merged_tokenizer):
    found = {}

    def ask(number: int) -> None:
        found[number] = list(service.submit(asked(number)))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_SECONDS)
    assert found == {number: list(generate(runner, merged_tokenizer, asked(number))) for number in range(12)}
    wait_until(lambda: service.num_open == 0)


def test_streams_of_asyncio_come_side_by_side(service, runner, merged_tokenizer):
    async def ask(number: int) -> list:
        return [step async for step in service.submit(asked(number))]

    async def ask_all() -> list:
        return await asyncio.wait_for(asyncio.gather(*map(ask, range(8))), PATIENCE_SECONDS)

    assert asyncio.run(ask_all()) == [list(generate(runner, merged_tokenizer, asked(number))) for number in range(8)]


def test_all_choices_come_to_their_ends(service, runner, merged_tokenizer):
    request = asked(3, num_choices=3)
    expected = Choices(generate(runner, merged_tokenizer, request)).complete()
    stream = service.submit(request)
    assert stream.complete() == expected == stream.complete()


def test_a_request_that_is_cancelled_ends_and_gives_its_memory_back(service):
    """Within one step: of the two texts, which would go on for 300 tokens, none takes another pass."""
    slow = FunctionStage("slow", lambda logits_V, history: (time.sleep(0.002), logits_V)[1])
    request = Request(prompt_ids=[1], sampling=SamplingSettings(seed=1, ban=(0, 1, 2)), stages=[slow])
    streams = [service.submit(request), service.submit(request)]
    for stream in streams:
        next(stream)
        stream.cancel()
        stream.cancel()
    for stream in streams:
        with pytest.raises(CancelledRequestError, match="was cancelled"):
            list(stream)
    wait_until(lambda: service.num_open == 0)
    assert service.runner.pool.num_used == 0


def test_more_than_the_queue_holds_is_refused(runner, merged_tokenizer):
    gate = threading.Event()

    def wait(logits_V, history):
        gate.wait(PATIENCE_SECONDS)
        return logits_V

    held = Request(
        prompt_ids=[1], sampling=SamplingSettings(seed=1, max_new_tokens=1), stages=[FunctionStage("wait", wait)]
    )
    with Service(runner, merged_tokenizer, SchedulerSettings(max_running=1, max_waiting=1)) as small:
        streams = [small.submit(held), small.submit(held)]
        with pytest.raises(QueueFullError, match="too many requests wait") as refused:
            small.submit(held)
        assert refused.value.found == "2 requests"
        gate.set()
        assert [len(list(stream)) for stream in streams] == [1, 1]
        wait_until(lambda: small.num_open == 0)
        assert len(list(small.submit(held))) == 1


def test_what_cannot_be_is_refused_to_whoever_asks(service):
    with pytest.raises(RequestError, match="empty"):
        service.submit(Request(prompt_ids=[]))
    assert service.num_open == 0


def test_memory_that_holds_no_text_is_refused_at_once(runner, merged_tokenizer):
    for memory_bytes in (1, 0, -5):
        with pytest.raises(OutOfPagesError, match="no memory"):
            Service(runner, merged_tokenizer, memory_bytes=memory_bytes)


def test_an_error_reaches_its_own_stream_alone(service, runner, merged_tokenizer):
    def broken(logits_V, history):
        raise ZeroDivisionError("a caller's stage")

    bad = service.submit(Request(prompt_ids=[1], stages=[FunctionStage("broken", broken)]))
    good = service.submit(asked(2))
    with pytest.raises(ZeroDivisionError, match="a caller's stage"):
        next(bad)
    assert list(good) == list(generate(runner, merged_tokenizer, asked(2)))


def test_a_service_that_is_closed_ends_what_runs(runner, merged_tokenizer):
    slow = FunctionStage("slow", lambda logits_V, history: (time.sleep(0.002), logits_V)[1])
    closed = Service(runner, merged_tokenizer)
    stream = closed.submit(Request(prompt_ids=[1], sampling=SamplingSettings(seed=1, ban=(0, 1, 2)), stages=[slow]))
    next(stream)
    closed.close()
    closed.close()
    with pytest.raises(CancelledRequestError, match="was closed"):
        list(stream)
    with pytest.raises(CancelledRequestError, match="is closed"):
        closed.submit(asked(1))


def test_the_first_of_equals_and_the_lowest_priority_number_come_first(runner, merged_tokenizer):
    """One at a time: the order of the first steps is the order in which requests are served."""
    order, gate = [], threading.Event()

    def note(name: str) -> FunctionStage:
        def apply(logits_V, history):
            gate.wait(PATIENCE_SECONDS)
            order.append(name)
            return logits_V

        return FunctionStage(name, apply)

    one = SamplingSettings(seed=1, max_new_tokens=1)
    with Service(runner, merged_tokenizer, SchedulerSettings(max_running=1)) as small:
        streams = [small.submit(Request(prompt_ids=[1], sampling=one, stages=[note("first")]))]
        for name, priority in (("late", 1), ("second", 0), ("urgent", -1), ("third", 0)):
            streams.append(small.submit(Request(prompt_ids=[1], sampling=one, stages=[note(name)]), priority=priority))
        gate.set()
        for stream in streams:
            list(stream)
    assert order[1:] == ["urgent", "second", "third", "late"] or order == ["urgent", "first", "second", "third", "late"]
