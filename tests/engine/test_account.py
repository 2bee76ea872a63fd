"""The account of a step: its figures must add up, and asking for it must change nothing."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor

from pellucid.engine.account import account_stage, score_prompt
from pellucid.engine.generate import generate
from pellucid.engine.request import Request
from pellucid.engine.runners.torch_runner import TorchRunner
from pellucid.engine.sampling.distribution import BLOCK, Distribution
from pellucid.engine.sampling.settings import SamplingSettings
from pellucid.engine.sampling.stage import FunctionStage
from pellucid.engine.simple import next_logits
from pellucid.model.context import Context
from pellucid.model.core import ExplicitCore
from pellucid.planning.shapes import part_shapes

SETTINGS = SamplingSettings(temperature=0.8, top_k=20, top_p=0.9, seed=3, max_new_tokens=6)


@pytest.fixture
def steps(merged_tokenizer, tiny_model):
    model = tiny_model(merged_tokenizer.vocab_size, sharpness=15)
    return list(
        generate(
            TorchRunner(model),
            merged_tokenizer,
            Request(prompt_ids=merged_tokenizer.encode_prompt("hello"), sampling=SETTINGS, explain=True),
        )
    )


def test_no_account_unless_asked(merged_tokenizer, tiny_model):
    model = tiny_model(merged_tokenizer.vocab_size)
    assert all(
        step.account is None
        for step in generate(TorchRunner(model), merged_tokenizer, Request(prompt_ids=[0], sampling=SETTINGS))
    )


def test_stages_are_told_in_their_order(steps, merged_tokenizer):
    for step in steps:
        assert [stage.name for stage in step.account.stages] == ["model", "temperature 0.8", "top-k 20", "top-p 0.9"]
        model, heat, top_k, top_p = step.account.stages
        assert [model.mass_kept, heat.mass_kept] == pytest.approx([1, 1])
        assert model.num_kept == heat.num_kept == merged_tokenizer.vocab_size
        assert top_k.num_kept == 20
        assert top_p.num_kept <= 20
        assert top_p.mass_kept >= 0.9
        assert heat.entropy_bits < model.entropy_bits  # below 1 a temperature sharpens


def test_probabilities_add_up(merged_tokenizer, tiny_model):
    """Shown in full, every column sums to one, and each stage's share kept is the sum of what went in and stayed."""
    model = tiny_model(merged_tokenizer.vocab_size, sharpness=15)
    settings = SamplingSettings(temperature=0.8, top_k=5, top_p=0.9, seed=3, max_new_tokens=3)
    for step in generate(
        TorchRunner(model), merged_tokenizer, Request(prompt_ids=[0], sampling=settings, explain=True)
    ):
        account = step.account
        assert sum(candidate.probabilities[-1] for candidate in account.candidates) == pytest.approx(1)
        before, after = ([c.probabilities[i] for c in account.candidates] for i in (1, 2))
        kept = sum(b for b, a in zip(before, after, strict=True) if a > 0)
        assert account.stages[2].mass_kept == pytest.approx(kept)


def test_the_draw_lies_in_the_segment_of_the_choice(steps):
    for step in steps:
        account = step.account
        start, end = account.segment
        assert start <= account.u < end
        chosen = next(candidate for candidate in account.candidates if candidate.id == step.id)
        assert end - start == pytest.approx(chosen.probabilities[-1])
        assert math.log(chosen.probabilities[0]) == pytest.approx(step.logprob)
        assert (account.id, account.text) == (step.id, chosen.text)


def test_shapes_lead_from_ids_to_logits(steps, merged_tokenizer):
    first, second = (step.account.shapes for step in steps[:2])
    prompt_length = steps[0].position
    assert first[0] == ("ids", (1, prompt_length))
    assert first[-1] == ("logits", (1, 1, merged_tokenizer.vocab_size))  # only the last position is scored
    assert second[0] == ("ids", (1, 1))
    assert dict(second)["blocks.*.attention.scores"] == (1, 4, 1, prompt_length + 1)
    assert dict(second)["blocks.*.output"] == dict(second)["final_norm"] == (1, 1, 32)


