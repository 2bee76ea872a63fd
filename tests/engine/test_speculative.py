"""Speculation must be invisible: the same steps to the last bit, whatever is guessed; and it must save readings."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.engine.generate import generate, settle_seed
from pellucid.engine.request import Request
from pellucid.engine.runners.build import build_runner
from pellucid.engine.runners.runner import ReadPart
from pellucid.engine.runners.torch_runner import TorchRunner
from pellucid.engine.sampling.sampler import Sampler
from pellucid.engine.sampling.settings import SamplingSettings
from pellucid.engine.speculative import (
    DraftModel,
    Guesser,
    Price,
    PromptLookup,
    SpeculationSettings,
    build_guesser,
)
from pellucid.errors import ContextError, RequestError, SamplingError
from pellucid.events import NULL, MemoryRecorder

KNOBS = [
    {"temperature": 0},
    {"temperature": 0, "repetition_penalty": 1.5, "no_repeat_ngram": 2},
    {"seed": 6, "frequency_penalty": 0.5, "min_p": 0.02, "min_new_tokens": 6},
    {"seed": 7, "mirostat": 2, "mirostat_tau": 2.0},
    {"seed": 8, "xtc_probability": 0.5, "xtc_threshold": 0.05, "dry_multiplier": 0.8},
    {"seed": 10, "stop_ids": tuple(range(0, 250, 9))},
    {"seed": 9, "on_full": "slide", "max_new_tokens": 40},
    {"seed": 1},
    {"seed": 2, "temperature": 0.7, "top_k": 12, "top_p": 0.95},
    {"seed": 3, "stop": ("l", "\n")},
    {"seed": 4, "max_new_tokens": 5},
    {"seed": 5, "temperature": 3.0, "stop": ("\ufffd",)},
]


def generate_speculatively(
    runner,
    tokenizer,
    prompt_ids,
    settings=None,
    speculation=None,
    *,
    draft=None,
    guesser=None,
    extra=(),
    explain=False,
    recorder=NULL,
):
    """The steps of `generate` with guesses; what guessing brought is recorded when they end."""
    request = Request(
        prompt_ids=prompt_ids,
        sampling=settle_seed(settings or SamplingSettings(), recorder),
        stages=extra,
        explain=explain,
        speculation=speculation or SpeculationSettings(weighed=False),
        draft=draft,
    )
    steps = generate(runner, tokenizer, request, recorder=recorder)
    steps.guesser = guesser or steps.guesser

    def told():
        try:
            yield from steps
        finally:
            steps.report()

    return told()


class OneByOne(TorchRunner):
    """Reads one position at a time, so that the bits of a row depend on nothing but the ids before it."""

    exact = True

    def _read(self, part):
        rows = [super(OneByOne, self)._read(ReadPart(part.sequence, 1, 1)) for _ in range(part.count)]
        return np.concatenate(rows)[part.count - part.num_rows :]


class Noise:
    """Proposes anything: right for a while (it knows the text to come), then wrong, at places given in advance."""

    def __init__(self, text: list[int], wrong: frozenset[int]) -> None:
        self.text, self.wrong = text, wrong
        self.limits: list[int] = []

    def propose(self, sequence, limit):
        self.limits.append(limit)
        start = len(sequence)
        return [(self.text[i] + (i in self.wrong)) % 256 for i in range(start, min(start + limit, len(self.text)))]

    def truncate(self, length):
        pass

    def fork(self):
        return self


@dataclasses.dataclass
class Text:
    """What proposers look at of a sequence."""

    ids: list[int]
    num_prompt: int = 1

    def __len__(self) -> int:
        return len(self.ids)


@pytest.fixture(scope="session")
def models(byte_tokenizer, tiny_model):
    """Models of several tempers: from nearly fixed to nearly random texts."""
    return [tiny_model(byte_tokenizer.vocab_size, seed=seed, sharpness=s) for seed, s in enumerate((4, 10, 30, 60))]


@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_the_steps_are_those_of_plain_generation_to_the_bit(byte_tokenizer, models, data):
    runner = OneByOne(models[data.draw(st.integers(0, 3), label="model")])
    draft = OneByOne(models[data.draw(st.integers(0, 3), label="draft")]) if data.draw(st.booleans()) else None
    prompt = data.draw(st.lists(st.integers(0, 5), min_size=1, max_size=20), label="prompt")
    request = SamplingSettings(**data.draw(st.sampled_from(KNOBS)))
    speculation = SpeculationSettings(
        max_tokens=data.draw(st.integers(1, 9), label="max_tokens"),
        ngram=data.draw(st.integers(1, 3), label="ngram"),
        weighed=data.draw(st.booleans(), label="weighed"),
    )
    plain = list(generate(runner, byte_tokenizer, Request(prompt_ids=prompt, sampling=request)))
    assert list(generate_speculatively(runner, byte_tokenizer, prompt, request, speculation, draft=draft)) == plain


@given(data=st.data())
@settings(max_examples=20, deadline=None)
def test_no_guess_can_change_a_step(byte_tokenizer, models, data):
    runner = OneByOne(models[data.draw(st.integers(0, 3), label="model")])
    request = SamplingSettings(**data.draw(st.sampled_from(KNOBS)))
    plain = list(generate(runner, byte_tokenizer, Request(prompt_ids=[7, 8], sampling=request)))
    text = [7, 8, *(step.id for step in plain), 9, 9]
    noise = Noise(text, data.draw(st.frozensets(st.integers(0, 24)), label="wrong"))
    ahead = Guesser(noise, max_tokens=data.draw(st.integers(1, 9)), weighed=data.draw(st.booleans()))
    assert list(generate_speculatively(runner, byte_tokenizer, [7, 8], request, guesser=ahead)) == plain
    if request.on_full == "stop":  # after each row but the prompt's: it was at hand, or the model was read
        assert ahead.stats.num_accepted + ahead.stats.num_readings == len(plain) - 1


@pytest.mark.parametrize("knobs", KNOBS)
def test_a_runner_that_is_not_exact_gives_the_same_tokens_too(merged_tokenizer, tiny_model, knobs):
    runner, request = TorchRunner(tiny_model(merged_tokenizer.vocab_size)), SamplingSettings(**knobs)
    prompt = [5, 6, 7, 5, 6]
    plain = list(generate(runner, merged_tokenizer, Request(prompt_ids=prompt, sampling=request)))
    fast = list(generate_speculatively(runner, merged_tokenizer, prompt, request))
    assert [(step.id, step.text, step.finish_reason) for step in fast] == [
        (step.id, step.text, step.finish_reason) for step in plain
    ]
    assert [step.logprob for step in fast] == pytest.approx([step.logprob for step in plain], abs=1e-4)


@pytest.mark.parametrize("knobs", KNOBS)
def test_the_runner_that_people_get(merged_tokenizer, tiny_model, knobs):
    """Whatever `build_runner` chooses here: equal to the bit where it says that it is exact."""
    runner, request = build_runner(tiny_model(merged_tokenizer.vocab_size)), SamplingSettings(**knobs)
    prompt = [5, 6, 7, 5, 6, 7, 5]
    plain = list(generate(runner, merged_tokenizer, Request(prompt_ids=prompt, sampling=request)))
    for draft in (None, runner):
        fast = list(generate_speculatively(runner, merged_tokenizer, prompt, request, draft=draft))
        if runner.exact:
            assert fast == plain
        assert [step.id for step in fast] == [step.id for step in plain]


@pytest.mark.parametrize("knobs", [{"temperature": 0}, {"seed": 2}, {"seed": 8, "temperature": 1.5, "top_p": 0.9}])
def test_a_draft_draws_what_the_model_draws(byte_tokenizer, tiny_model, knobs):
    """A draft equal to the model is always right, also when sampling: it uses the draw of the position."""
    runner = OneByOne(tiny_model(byte_tokenizer.vocab_size, context_length=40, sharpness=8))
    request = SamplingSettings(max_new_tokens=24, **knobs)
    ahead = build_guesser(byte_tokenizer, request, SpeculationSettings(weighed=False), draft=runner, max_length=40)
    steps = list(generate_speculatively(runner, byte_tokenizer, [1, 2], request, guesser=ahead))
    assert len(steps) == 24
    assert len({step.id for step in steps}) > 3
    assert ahead.stats.num_readings == 4  # 1 + 3, then three times 1 + 7 ids, of which the last is cut short
    assert ahead.stats.num_accepted == 23 - 4


def test_the_reach_follows_the_luck(byte_tokenizer, models):
    runner = OneByOne(models[0])
    request = SamplingSettings(temperature=0)
    text = [1, *(step.id for step in generate(runner, byte_tokenizer, Request(prompt_ids=[1], sampling=request)))]
    for wrong, expected in ((frozenset(), [3, 7, 9, 0]), (frozenset(range(24)), [3, 1, 1, 1, 1])):
        proposer = Noise(text, wrong)
        ahead = Guesser(proposer, max_tokens=9, weighed=False)
        list(generate_speculatively(runner, byte_tokenizer, [1], request, guesser=ahead))
        assert proposer.limits[: len(expected)] == expected[: len(proposer.limits)]
        assert len(proposer.limits) >= 3


def test_guesses_that_bring_nothing_rest_and_try_again():
    """After some that were wrong it rests for 32 tokens; then one guess decides; at a price it rests sooner."""
    for row, first in ((0.0, 23), (0.5, 6), (1.0, 1)):
        price = Price(row=row)
        guesser = Guesser(Noise([0] * 300, frozenset()), max_tokens=4)
        guessed = []
        for _ in range(90):
            found = guesser.guess(Text([0]), 9, price)
            guessed.append(bool(found))
            guesser.judge(len(found), 0)
        assert guessed.index(False) == first
        assert guessed[first:].index(True) == 32
        assert guessed[first + 33] is False
    lucky = Guesser(Noise([0] * 300, frozenset()), max_tokens=4)
    for _ in range(90):
        found = lucky.guess(Text([0]), 9, Price(row=0.99))
        lucky.judge(len(found), len(found))
        assert found
    slow = Guesser(Noise([0] * 300, frozenset()), max_tokens=4)
    slow.guess(Text([0]), 9, Price())
    slow.luck = 0.9
    assert slow.seconds > 0
    assert slow.guess(Text([0]), 9, Price(row=0.1, token_seconds=1e6 * slow.seconds))  # a guess costs next to nothing
    assert not slow.guess(Text([0]), 9, Price(row=0.1, token_seconds=slow.seconds))  # it costs as much as a token


def test_a_draft_follows_cuts_and_forks(models):
    """However the text changes, a draft equal to the model guesses what the model would choose."""
    runner, request = OneByOne(models[1]), SamplingSettings(seed=4)
    sampler = Sampler(request, num_logits=258, num_known=258)
    draft = DraftModel(runner, sampler, {None}, 24)
    sequence = Text([1, 2, 3])
    for act in ("cut", "grow", "fork", "guessed", "grow", "cut", "guessed"):
        expected = Text([*sequence.ids])
        while len(expected.ids) < len(sequence.ids) + 3:
            row = runner.read([runner.start(expected.ids, max_length=24)])[0]
            expected.ids.append(sampler.choose(row, expected.ids, 1).id)
        guess = draft.propose(sequence, 3)
        assert guess == expected.ids[-3:]
        if act == "cut":
            sequence = Text([*sequence.ids[:2], 7, 7, 7])
            draft.truncate(2)
        elif act == "fork":
            other = draft.fork()
            other.propose(Text([*sequence.ids, 9, 9]), 3)
        else:
            sequence = Text([*sequence.ids, *(guess if act == "guessed" else [5])])


def test_copying_takes_few_readings(byte_tokenizer, tiny_model):
    """A text that repeats itself is read several tokens at a time."""
    model = tiny_model(byte_tokenizer.vocab_size, context_length=120)
    with torch.no_grad():  # each token now depends on the one before alone, so that a greedy text runs into a circle
        for block in model.blocks:
            block.attention.output.weight.zero_()
            block.mlp.down.weight.zero_()
    runner = OneByOne(model)
    request, recorder = SamplingSettings(temperature=0), MemoryRecorder()
    steps = list(generate_speculatively(runner, byte_tokenizer, [1, 2], request, recorder=recorder))
    assert steps == list(generate(runner, byte_tokenizer, Request(prompt_ids=[1, 2], sampling=request)))
    (event,) = recorder.events
    assert event.name == "engine.speculated"
    assert event.data["accepted"] + event.data["readings"] == len(steps) - 1
    assert event.data["readings"] < len(steps) / 2


def test_the_account_is_that_of_the_choice(byte_tokenizer, models):
    """Stages, candidates and draws are those of plain generation; what was read when is the runner's own affair."""
    runner, request = OneByOne(models[0]), SamplingSettings(seed=3, top_k=5, max_new_tokens=8)
    plain = list(generate(runner, byte_tokenizer, Request(prompt_ids=[1, 2], sampling=request, explain=True)))
    fast = list(generate_speculatively(runner, byte_tokenizer, [1, 2], request, draft=runner, explain=True))
    for one, two in zip(plain, fast, strict=True):
        assert (one.account.stages, one.account.candidates) == (two.account.stages, two.account.candidates)
        assert (one.account.u, one.account.segment) == (two.account.u, two.account.segment)


