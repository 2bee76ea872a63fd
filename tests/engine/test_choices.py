"""Several choices from one seed: each is what it would be alone."""

from __future__ import annotations

import pytest

from pellucid.engine.choices import Choices
from pellucid.engine.generate import complete, generate
from pellucid.engine.request import Request
from pellucid.engine.runners.runner import Runner
from pellucid.engine.runners.torch_runner import TorchRunner
from pellucid.engine.sampling.sampler import Sampler
from pellucid.engine.sampling.settings import SamplingSettings
from pellucid.engine.settings import SpeculationSettings
from pellucid.errors import ContextError, RequestError, SamplingError
from pellucid.events import NULL, MemoryRecorder

KNOBS = [
    {},
    {"repetition_penalty": 1.3, "xtc_probability": 0.5, "xtc_threshold": 0.05},
    {"temperature": 0.7, "top_k": 12},
    {"stop": ("l", "o")},
    {"max_new_tokens": 5},
]


class Counting(Runner):
    """A runner that notes how many ids of each sequence it reads at once."""

    def __init__(self, runner: Runner) -> None:
        self.runner, self.config, self.name, self.exact = runner, runner.config, runner.name, runner.exact
        self.batches = []

    def start(self, ids, *, max_length):
        return self.runner.start(ids, max_length=max_length)

    def read_parts(self, parts):
        self.batches.append([part.count for part in parts])
        return self.runner.read_parts(parts)


@pytest.fixture
def runner(merged_tokenizer, tiny_model):
    return TorchRunner(tiny_model(merged_tokenizer.vocab_size, sharpness=15))


@pytest.mark.parametrize("knobs", KNOBS)
def test_each_choice_is_the_text_it_would_be_alone(runner, merged_tokenizer, knobs):
    settings = SamplingSettings(seed=5, **knobs)
    found = Choices(begin(runner, merged_tokenizer, [0, 9], settings, 4)).complete()
    assert found[0] == complete(runner, merged_tokenizer, Request(prompt_ids=[0, 9], sampling=settings))
    for index, done in enumerate(found):
        assert list(done.ids) == alone(runner, merged_tokenizer, [0, 9], settings, index, len(done.ids))
    assert len({done.ids for done in found}) == 4
    assert Choices(begin(runner, merged_tokenizer, [0, 9], settings, 2)).complete() == found[:2]


def begin(runner, tokenizer, prompt, settings, num_choices, recorder=NULL):
    request = Request(prompt_ids=prompt, sampling=settings, num_choices=num_choices)
    return generate(runner, tokenizer, request, recorder=recorder)


def alone(runner, tokenizer, ids, settings, index, num_new):
    """The ids of one choice, reading everything again for every token."""
    sampler = Sampler(settings, num_logits=runner.config.vocab_size, num_known=tokenizer.vocab_size, choice=index)
    text = list(ids)
    for _ in range(num_new):
        row = runner.read([runner.start(text, max_length=24)])[0]
        text.append(sampler.choose(row, text, len(ids)).id)
    return text[len(ids) :]


def test_the_prompt_is_read_once_and_rounds_are_shared(runner, merged_tokenizer):
    counting = Counting(runner)
    prompt, settings = [0, 9, 4, 4, 7], SamplingSettings(seed=1, max_new_tokens=6)
    steps = list(Choices(begin(counting, merged_tokenizer, prompt, settings, 3)))
    assert counting.batches[:2] == [[len(prompt)], [1, 1, 1]]
    assert sum(map(len, counting.batches[1:])) == len(steps) - 3  # nobody reads the last token of a text
    rounds = [step.position for step in steps]
    assert rounds == sorted(rounds)
    for index in range(3):
        mine = [step for step in steps if step.choice == index]
        assert [step.finish_reason is None for step in mine] == [True] * (len(mine) - 1) + [False]


def test_one_choice_is_generate(runner, merged_tokenizer):
    settings = SamplingSettings(seed=3)
    steps = list(Choices(begin(runner, merged_tokenizer, [1], settings, 1)))
    assert steps == list(generate(runner, merged_tokenizer, Request(prompt_ids=[1], sampling=settings)))


def test_greedy_is_one_choice(runner, merged_tokenizer):
    settings = SamplingSettings(temperature=0)
    assert Choices(begin(runner, merged_tokenizer, [1], settings, 1)).complete() == (
        complete(runner, merged_tokenizer, Request(prompt_ids=[1], sampling=settings)),
    )
    with pytest.raises(SamplingError, match="same text"):
        Choices(begin(runner, merged_tokenizer, [1], settings, 2))


def test_choices_may_be_guessed_ahead(runner, merged_tokenizer):
    plain, fast = (
        Choices(
            generate(
                runner,
                merged_tokenizer,
                Request(prompt_ids=[1, 1], sampling=SamplingSettings(seed=2), num_choices=3, speculation=ahead),
            )
        ).complete()
        for ahead in (None, SpeculationSettings())
    )
    assert [done.ids for done in fast] == [done.ids for done in plain]


def test_one_open_seed_is_drawn_for_all(runner, merged_tokenizer):
    recorder = MemoryRecorder()
    found = Choices(begin(runner, merged_tokenizer, [1], SamplingSettings(), 3, recorder=recorder)).complete()
    assert recorder.names() == ["engine.seed_drawn"]
    assert {done.seed for done in found} == {recorder.events[0].data["seed"]}


def test_what_is_refused_at_the_call(runner, merged_tokenizer):
    with pytest.raises(SamplingError, match="1 or more"):
        Choices(begin(runner, merged_tokenizer, [1], SamplingSettings(), 0))
    with pytest.raises(RequestError, match="sliding window"):
        Choices(begin(runner, merged_tokenizer, [1], SamplingSettings(on_full="slide", max_new_tokens=9), 2))
    with pytest.raises(RequestError, match="empty"):
        Choices(begin(runner, merged_tokenizer, [], SamplingSettings(), 2))
    with pytest.raises(ContextError):
        Choices(begin(runner, merged_tokenizer, [1] * 24, SamplingSettings(), 2))
