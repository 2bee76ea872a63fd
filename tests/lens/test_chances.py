from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pellucid.engine.sampling.distribution import probabilities
from pellucid.engine.sampling.sampler import Sampler, pass_through
from pellucid.engine.sampling.settings import SamplingSettings
from pellucid.engine.sampling.stage import History
from pellucid.errors import RequestError
from pellucid.keyed_random import uniform
from pellucid.lens.answer import At
from pellucid.lens.chances import account_chain, draw_many
from pellucid.lens.dispatch import Dispatch

continuing = pytest.mark.parametrize("dispatch", ["grouped", "gpt2", "windowed"], indirect=True)  # those that write on


def node_of(dispatch: Dispatch) -> int:
    """The node of a prompt."""
    return dispatch.answer("prompt", {"text": "abcabd"}).value["current"]


@given(
    st.lists(st.floats(-20, 20, width=32), min_size=3, max_size=40),
    st.fixed_dictionaries(
        {"temperature": st.floats(0.05, 10)},
        optional={"top_k": st.integers(1, 50), "top_p": st.floats(0.05, 1), "min_p": st.floats(0, 1)},
    ),
    st.integers(1, 10),
)
def test_every_column_sums_to_one_over_the_whole_vocabulary(row: list[float], knobs: dict, count: int) -> None:
    logits_V = np.array(row, np.float32)
    sampler = Sampler(SamplingSettings(**knobs, seed=1), num_logits=len(row), num_known=len(row))
    told = account_chain(logits_V, sampler, (0,), 1, count)
    for place, stage in enumerate(told["stages"]):
        listed = sum(candidate["p"][place] for candidate in told["candidates"])
        assert listed + stage["others"] == pytest.approx(1, abs=1e-5)
        assert stage["kept"] >= 1 and 0 <= stage["entropy_bits"] <= math.log2(stage["kept"]) + 1e-4
    last = probabilities(pass_through(logits_V, sampler.stages, History((0,), 1))[-1])
    assert [c["p"][-1] for c in told["candidates"]] == pytest.approx(
        [last[c["id"]] for c in told["candidates"]], abs=1e-6
    )


@continuing
def test_the_logits_are_the_models(dispatch: Dispatch) -> None:
    at = At(node=node_of(dispatch))
    ids = dispatch.branches.tree.text_ids(at.node)
    with torch.inference_mode():
        whole_TV = dispatch.model()(torch.tensor([ids])).logits_BTV[0].numpy()
    for position in (None, 0, len(ids) - 1):
        answer = dispatch.answer("logits", {"at": {"node": at.node}, "position": position})
        np.testing.assert_allclose(answer.arrays["logits"], whole_TV[-1 if position is None else position], atol=2e-5)
        assert answer.value["known"] == min(dispatch.tokenizer.vocab_size, dispatch.config.vocab_size)


@continuing
def test_the_chain_is_told_with_its_penalties(dispatch: Dispatch) -> None:
    sampling = {"repetition_penalty": 1.5, "temperature": 0.7, "top_k": 5, "seed": 2}
    answer = dispatch.answer("chances", {"at": {"node": node_of(dispatch)}, "sampling": sampling}).value
    assert answer["chain"] == "model → repetition 1.5 (both) → temperature 0.7 → top-k 5 → draw"
    assert [stage["name"] for stage in answer["stages"]] == [
        "model",
        "repetition 1.5 (both)",
        "temperature 0.7",
        "top-k 5",
    ]
    assert answer["stages"][-1]["kept"] == 5 and answer["stages"][-1]["others"] == pytest.approx(0, abs=1e-6)
    assert answer["num_others"] == dispatch.config.vocab_size - len(answer["candidates"])
    assert all(candidate["label"] == dispatch.label(candidate["id"]) for candidate in answer["candidates"])


@continuing
def test_draws_are_those_of_the_choices_of_one_seed(dispatch: Dispatch) -> None:
    u = dispatch.answer("draws", {"seed": 7, "position": 3, "count": 50}).arrays["u"]
    assert u.dtype == np.float64 and u.tolist() == [uniform(7, 3, choice=choice) for choice in range(50)]
    sampler = Sampler(SamplingSettings(seed=7), num_logits=4, num_known=4)
    assert sampler.choose(np.zeros(4, np.float32), [1, 2, 3], 1).u == u[0]


@continuing
@pytest.mark.parametrize("params", [{"seed": -1, "position": 0}, {"seed": 0, "position": 0, "count": 10**7}])
def test_draws_that_do_not_exist_are_refused(dispatch: Dispatch, params: dict) -> None:
    with pytest.raises(RequestError):
        dispatch.answer("draws", params)


def test_draws_fill_the_ruler_evenly() -> None:
    """Kolmogorov's distance of 20,000 draws from the uniform distribution: above 1.95 / sqrt(n) once in a thousand."""
    u = np.sort(draw_many(11, 5, 20_000))
    steps = np.arange(1, len(u) + 1) / len(u)
    assert max(abs(steps - u).max(), abs(u - steps + 1 / len(u)).max()) < 1.95 / math.sqrt(len(u))
