"""The draw, the choice and the sampler: frequencies against probabilities, counters, errors, and what a caller may add."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pellucid.engine.sampling.distribution import (
    BLOCK,
    FEW,
    draw,
    entropy,
    locate,
    log_probabilities,
    probabilities,
    segment,
    weigh,
)
from pellucid.engine.sampling.orders import STAGES
from pellucid.engine.sampling.sampler import Sampler, choose, pass_through
from pellucid.engine.sampling.settings import SamplingSettings
from pellucid.engine.sampling.stage import FunctionStage, History
from pellucid.errors import SamplingError
from pellucid.keyed_random import uniform

rows = st.lists(st.floats(-30, 30), min_size=1, max_size=12).map(np.array)
GOLDEN_DRAWS = (0.12690696572463278, 0.08920597393073448)


def build(size: int, *, num_known: int | None = None, **rest) -> Sampler:
    own = {name: rest.pop(name) for name in ("end_ids", "choice", "extra") if name in rest}
    settings = SamplingSettings(**{"seed": 11, **rest})
    return Sampler(settings, num_logits=size, num_known=num_known or size, **own)


def row(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float32)


# --- chance ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "knobs",
    [
        {},
        {"temperature": 0.5},
        {"top_k": 5},
        {"top_p": 0.8},
        {"temperature": 2.0, "top_k": 8, "top_p": 0.9},
        {"order": "llama.cpp", "temperature": 2.0, "top_p": 0.7, "min_p": 0.05},
        {"typical_p": 0.7, "presence_penalty": 1.0, "logit_bias": ("3:2.5",)},
        {"eta_cutoff": 0.1, "top_n_sigma": 2.0, "ban": (4,)},
    ],
)
def test_frequencies_follow_probabilities(knobs):
    logits_V = np.random.default_rng(3).normal(size=12).astype(np.float32)
    sampler, num_draws, history = build(12, **knobs), 10_000, History([1, 2], 1)
    p_V = probabilities(pass_through(logits_V, sampler.stages, history)[-1].astype(np.float64))
    draws = [choose(logits_V, sampler.stages, uniform(11, i), history).id for i in range(num_draws)]
    counts_V = np.bincount(draws, minlength=12)
    assert (counts_V[p_V == 0] == 0).all()
    possible = p_V > 0
    chi_square = ((counts_V - num_draws * p_V)[possible] ** 2 / (num_draws * p_V[possible])).sum()
    freedom = possible.sum() - 1
    assert chi_square < freedom + 4 * math.sqrt(2 * freedom)  # four standard deviations above the mean


def test_frequencies_over_a_large_vocabulary():
    """Over many blocks of weights: the ids drawn, in twenty classes of equal probability."""
    logits_V = np.random.default_rng(0).normal(scale=1.5, size=50_257).astype(np.float32)
    ends_V = probabilities(logits_V.astype(np.float64)).cumsum()
    weights_V = weigh(logits_V)
    drawn = np.array([draw(weights_V, uniform(3, i)) for i in range(4000)])
    counts = np.bincount((ends_V[drawn] * 20).astype(int).clip(max=19), minlength=20)
    assert ((counts - 200) ** 2 / 200).sum() < 19 + 4 * math.sqrt(38)


def test_xtc_acts_as_often_as_asked_and_apart_from_the_draw():
    sampler = build(3, xtc_probability=0.25, xtc_threshold=0.2)
    logits_V = np.log(row(0.5, 0.4, 0.1))
    choices = [sampler.choose(logits_V, [0] * length, 1, keep_rows=True) for length in range(1, 4001)]
    acted = np.array([choice.rows[-1][0] == -np.inf for choice in choices])
    assert acted.mean() == pytest.approx(0.25, abs=4 * math.sqrt(0.25 * 0.75 / 4000))
    draws = np.array([choice.u for choice in choices])
    assert abs(np.corrcoef(acted, draws)[0, 1]) < 4 / math.sqrt(4000)


def test_uniform_is_uniform_and_keyed():
    draws = np.array([uniform(5, i) for i in range(20_000)])
    assert draws.min() >= 0
    assert draws.max() < 1
    counts = np.bincount((draws * 20).astype(int), minlength=20)
    assert ((counts - 1000) ** 2 / 1000).sum() < 19 + 4 * math.sqrt(38)
    assert uniform(5, 0) == draws[0]
    assert len({uniform(5, 0), uniform(6, 0), uniform(5, 0, choice=1), uniform(5, 0, purpose="xtc")}) == 4
    assert abs(np.corrcoef(draws[:-1], draws[1:])[0, 1]) < 0.03
    other = np.array([uniform(5, i, choice=1) for i in range(20_000)])
    assert abs(np.corrcoef(draws, other)[0, 1]) < 0.03


def test_uniform_never_changes():
    """Seeds that people wrote down must give the same text in the next version."""
    assert uniform(0, 0) == GOLDEN_DRAWS[0]
    assert uniform(2**70, 12345) == GOLDEN_DRAWS[1]


# --- the draw -------------------------------------------------------------------------------------------------------


@given(rows, st.floats(0, 1, exclude_max=True))
def test_a_draw_falls_into_its_own_segment(logits_V, u):
    p_V = probabilities(logits_V)
    chosen = draw(p_V, u)
    start, end = segment(p_V, chosen)
    assert p_V[chosen] > 0
    assert start - 1e-12 <= u <= end + 1e-12


def test_a_token_without_probability_is_never_drawn():
    p_V = np.array([0.0, 0.5, 0.0, 0.5, 0.0])
    assert [draw(p_V, u) for u in (0.0, 0.4999, 0.5, 1 - 2**-53)] == [1, 1, 3, 3]


@pytest.mark.parametrize("size", [1, BLOCK, FEW, FEW + 1, 5 * BLOCK, 5 * BLOCK + 1, 6 * BLOCK - 1])
def test_blocks_change_nothing_about_where_a_sum_is_reached(size):
    weights_N = np.random.default_rng(size).integers(0, 3, size).astype(np.float32)  # sums without any rounding
    weights_N[0] = 1
    ends = weights_N.cumsum()
    for target in (
        0.0,
        0.5,
        *ends[:: max(1, size // 50)],
        *(ends[:: max(1, size // 50)] - 0.5),
        ends[-1],
        ends[-1] + 1,
    ):
        assert locate(weights_N, target) == np.count_nonzero(ends <= target)


@given(st.integers(0, 10_000), st.floats(0, 1, exclude_max=True))
def test_rounding_over_blocks_never_reaches_a_token_without_weight(seed, u):
    rng = np.random.default_rng(seed)
    weights_V = rng.random(3000).astype(np.float32) * (rng.random(3000) < 0.01)
    if weights_V.any():
        for number in (u, 1 - 2**-53, 0.0):
            assert weights_V[draw(weights_V, number)] > 0


@given(rows)
def test_entropy_is_its_definition(logits_V):
    p_V = probabilities(logits_V)
    assert entropy(np.append(logits_V, -np.inf)) == pytest.approx(-(p_V * np.log(p_V)).sum(), abs=1e-9)


# --- the choice -----------------------------------------------------------------------------------------------------


@given(rows)
def test_greedy_takes_the_lowest_of_the_highest(logits_V):
    choice = build(logits_V.size, temperature=0, top_k=3, top_p=0.1).choose(logits_V, [], 0)
    assert choice.id == int(np.flatnonzero(logits_V == logits_V.max())[0])
    assert choice.logprob == pytest.approx(log_probabilities(logits_V)[choice.id], abs=1e-12)
    assert (choice.processed_logprob, choice.u) == (0.0, None)


def test_ties_at_temperature_zero_and_top_k_one_are_the_same_choice():
    logits_V = row(1, 2, 2, 2)
    assert build(4, temperature=0).choose(logits_V, [], 0).id == 1
    assert {build(4, top_k=1, seed=seed).choose(logits_V, [], 0).id for seed in range(20)} == {1}


def test_both_log_probabilities():
    logits_V = np.log(row(0.5, 0.3, 0.2))
    for seed in range(10):
        choice = build(3, top_k=2, seed=seed).choose(logits_V, [], 0)
        assert choice.logprob == pytest.approx(math.log([0.5, 0.3][choice.id]), abs=1e-6)
        assert choice.processed_logprob == pytest.approx(math.log([0.625, 0.375][choice.id]), abs=1e-6)


def test_rows_are_kept_only_when_asked_for():
    sampler, logits_V = build(4, temperature=2, top_k=2), row(4, 3, 2, 1)
    assert sampler.choose(logits_V, [], 0).rows == ()
    rows = sampler.choose(logits_V, [], 0, keep_rows=True).rows
    assert [kept.tolist() for kept in rows] == [[4, 3, 2, 1], [0, -0.5, -1, -1.5], [0, -0.5, -np.inf, -np.inf]]
    assert all(kept.dtype == np.float32 for kept in rows)


@given(st.integers(0, 50), st.sampled_from(["pellucid", "llama.cpp", "vllm", "hf", "mlx"]))
def test_float32_rows_are_chosen_from_as_float64_rows_are(seed, order):
    logits_V = np.random.default_rng(seed).normal(scale=3, size=300).astype(np.float32)
    sampler = build(300, order=order, seed=seed, temperature=0.8, top_k=50, top_p=0.9, min_p=0.01)
    quick, slow = (sampler.choose(logits_V.astype(dtype), [], 0) for dtype in (np.float32, np.float64))
    assert quick.id == slow.id
    assert quick.logprob == pytest.approx(slow.logprob, abs=1e-5)


def test_the_choice_is_a_function_of_row_and_ids():
    """Asked in any order, after cuts and forks, a sampler answers the same."""
    knobs = {"repetition_penalty": 1.2, "dry_multiplier": 0.8, "xtc_probability": 0.5, "top_p": 0.9}
    logits_V = np.random.default_rng(0).normal(size=20).astype(np.float32)
    histories = [[1, 2, 3, 1, 2][:length] for length in range(1, 6)]
    sampler = build(20, **knobs)
    forward = [sampler.choose(logits_V, ids, 1) for ids in histories]
    backward = [sampler.choose(logits_V, ids, 1) for ids in reversed(histories)][::-1]
    assert forward == backward == [build(20, **knobs).choose(logits_V, ids, 1) for ids in histories]


def test_choices_from_one_seed_differ_and_the_first_is_the_plain_one():
    logits_V = np.zeros(1000, dtype=np.float32)
    ids = [build(1000, choice=number).choose(logits_V, [7], 1).id for number in range(8)]
    assert len(set(ids)) == 8
    assert ids[0] == build(1000).choose(logits_V, [7], 1).id


knobs_of_any_kind = st.fixed_dictionaries(
    {"temperature": st.sampled_from([0.0, 1e-6, 0.5, 1.0, 3.0, 1e6])},
    optional={
        "top_k": st.integers(1, 12),
        "top_p": st.floats(0.01, 1),
        "min_p": st.floats(0, 1),
        "typical_p": st.floats(0.01, 1),
        "epsilon_cutoff": st.floats(0, 0.99),
        "eta_cutoff": st.floats(0, 0.99),
        "top_n_sigma": st.floats(0.01, 5),
        "xtc_probability": st.floats(0, 1),
        "mirostat": st.sampled_from([0, 1, 2]),
        "repetition_penalty": st.floats(0.1, 3),
        "frequency_penalty": st.floats(-2, 2),
        "dry_multiplier": st.floats(0, 5),
        "no_repeat_ngram": st.integers(1, 3),
        "ban": st.frozensets(st.integers(0, 7), max_size=2).map(tuple),
        "logit_bias": st.sampled_from([(), ("0:100",), ("3:-100", "4:2")]),
    },
)


@given(knobs_of_any_kind, st.lists(st.floats(-30, 30, width=32), min_size=8, max_size=8), st.permutations(STAGES))
def test_any_settings_in_any_order_choose_a_possible_token_or_name_the_stage(knobs, logits, order):
    """No warning, no NaN, no token that a stage removed."""
    sampler, ids = build(8, **knobs, order=tuple(order)), [1, 2]
    for _ in range(4):
        try:
            choice = sampler.choose(row(*logits), ids, 2, keep_rows=True)
        except SamplingError as error:  # eight ids, so bigrams or bans may leave none
            assert error.what == "no token is left to choose from"
            return
        assert choice.rows[-1][choice.id] > -np.inf
        assert choice.id not in knobs.get("ban", ())
        assert -math.inf < choice.logprob <= 1e-6
        assert -math.inf < choice.processed_logprob <= 1e-6
        ids = [*ids, choice.id]


@pytest.mark.parametrize(
    "knobs",
    [
        {"repetition_penalty": 1e6},
        {"repetition_penalty": 1e-6},
        {"frequency_penalty": 1e6, "presence_penalty": 1e6, "counts_scope": "both"},
        {"frequency_penalty": -1e6, "counts_scope": "both"},
        {"logit_bias": ("0:1e6", "1:-1e6")},
        {"dry_multiplier": 1e6, "dry_base": 1e6, "dry_allowed_length": 1},
        {"top_n_sigma": 1e6},
        {"top_n_sigma": 5e-324},
        {"epsilon_cutoff": 5e-324},
        {"eta_cutoff": 5e-324},
        {"min_p": 5e-324},
        {"top_p": 5e-324},
        {"typical_p": 5e-324},
        {"mirostat": 1, "mirostat_tau": 1e6, "mirostat_eta": 1e6},
        {"mirostat": 2, "mirostat_tau": 5e-324, "mirostat_eta": 1e6},
    ],
)
def test_the_ends_of_every_range(knobs):
    """Warnings are errors here, so an overflow would show."""
    for logits_V in (row(1000, -1000, 0, 3), row(0, 0, 0, 0), row(-np.inf, 5, -np.inf, -np.inf)):
        sampler, ids = build(4, **knobs), [0, 1, 0, 1, 0]
        for _ in range(4):
            choice = sampler.choose(logits_V, ids, 5, keep_rows=True)
            assert choice.rows[-1][choice.id] > -np.inf
            ids = [*ids, choice.id]


# --- masks and what a caller adds -----------------------------------------------------------------------------------


def test_padding_rows_of_the_embedding_are_never_drawn():
    logits_V = row(0, 0, 9, 9)
    assert {build(4, num_known=2, seed=seed).choose(logits_V, [], 0).id for seed in range(20)} == {0, 1}
    assert build(4, num_known=2, temperature=0).choose(logits_V, [], 0).id == 0


def test_allow_ban_and_bias():
    logits_V = row(5, 4, 3, 2)
    assert build(4, allow=(2, 3, 2), temperature=0).choose(logits_V, [], 0).id == 2
    assert build(4, ban=(0, 1), temperature=0).choose(logits_V, [], 0).id == 2
    assert build(4, logit_bias=("3:4",), temperature=0).choose(logits_V, [], 0).id == 3


def test_minimum_tokens_hold_the_end_off():
    sampler = build(3, min_new_tokens=2, end_ids=(1,), temperature=0)
    assert [sampler.choose(row(1, 5, 2), [0] * length, 3).id for length in (3, 4, 5)] == [2, 2, 1]
    with pytest.raises(SamplingError, match="min_new_tokens needs to know"):
        build(3, min_new_tokens=2)
    assert build(3, min_new_tokens=2, end_ids=()).stages == ()  # a text without an end needs no holding off


def test_extra_stages_come_first_and_see_the_history():
    class OnlyAfter:
        name = "only after"

        def apply(self, logits_V, history):
            masked_V = np.full_like(logits_V, -np.inf)
            masked_V[history.ids[-1] + history.num_prompt] = 0
            return masked_V

    sampler = build(5, extra=(OnlyAfter(),), top_k=2, temperature=0.5)
    assert sampler.chain == "model → only after → temperature 0.5 → top-k 2 → draw"
    assert sampler.choose(row(9, 9, 9, 9, 9), [4, 2], 1).id == 3


def test_the_chain_is_printed_with_its_numbers():
    knobs = {"temperature": 0.8, "repetition_penalty": 1.1, "order": "llama.cpp", "min_p": 0.05, "ban": (3,)}
    expected = "model → vocabulary 8 → ban 1 → repetition 1.1 (both, last 64) → min-p 0.05 → temperature 0.8 → draw"
    assert build(9, num_known=8, **knobs).chain == expected


# --- errors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_a_logit_that_is_no_number_is_an_error(broken):
    with pytest.raises(SamplingError, match="token 1"):
        choose(row(0, broken, 1), (), 0.5)


def test_nothing_left_names_the_stage():
    with pytest.raises(SamplingError, match="after model"):
        choose(row(-math.inf, -math.inf), (), 0.5)
    forbid_all = FunctionStage("forbid all", lambda logits_V, history: np.full_like(logits_V, -np.inf))
    with pytest.raises(SamplingError, match="after forbid all"):
        build(3, extra=(forbid_all,), top_p=0.5).choose(row(0, 0, 0), [], 0)
    with pytest.raises(SamplingError, match="after ban 2"):
        build(3, ban=(0, 1), allow=(0, 1)).choose(row(0, 0, 0), [], 0)


def test_a_draw_without_a_seed_is_an_error():
    with pytest.raises(SamplingError, match="seed"):
        build(3, seed=None)
    with pytest.raises(SamplingError, match="seed"):
        build(3, seed=None, temperature=0, order="mlx", xtc_probability=0.5)  # XTC draws before the temperature
    assert build(3, seed=None, temperature=0).chain == "model → greedy"