def test_counts_are_reported_when_the_listener_leaves(byte_tokenizer, models):
    recorder = MemoryRecorder()
    steps = generate_speculatively(
        OneByOne(models[0]), byte_tokenizer, [1], SamplingSettings(seed=1), recorder=recorder
    )
    next(steps)
    steps.close()
    assert recorder.names() == ["engine.speculated"]
    assert recorder.events[0].data["readings"] == 0


def test_a_draft_with_a_shorter_context_stops_guessing(byte_tokenizer, tiny_model):
    runner = OneByOne(tiny_model(byte_tokenizer.vocab_size, context_length=40))
    draft = OneByOne(tiny_model(byte_tokenizer.vocab_size, context_length=10))
    request = SamplingSettings(seed=4)
    plain = list(generate(runner, byte_tokenizer, Request(prompt_ids=[1] * 6, sampling=request)))
    assert list(generate_speculatively(runner, byte_tokenizer, [1] * 6, request, draft=draft)) == plain
    assert len(plain) > 10


def test_a_guess_that_leads_nowhere_is_dropped(byte_tokenizer, models):
    """A stage that lets nothing follow a token would end a text that goes there, but not one that was only guessed."""

    class NothingAfter:
        name = "nothing after"

        def __init__(self, token_id: int, real: list[int]) -> None:
            self.token_id, self.real, self.num_hit = token_id, real, 0

        def apply(self, logits_V, history):
            if list(history.ids) == self.real[: len(history.ids)] or history.ids[-1] != self.token_id:
                return logits_V
            self.num_hit += 1
            return np.full_like(logits_V, -np.inf)

    runner, draft = OneByOne(models[1]), OneByOne(models[2])
    request = SamplingSettings(temperature=0)
    plain = list(generate(runner, byte_tokenizer, Request(prompt_ids=[3], sampling=request)))
    guess = next(generate(draft, byte_tokenizer, Request(prompt_ids=[3, plain[0].id], sampling=request))).id
    stage = NothingAfter(guess, [3, *(step.id for step in plain)])
    fast = list(generate_speculatively(runner, byte_tokenizer, [3], request, draft=draft, extra=[stage]))
    assert stage.num_hit > 0
    assert fast == plain
    forbidden = SamplingSettings(temperature=0, ban=tuple(range(byte_tokenizer.vocab_size)))
    with pytest.raises(SamplingError, match="no token is left"):
        list(generate_speculatively(runner, byte_tokenizer, [3], forbidden, draft=draft))