def test_greedy_has_no_draw(merged_tokenizer, tiny_model):
    model = tiny_model(merged_tokenizer.vocab_size)
    step = next(
        generate(
            TorchRunner(model),
            merged_tokenizer,
            Request(prompt_ids=[0], sampling=SamplingSettings(temperature=0), explain=True),
        )
    )
    assert step.account.u is None
    assert step.account.segment == (0.0, 1.0)
    assert step.account.stages[-1].name == "greedy"
    assert step.account.stages[-1].num_kept == 1
    assert step.account.stages[-1].entropy_bits == 0.0


@pytest.mark.parametrize(
    "axes",
    [
        {},
        {"position": "learned", "norm": "layer", "feed_forward": "gelu", "qk_norm": False, "dropout": 0.5},
        {"position": "sinusoidal", "tied_head": True, "n_kv_heads": 4, "d_ff": 40},
    ],
)
@pytest.mark.parametrize(("num_cached", "num_new"), [(0, 5), (4, 1), (3, 2)])
def test_shapes_are_those_of_the_built_model(tiny_model, axes, num_cached, num_new):
    model = tiny_model(50, **axes).eval()
    cache, seen = model.new_cache(8), [("ids", (1, num_new))]

    def note(name: str, x: Tensor) -> Tensor:
        if not name.startswith("blocks.") or name.startswith("blocks.0."):
            seen.append((name.replace("blocks.0", "blocks.*"), tuple(x.shape)))
        return x

    with torch.inference_mode():
        if num_cached:
            model(torch.zeros(1, num_cached, dtype=torch.long), Context(cache=cache))
        context = Context(cache=cache, core=ExplicitCore(), tap=note)
        model(torch.zeros(1, num_new, dtype=torch.long), context, last_only=True)
    assert part_shapes(model.config, num_new=num_new, num_all=num_cached + num_new) == tuple(seen)


def softmax(logits_V: np.ndarray) -> np.ndarray:
    weights_V = np.exp(logits_V.astype(np.float64) - logits_V.max())
    return weights_V / weights_V.sum()


rows = arrays(
    np.float32,
    st.integers(1, 3 * BLOCK),
    elements=st.sampled_from([-np.inf, -3.0, 0.0, 0.25, 1.0, 7.5]),
).filter(lambda row: row.max() > -np.inf)


@given(rows, st.integers(1, 9))
def test_a_row_is_told_as_textbook_arithmetic_has_it(logits_V, count):
    row, p_V = Distribution(logits_V), softmax(logits_V)
    possible = np.flatnonzero(p_V)
    assert row.num_kept == possible.size
    assert row.top(count) == tuple(sorted(possible.tolist(), key=lambda i: (-logits_V[i], i))[:count])
    assert row.entropy_bits() == pytest.approx(-(p_V[possible] * np.log2(p_V[possible])).sum(), abs=1e-5)
    assert np.exp(row.logprobs(possible)) == pytest.approx(p_V[possible], rel=1e-5)
    for token_id in possible[:3].tolist():
        start, end = row.segment(token_id)
        assert start == pytest.approx(p_V[:token_id].sum(), abs=1e-6)
        assert end - start == pytest.approx(p_V[token_id], abs=1e-6)


@given(st.integers(0, 2**32), st.integers(1, 12))
def test_the_likeliest_of_a_long_row_without_sorting_it(seed, count):
    logits_V = np.random.default_rng(seed).normal(size=20 * BLOCK + 7).astype(np.float32).round(1)  # many ties
    assert Distribution(logits_V).top(count) == tuple(np.argsort(-logits_V, kind="stable")[:count].tolist())


@given(rows, st.data())
def test_a_stage_is_told_by_what_it_removed(logits_V, data):
    before = Distribution(logits_V)
    removed = data.draw(st.sets(st.integers(0, logits_V.size - 1)))
    left_V = logits_V.copy()
    left_V[list(removed)] = -np.inf
    if left_V.max() == -np.inf:
        return
    told = account_stage("cut", before, Distribution(left_V, before), 4)
    assert told.num_kept == np.count_nonzero(left_V > -np.inf)
    assert told.mass_kept == pytest.approx(softmax(logits_V)[left_V > -np.inf].sum(), abs=1e-6)


