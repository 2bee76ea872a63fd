"""Temperature and cuts against numbers from a textbook, llama.cpp's published vectors, transformers, and their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    EpsilonLogitsWarper,
    EtaLogitsWarper,
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    TypicalLogitsWarper,
)

from pellucid.engine.sampling.distribution import entropy, probabilities
from pellucid.engine.sampling.truncation import (
    apply_epsilon,
    apply_eta,
    apply_greedy,
    apply_min_p,
    apply_temperature,
    apply_top_k,
    apply_top_n_sigma,
    apply_top_p,
    apply_typical,
    apply_xtc,
)

logits = st.lists(st.floats(-30, 30), min_size=1, max_size=12).map(np.array)
# Few different values, so that ties are common, and some tokens that an earlier stage has removed.
tied = st.lists(st.sampled_from([0.0, 1.0, 2.0, -np.inf]), min_size=1, max_size=9).map(np.array)
tied = tied.filter(lambda row: row.max() > -np.inf)


def kept(logits_V) -> list[int]:
    return np.flatnonzero(logits_V > -np.inf).tolist()


def likeliest_first(logits_V) -> list[int]:
    return sorted(range(logits_V.size), key=lambda i: (-logits_V[i], i))


@pytest.mark.parametrize(
    ("logits_V", "temperature", "expected"),
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
def test_textbook_probabilities(logits_V, temperature, expected):
    digits = 3 if temperature == 1.0 and logits_V[0] != 3.0 else 4
    found = probabilities(apply_temperature(np.array(logits_V), temperature))
    assert found.round(digits).tolist() == expected


RISING, FALLING = [0.1, 0.2, 0.3, 0.4], [0.4, 0.3, 0.2, 0.1]

LLAMA_CPP = [  # tests/test-sampling.cpp; a token it drops from its list has probability 0 here
    (apply_temperature, RISING, 1.0, RISING),
    (lambda row, _: apply_greedy(row), RISING, 0.0, [0, 0, 0, 1]),
    (apply_top_k, RISING, 1, [0, 0, 0, 1]),
    (apply_top_k, RISING, 3, [0, 0.22222, 0.33333, 0.44444]),
    (apply_top_k, RISING, 4, RISING),
    (apply_top_p, RISING, 1e-9, [0, 0, 0, 1]),  # theirs is 0, which here is no setting
    (apply_top_p, RISING, 0.7, [0, 0, 0.428571, 0.571429]),
    (apply_top_p, RISING, 0.8, [0, 0.22222, 0.33333, 0.44444]),
    (apply_top_p, RISING, 1.0, RISING),
    (apply_min_p, RISING, 0.00, RISING),
    (apply_min_p, RISING, 0.24, RISING),
    (apply_min_p, RISING, 0.26, [0, 0.2 / 0.9, 0.3 / 0.9, 0.4 / 0.9]),
    (apply_min_p, RISING, 0.49, [0, 0.2 / 0.9, 0.3 / 0.9, 0.4 / 0.9]),
    (apply_min_p, RISING, 0.51, [0, 0, 0.3 / 0.7, 0.4 / 0.7]),
    (apply_min_p, RISING, 0.74, [0, 0, 0.3 / 0.7, 0.4 / 0.7]),
    (apply_min_p, RISING, 0.76, [0, 0, 0, 1]),
    (apply_min_p, RISING, 1.00, [0, 0, 0, 1]),
    (apply_min_p, RISING, 1.05, [0, 0, 0, 1]),
    (apply_xtc, FALLING, 0.09, [0, 0, 0, 1]),
    (apply_xtc, FALLING, 0.19, [0, 0, 0.2 / 0.3, 0.1 / 0.3]),  # theirs is not made to add up to 1 again
    (apply_xtc, FALLING, 0.29, [0, 0.3 / 0.6, 0.2 / 0.6, 0.1 / 0.6]),
    (apply_xtc, FALLING, 0.39, FALLING),
    (apply_typical, [0.97, 0.01, 0.01, 0.01], 0.5, [1, 0, 0, 0]),
    (apply_typical, [0.4, 0.2, 0.2, 0.2], 0.5, [0, 1 / 3, 1 / 3, 1 / 3]),
    (apply_top_n_sigma, RISING, 1.0, [0, 0, 0.428571, 0.571429]),
    (apply_top_n_sigma, RISING, 3.0, RISING),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("stage", "given_p", "value", "expected"), LLAMA_CPP)
def test_llama_cpp_vectors(stage, given_p, value, expected, dtype):
    found = stage(np.log(given_p).astype(dtype), value)
    assert found.dtype == dtype
    np.testing.assert_allclose(probabilities(found), expected, atol=1e-5)


QUEUES = [  # tests/test-sampling.cpp: cuts in a row over a vocabulary where token i has the probability i / Σ i
    ("k", 10000, 1.0, 1.0),
    ("k", 1, 1.0, 1.0),
    ("p", 10000, 1.0, 1.0),
    ("m", 10000, 1.0, 1.0),
    ("m", 10000, 1.0, 1e-12),
    ("k", 100, 1.0, 1.0),
    ("p", 10000, 0.0003, 1.0),
    ("p", 10000, 0.8, 1.0),
    ("m", 10000, 1.0, 9997.9 / 9999.0),
    ("m", 10000, 1.0, 0.1),
    ("kp", 100, 0.8, 0.1),
    ("km", 100, 0.8, 0.1),
    ("pk", 100, 0.8, 0.1),
    ("pm", 100, 0.8, 0.1),
    ("mk", 100, 0.8, 0.1),
    ("mp", 100, 0.8, 9997.9 / 9999.0),
    ("mp", 100, 0.8, 0.1),
    ("kpm", 100, 0.8, 0.1),
    ("kmp", 100, 0.8, 0.1),
    ("pkm", 100, 0.8, 0.1),
    ("pmk", 100, 0.8, 0.1),
    ("mkp", 100, 0.8, 0.1),
    ("mpk", 100, 0.8, 0.1),
]


@pytest.mark.parametrize(("queue", "top_k", "top_p", "min_p"), QUEUES)
def test_llama_cpp_queues(queue, top_k, top_p, min_p):
    size = 10_000
    with np.errstate(divide="ignore"):
        logits_V = np.log(np.arange(size, dtype=np.float64))  # token 0 has no probability at all
    lowest = 0
    for letter in queue:
        if letter == "k":
            logits_V = apply_top_k(logits_V, top_k)
            lowest = max(lowest, size - top_k)
        elif letter == "p":
            logits_V = apply_top_p(logits_V, top_p)
            goal, mass, new_lowest = top_p * sum(range(lowest, size)), 0, size
            while mass < goal - 1e-3 and new_lowest > lowest:
                new_lowest -= 1
                mass += new_lowest
            lowest = max(lowest, new_lowest)
        else:
            logits_V = apply_min_p(logits_V, min_p)
            lowest = max(lowest, min(math.ceil(min_p * (size - 1) - 1e-6), size - 1))
        assert kept(logits_V) == list(range(max(lowest, 1), size))


THEIRS = [
    (lambda row: apply_temperature(row, 0.3), lambda: TemperatureLogitsWarper(0.3)),
    (lambda row: apply_top_k(row, 7), lambda: TopKLogitsWarper(7)),
    (lambda row: apply_top_p(row, 0.8), lambda: TopPLogitsWarper(0.8)),
    (lambda row: apply_top_p(row, 0.05), lambda: TopPLogitsWarper(0.05)),
    (lambda row: apply_min_p(row, 0.07), lambda: MinPLogitsWarper(0.07)),
    (lambda row: apply_typical(row, 0.6), lambda: TypicalLogitsWarper(0.6)),
    (lambda row: apply_typical(row, 0.1), lambda: TypicalLogitsWarper(0.1)),
    (lambda row: apply_epsilon(row, 0.02), lambda: EpsilonLogitsWarper(0.02)),
    (lambda row: apply_epsilon(row, 0.9), lambda: EpsilonLogitsWarper(0.9)),
    (lambda row: apply_eta(row, 0.02), lambda: EtaLogitsWarper(0.02)),
    (lambda row: apply_eta(row, 0.3), lambda: EtaLogitsWarper(0.3)),
]


@pytest.mark.parametrize("scale", [0.3, 3.0])
@pytest.mark.parametrize(("ours", "theirs"), THEIRS)
def test_stages_agree_with_transformers(ours, theirs, scale):
    warper = theirs()
    for seed in range(10):
        logits_V = np.random.default_rng(seed).normal(scale=scale, size=50)
        expected = warper(torch.empty(1, 0, dtype=torch.long), torch.from_numpy(logits_V)[None])
        found = ours(logits_V)
        assert kept(found) == kept(expected[0].numpy())
        np.testing.assert_allclose(probabilities(found), expected.softmax(-1)[0].numpy(), atol=1e-12)


@given(st.one_of(logits, tied), st.integers(1, 14))
def test_top_k_keeps_the_k_first_of_a_stable_order(logits_V, top_k):
    possible = set(kept(logits_V))
    assert kept(apply_top_k(logits_V, top_k)) == sorted(possible & set(likeliest_first(logits_V)[:top_k]))


@given(logits, st.floats(0.01, 0.999))
def test_top_p_keeps_the_smallest_set_that_reaches_p(logits_V, top_p):
    kept_V = apply_top_p(logits_V, top_p) > -np.inf
    p_V = probabilities(logits_V)
    assert kept_V.any()
    assert p_V[kept_V].sum() >= top_p - 1e-9
    assert p_V[kept_V].sum() - p_V[kept_V].min() < top_p + 1e-9  # one fewer would not reach it
    assert p_V[kept_V].min() >= p_V[~kept_V].max(initial=0.0)


@given(tied, st.floats(0.01, 0.999))
def test_top_p_gives_ties_to_the_lowest_id(logits_V, top_p):
    found = kept(apply_top_p(logits_V, top_p))
    order = [i for i in likeliest_first(logits_V) if logits_V[i] > -np.inf]
    assert found == sorted(order[: len(found)])


@pytest.mark.parametrize("scale", [0.0, 0.01, 1.0, 8.0])
@pytest.mark.parametrize("top_p", [0.1, 0.9, 0.999])
def test_top_p_over_a_large_vocabulary(scale, top_p):
    logits_V = np.random.default_rng(1).normal(scale=scale, size=50_257).astype(np.float32)
    found = kept(apply_top_p(logits_V, top_p))
    p_V = probabilities(logits_V.astype(np.float64))
    order = np.argsort(-logits_V, kind="stable")
    expected = 1 + int(np.count_nonzero(p_V[order].cumsum()[:-1] < top_p))
    assert len(found) == pytest.approx(expected, abs=2)  # the row is float32: a token whose sum is the bound may differ
    assert found == sorted(order[: len(found)].tolist())


@given(st.one_of(logits, tied), st.floats(0.01, 0.99))
def test_typical_keeps_the_nearest_to_the_entropy(logits_V, mass):
    found, p_V = set(kept(apply_typical(logits_V, mass))), probabilities(logits_V)
    possible = kept(logits_V)
    with np.errstate(divide="ignore"):
        distance_V = np.abs(-np.log(p_V) - entropy(logits_V))
    assert found
    assert found <= set(possible)
    assert p_V[list(found)].sum() >= mass - 1e-9
    farthest = max(distance_V[list(found)])
    assert all(distance_V[i] >= farthest - 1e-9 for i in possible if i not in found)


@pytest.mark.parametrize("scale", [0.01, 1.0, 8.0])
@pytest.mark.parametrize("mass", [0.05, 0.9, 0.999])
def test_typical_over_a_large_vocabulary(scale, mass):
    logits_V = np.random.default_rng(1).normal(scale=scale, size=20_000)
    warped = TypicalLogitsWarper(mass)(torch.empty(1, 0, dtype=torch.long), torch.from_numpy(logits_V)[None])
    found, expected = kept(apply_typical(logits_V, mass)), kept(warped[0].numpy())
    assert len(set(found) ^ set(expected)) <= 1  # theirs adds up in another order


@given(st.one_of(logits, tied), st.floats(0.001, 0.999))
def test_cuts_keep_the_likeliest_and_change_no_logit(logits_V, value):
    for cut in (apply_top_p, apply_min_p, apply_epsilon, apply_eta, apply_top_n_sigma, apply_typical, apply_xtc):
        before = logits_V.copy()
        found = cut(logits_V, value)
        assert (logits_V == before).all()  # never in place
        assert (found[found > -np.inf] == logits_V[found > -np.inf]).all()
        assert kept(found)
        if cut not in (apply_typical, apply_xtc):
            assert likeliest_first(logits_V)[0] in kept(found)


@given(st.one_of(logits, tied), st.floats(0.001, 0.5))
def test_xtc_leaves_the_least_likely_of_the_obvious(logits_V, threshold):
    obvious = [i for i in likeliest_first(logits_V) if probabilities(logits_V)[i] >= threshold]
    assert kept(apply_xtc(logits_V, threshold)) == sorted(set(kept(logits_V)) - set(obvious[:-1]))


@given(logits, st.floats(0.1, 3), st.floats(0.1, 5))
def test_temperature_changes_nothing_about_top_n_sigma(logits_V, n, temperature):
    spread = logits_V.max() - n * logits_V.std()
    if np.abs(logits_V - spread).min() > 1e-9:  # not at the bound itself
        assert kept(apply_top_n_sigma(apply_temperature(logits_V, temperature), n)) == kept(
            apply_top_n_sigma(logits_V, n)
        )


def test_top_n_sigma_looks_at_possible_tokens_only():
    alone, among_removed = np.array([3.0, 2.0, 1.0]), np.array([-np.inf, 3.0, 2.0, -np.inf, 1.0])
    assert apply_top_n_sigma(among_removed, 1.3)[[1, 2, 4]].tolist() == apply_top_n_sigma(alone, 1.3).tolist()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("temperature", [5e-324, 1e-300, 1e-3, 1e3, 1e300, 1.7e308])
def test_no_temperature_overflows(temperature, dtype):
    logits_V = np.array([700.0, -700.0, 699.0, -np.inf], dtype=dtype)
    p_V = probabilities(apply_temperature(logits_V, temperature))
    assert p_V.sum() == pytest.approx(1)
    assert p_V[3] == 0
    if temperature < 1e-2:
        assert p_V[0] == 1
    if temperature > 1e200:
        assert p_V[:3] == pytest.approx([1 / 3] * 3)


@given(st.one_of(logits, tied))
def test_greedy_takes_the_lowest_of_the_highest(logits_V):
    assert kept(apply_greedy(logits_V)) == likeliest_first(logits_V)[:1] == kept(apply_top_k(logits_V, 1))


def test_k_beyond_the_vocabulary_is_off():
    assert apply_top_k(np.array([1.0, 2.0]), 9).tolist() == [1.0, 2.0]