def test_what_is_refused(byte_tokenizer, tiny_model, models):
    runner = OneByOne(models[0])
    small = OneByOne(tiny_model(byte_tokenizer.vocab_size - 1))
    with pytest.raises(RequestError, match="does not know every token"):
        generate_speculatively(runner, byte_tokenizer, [1], draft=small)
    with pytest.raises(ContextError):
        generate_speculatively(runner, byte_tokenizer, [1] * 24)
    for wrong in ({"max_tokens": 0}, {"ngram": 0}):
        with pytest.raises(RequestError, match="1 or more"):
            SpeculationSettings(**wrong)


@given(
    pieces=st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=9), min_size=1, max_size=6),
    ngram=st.integers(1, 3),
    limit=st.integers(1, 6),
)
def test_lookup_grown_piece_by_piece_equals_lookup_from_scratch(pieces, ngram, limit):
    lookup, ids = PromptLookup(ngram), []
    for number, piece in enumerate(pieces):
        if number % 3 == 2:
            ids = ids[: len(ids) // 2]
            lookup.truncate(len(ids))
        ids = [*ids, *piece]
        assert lookup.propose(Text(ids), limit) == look_up_plainly(ids, ngram, limit)


def look_up_plainly(ids, ngram, limit):
    def shared(place):
        past = zip(reversed(ids[:place]), reversed(ids), strict=False)
        return min(4 * ngram, next((n for n, (a, b) in enumerate(past) if a != b), place))

    places = [place for place in range(ngram, len(ids)) if shared(place) >= ngram][-8:]
    if not places:
        return []
    best = max(places, key=lambda place: (shared(place), place))
    guess = list(ids)
    for place in range(best, best + limit):
        guess.append(guess[place])
    return guess[len(ids) :]