def test_log_probabilities_before_and_after(steps):
    for step in steps:
        account = step.account
        chosen = next(candidate for candidate in account.candidates if candidate.id == step.id)
        assert (account.logprob, account.processed_logprob) == pytest.approx((chosen.logprobs[0], chosen.logprobs[-1]))
        assert account.processed_logprob > account.logprob  # at a temperature below 1 and cut, what is left is likelier
        assert [c.logprobs[0] for c in account.candidates] == sorted(c.logprobs[0] for c in account.candidates)[::-1]


def test_what_a_stage_lifts_is_among_the_candidates(merged_tokenizer, tiny_model):
    """The likeliest after every stage are shown, not only the model's own favourites."""
    model = tiny_model(merged_tokenizer.vocab_size, sharpness=15)
    unlikely = int(next_logits(model, [0]).argmin())
    lift = FunctionStage("lift", lambda logits_V, history: logits_V + 99 * (np.arange(logits_V.size) == unlikely))
    knobs = SamplingSettings(seed=1, max_new_tokens=1)
    (step,) = generate(
        TorchRunner(model), merged_tokenizer, Request(prompt_ids=[0], sampling=knobs, stages=(lift,), explain=True)
    )
    model_stage, lifted = step.account.stages
    assert (step.id, lifted.name, lifted.top[0]) == (unlikely, "lift", unlikely)
    assert unlikely not in model_stage.top
    assert {candidate.id for candidate in step.account.candidates} == {*model_stage.top, *lifted.top}


def test_the_reading_tells_what_was_computed(steps):
    readings = [step.account.reading for step in steps]
    prompt_length = steps[0].position
    assert [(r.num_reused, r.num_computed) for r in readings] == [
        (0, prompt_length), *((prompt_length + i, 1) for i in range(len(steps) - 1))
    ]  # fmt: skip
    assert all(r.seconds > 0 and step.account.choose_seconds > 0 for r, step in zip(readings, steps, strict=True))
    assert {(r.runner, r.exact) for r in readings} == {("torch, float32, cpu", False)}


def test_an_account_is_json(merged_tokenizer, tiny_model):
    model = tiny_model(merged_tokenizer.vocab_size, sharpness=15)
    settings = SamplingSettings(top_k=3, seed=1, max_new_tokens=1)
    (step,) = generate(
        TorchRunner(model), merged_tokenizer, Request(prompt_ids=[0, 5], sampling=settings, explain=True)
    )
    found = json.loads(json.dumps(step.account.to_dict(), allow_nan=False))
    assert found["stages"][1]["name"] == "top-k 3"
    assert found["shapes"][0] == ["ids", [1, 2]]
    assert [candidate["logprobs"][1] is None for candidate in found["candidates"]] == [False] * 3 + [True] * 5


def test_prompt_log_probabilities_are_those_of_reading_one_by_one(merged_tokenizer, tiny_model):
    model = tiny_model(merged_tokenizer.vocab_size, sharpness=15, context_length=400)
    ids = np.random.default_rng(0).integers(0, merged_tokenizer.vocab_size, 300).tolist()
    told = score_prompt(TorchRunner(model), merged_tokenizer, ids)
    assert (told[0].logprob, told[0].rank) == (None, None)
    assert [token.id for token in told] == ids
    for place in (1, 2, 127, 128, 129, 299):
        p_V = softmax(next_logits(model, ids[:place]))
        assert told[place].logprob == pytest.approx(math.log(p_V[ids[place]]), abs=1e-4)
        assert told[place].rank == np.count_nonzero(p_V > p_V[ids[place]])


def test_one_token_of_prompt_has_nothing_to_score(merged_tokenizer, tiny_model):
    (token,) = score_prompt(TorchRunner(tiny_model(merged_tokenizer.vocab_size)), merged_tokenizer, [0])
    assert (token.id, token.logprob) == (0, None)
