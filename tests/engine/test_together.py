"""Many generations of one runner, a token each per round: what each writes is what it would write alone."""

from __future__ import annotations

import pytest

from pellucid.engine.constraints.settings import ConstraintSettings
from pellucid.engine.generate import Generation, advance, generate
from pellucid.engine.request import Request
from pellucid.engine.runners.build import build_runner
from pellucid.engine.runners.torch_runner import TorchRunner
from pellucid.engine.sampling.settings import SamplingSettings
from pellucid.engine.settings import SpeculationSettings
from pellucid.engine.step import Step
from pellucid.errors import SamplingError

SLIDING = SamplingSettings(seed=4, on_full="slide", keep_first=2, max_new_tokens=40)
REQUESTS = [
    Request(prompt_ids=[1, 2, 3], sampling=SamplingSettings(temperature=0, max_new_tokens=9)),
    Request(prompt_ids=list(range(20)), sampling=SamplingSettings(seed=1)),
    Request(prompt_ids=[7], sampling=SamplingSettings(seed=2, mirostat=2, repetition_penalty=1.3)),
    Request(prompt_ids=[9, 9], sampling=SLIDING),
    Request(prompt_ids=[5] * 12, sampling=SamplingSettings(seed=3, stop=("l",)), explain=True),
    Request(prompt_ids=[4], sampling=SamplingSettings(seed=8), constraint=ConstraintSettings(regex="[a-z]{3,9}")),
]


def without_times(step: Step) -> object:
    """A step as it must be: how long a reading took, and with whom, may differ."""
    account = step.account
    told = account and (account.stages, account.candidates, account.u, account.reading.num_computed)
    return step.id, step.text, step.position, step.logprob, step.finish_reason, told


@pytest.mark.parametrize("build", [build_runner, TorchRunner])
@pytest.mark.parametrize("every", [1, 3])
def test_requests_that_come_one_after_the_other_are_answered_as_if_alone(merged_tokenizer, tiny_model, build, every):
    """A new request joins every round, or every third: its whole prompt is read beside the others' single tokens."""
    runner = build(tiny_model(merged_tokenizer.vocab_size))
    alone = [[without_times(step) for step in generate(runner, merged_tokenizer, request)] for request in REQUESTS]
    waiting, running, found = list(enumerate(REQUESTS)), list[tuple[int, Generation]](), [[] for _ in REQUESTS]
    number = 0
    while waiting or running:
        if waiting and number % every == 0:
            place, request = waiting.pop(0)
            running.append((place, generate(runner, merged_tokenizer, request)))
        steps = advance([generation for _, generation in running]) if running else []
        for (place, _), step in zip(running, steps, strict=True):
            found[place].append(without_times(step))
        running = [(place, generation) for place, generation in running if generation.finish_reason is None]
        number += 1
    assert found == alone


def test_a_generation_can_be_left_and_taken_up_again(merged_tokenizer, tiny_model):
    runner = TorchRunner(tiny_model(merged_tokenizer.vocab_size))
    whole = list(generate(runner, merged_tokenizer, REQUESTS[1]))
    generation = generate(runner, merged_tokenizer, REQUESTS[1])
    assert [next(generation), *generation] == whole
    assert generation.finish_reason == whole[-1].finish_reason
    assert list(generation) == []


def test_the_request_that_is_kept_can_be_asked_again(merged_tokenizer, tiny_model):
    """Its seed is the one that was drawn."""
    runner = TorchRunner(tiny_model(merged_tokenizer.vocab_size))
    asked = Request(prompt_ids=[1], constraint=ConstraintSettings(regex="[a-z]+"), speculation=SpeculationSettings())
    generation = generate(runner, merged_tokenizer, asked)
    steps = list(generation)
    assert generation.request.sampling.seed is not None
    assert list(generate(runner, merged_tokenizer, generation.request)) == steps


def test_what_cannot_be_is_refused_at_the_call(merged_tokenizer, tiny_model):
    runner = TorchRunner(tiny_model(merged_tokenizer.vocab_size))
    with pytest.raises(SamplingError, match="regex"):
        generate(runner, merged_tokenizer, Request(prompt_ids=[1], constraint=ConstraintSettings(regex="(")))
