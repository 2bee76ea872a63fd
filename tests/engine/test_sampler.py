"""The sampler's stages against numbers from a textbook, against transformers, and against their own definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from pellucid.engine.sampler import (
    Stage,
    apply_temperature,
    apply_top_k,
    apply_top_p,
    build_stages,
    choose,
    draw,
    log_probabilities,
    probabilities,
    segment,
    uniform,
)
from pellucid.engine.settings import SamplingSettings
from pellucid.errors import SamplingError, SettingsError
from pellucid.settings import Layer, resolve

rows = st.lists(st.floats(-30, 30), min_size=1, max_size=12).map(np.array)


def stages_for(**knobs) -> tuple[Stage, ...]:
    return build_stages(SamplingSettings(**knobs), num_logits=50, num_known=50)


@pytest.mark.parametrize(
    ("logits", "temperature", "expected"),
    [
        ([4.0, 2.0, 0.5], 1.0, [0.858, 0.116, 0.026]),
        ([2.2, 2.0, 0.5], 1.0, [0.500, 0.409, 0.091]),
        ([3.0, 1.5, 0.5], 0.5, [0.9465, 0.0471, 0.0064]),
        ([3.0, 1.5, 0.5], 1.0, [0.7662, 0.1710, 0.0629]),
        ([3.0, 1.5, 0.5], 2.0, [0.5685, 0.2686, 0.1629]),
        ([3.0, 1.5, 0.5], 0.1, [1.0, 0.0, 0.0]),
        ([3.0, 1.5, 0.5], 5.0, [0.4260, 0.3156, 0.2584]),
    ],
)
def test_textbook_probabilities(logits, temperature, expected):
    digits = 3 if temperature == 1.0 and logits[0] != 3.0 else 4
    found = probabilities(apply_temperature(np.array(logits), temperature))
    assert found.round(digits).tolist() == expected


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"), [(0.3, 7, 0.5), (1.7, 20, 0.9), (1.0, 1, 0.99), (0.8, 50, 0.05)]
)
def test_stages_agree_with_transformers(seed, temperature, top_k, top_p):
    logits_V = np.random.default_rng(seed).normal(scale=3, size=50)
    theirs = torch.from_numpy(logits_V)[None]
    for warp in (TemperatureLogitsWarper(temperature), TopKLogitsWarper(top_k), TopPLogitsWarper(top_p)):
        theirs = warp(torch.empty(1, 0, dtype=torch.long), theirs)
    ours = choose(logits_V, stages_for(temperature=temperature, top_k=top_k, top_p=top_p), 0.5).rows[-1]
    np.testing.assert_allclose(probabilities(ours), theirs.softmax(-1)[0].numpy(), atol=1e-12)
    assert ((ours > -np.inf) == (theirs[0] > -math.inf).numpy()).all()


@pytest.mark.parametrize(
    "knobs", [{}, {"temperature": 0.5}, {"top_k": 5}, {"top_p": 0.8}, {"temperature": 2.0, "top_k": 8, "top_p": 0.9}]
)
def test_frequencies_follow_probabilities(knobs):
    logits_V = np.random.default_rng(3).normal(scale=1.0, size=12)
    stages = stages_for(**knobs)
    p_V = probabilities(choose(logits_V, stages, 0.0).rows[-1])
    num_draws = 20_000
    counts_V = np.bincount([choose(logits_V, stages, uniform(11, i)).id for i in range(num_draws)], minlength=12)
    assert (counts_V[p_V == 0] == 0).all()
    possible = p_V > 0
    chi_square = ((counts_V - num_draws * p_V)[possible] ** 2 / (num_draws * p_V[possible])).sum()
    freedom = possible.sum() - 1
    assert chi_square < freedom + 4 * math.sqrt(2 * freedom)  # four standard deviations above the mean


def test_uniform_is_uniform_and_keyed():
    draws = np.array([uniform(5, i) for i in range(20_000)])
    assert draws.min() >= 0
    assert draws.max() < 1
    counts = np.bincount((draws * 20).astype(int), minlength=20)
    assert ((counts - 1000) ** 2 / 1000).sum() < 19 + 4 * math.sqrt(38)
    assert uniform(5, 0) == draws[0]
    assert uniform(6, 0) != draws[0]
    assert abs(np.corrcoef(draws[:-1], draws[1:])[0, 1]) < 0.03


def test_uniform_never_changes():
    """Seeds that people wrote down must give the same text in the next version."""
    assert uniform(0, 0) == pytest.approx(GOLDEN_DRAWS[0], abs=0)
    assert uniform(2**70, 12345) == pytest.approx(GOLDEN_DRAWS[1], abs=0)


GOLDEN_DRAWS = (0.12690696572463278, 0.08920597393073448)


@given(rows, st.integers(1, 14))
def test_top_k_keeps_the_k_first_of_a_stable_order(logits_V, top_k):
    kept = np.flatnonzero(apply_top_k(logits_V, top_k) > -np.inf).tolist()
    order = sorted(range(logits_V.size), key=lambda i: (-logits_V[i], i))
    assert kept == sorted(order[:top_k])


@given(rows, st.floats(0.01, 0.999))
def test_top_p_keeps_the_smallest_set_that_reaches_p(logits_V, top_p):
    kept_V = apply_top_p(logits_V, top_p) > -np.inf
    p_V = probabilities(logits_V)
    assert kept_V.any()
    assert p_V[kept_V].sum() >= top_p - 1e-9
    assert p_V[kept_V].sum() - p_V[kept_V].min() < top_p + 1e-9  # one fewer would not reach it
    assert p_V[kept_V].min() >= p_V[~kept_V].max(initial=0.0)


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


@given(rows)
def test_greedy_takes_the_lowest_of_the_highest(logits_V):
    settings = SamplingSettings(temperature=0, top_k=3, top_p=0.1)
    chosen = choose(logits_V, build_stages(settings, num_logits=logits_V.size, num_known=logits_V.size), None)
    assert chosen.id == int(np.flatnonzero(logits_V == logits_V.max())[0])
    assert chosen.logprob == pytest.approx(log_probabilities(logits_V)[chosen.id], abs=0)


def test_ties_at_temperature_zero_and_top_k_one_are_the_same_choice():
    logits_V = np.array([1.0, 2.0, 2.0, 2.0])
    assert choose(logits_V, stages_for(temperature=0), None).id == 1
    assert {choose(logits_V, stages_for(top_k=1), u).id for u in (0.0, 0.5, 0.999)} == {1}


@pytest.mark.parametrize("temperature", [5e-324, 1e-300, 1e-3, 1e3, 1e300, 1.7e308])
def test_no_temperature_overflows(temperature):
    logits_V = np.array([700.0, -700.0, 699.0, -np.inf])
    p_V = probabilities(choose(logits_V, stages_for(temperature=temperature), 0.3).rows[-1])
    assert p_V.sum() == pytest.approx(1)
    assert p_V[3] == 0
    if temperature < 1e-2:
        assert p_V[0] == 1
    if temperature > 1e200:
        assert p_V[:3] == pytest.approx([1 / 3] * 3)


def test_order_is_temperature_then_top_k_then_top_p():
    assert [stage.name for stage in stages_for(top_p=0.9, top_k=4, temperature=2)] == [
        "temperature 2",
        "top-k 4",
        "top-p 0.9",
    ]
    # Flattening first widens the nucleus: the cut comes after.
    logits_V = np.array([5.0, 3.0, 1.0, 0.0])
    assert (choose(logits_V, stages_for(temperature=3, top_p=0.8), 0).rows[-1] > -np.inf).sum() == 3
    assert (apply_top_p(logits_V, 0.8) > -np.inf).sum() == 1


def test_k_beyond_the_vocabulary_is_off():
    assert stages_for(top_k=50) == stages_for(top_k=10_000) == ()
    assert apply_top_k(np.array([1.0, 2.0]), 9).tolist() == [1.0, 2.0]


def test_padding_rows_of_the_embedding_are_never_drawn():
    logits_V = np.array([0.0, 0.0, 9.0, 9.0])
    stages = build_stages(SamplingSettings(), num_logits=4, num_known=2)
    assert {choose(logits_V, stages, u).id for u in (0.0, 0.6, 0.99)} == {0, 1}


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_a_logit_that_is_no_number_is_an_error(broken):
    with pytest.raises(SamplingError, match="token 1"):
        choose(np.array([0.0, broken, 1.0]), (), 0.5)


def test_nothing_left_names_the_stage():
    with pytest.raises(SamplingError, match="after model"):
        choose(np.full(3, -np.inf), (), 0.5)
    forbid_all = Stage("forbid all", lambda logits_V: np.full_like(logits_V, -np.inf))
    with pytest.raises(SamplingError, match="after forbid all"):
        choose(np.zeros(3), (forbid_all,), 0.5)


@pytest.mark.parametrize(
    "knobs",
    [
        {"temperature": -0.1},
        {"temperature": math.nan},
        {"temperature": math.inf},
        {"top_p": 0.0},
        {"top_p": 1.01},
        {"top_p": math.nan},
        {"top_k": 0},
        {"top_k": -1},
        {"max_new_tokens": 0},
        {"seed": -1},
        {"stop": ("",)},
        {"stop": "word"},
    ],
)
def test_values_out_of_range_are_refused(knobs):
    with pytest.raises(SamplingError, match=next(iter(knobs))):
        SamplingSettings(**knobs)


def test_settings_from_text():
    values = {"temperature": "0.5", "top_k": "none", "stop": "a,b", "seed": "7"}
    settings = resolve(SamplingSettings, Layer("command line", values)).settings
    assert settings == SamplingSettings(temperature=0.5, stop=("a", "b"), seed=7)
    with pytest.raises(SamplingError, match="nan"):
        resolve(SamplingSettings, Layer("command line", {"temperature": "nan"}))
    with pytest.raises(SettingsError, match="top_p"):
        resolve(SamplingSettings, Layer("command line", {"top_q": 1}))
