"""Penalties against llama.cpp's published vectors, transformers, and slow definitions of the same things."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import NoRepeatNGramLogitsProcessor, RepetitionPenaltyLogitsProcessor

from pellucid.engine.sampling.distribution import probabilities
from pellucid.engine.sampling.orders import Lookback
from pellucid.engine.sampling.penalties import (
    apply_dry,
    apply_frequency,
    apply_no_repeat_ngram,
    apply_presence,
    apply_repetition,
    measure_runs,
    select,
)

short = st.lists(st.integers(0, 3), min_size=1, max_size=14)  # few different ids: runs and n-grams are common

EVEN = [0.2] * 5
LLAMA_CPP_PENALTIES = [  # tests/test-sampling.cpp: ids, expected, repetition, frequency, presence
    ([0], [0, 0.25, 0.25, 0.25, 0.25], 50.0, 0.0, 0.0),
    ([0, 1, 2], [0, 0, 0, 0.5, 0.5], 50.0, 0.0, 0.0),
    ([0, 1, 2, 0, 0], [0, 0, 0, 0.5, 0.5], 50.0, 0.0, 0.0),
    ([0], [0.000011, 0.249997, 0.249997, 0.249997, 0.249997], 1.0, 5.0, 5.0),
    ([0, 1, 2], [0.000023, 0.000023, 0.000023, 0.499966, 0.499966], 1.0, 5.0, 5.0),
    ([0, 1, 2, 0, 0], [0.000000, 0.000023, 0.000023, 0.499977, 0.499977], 1.0, 5.0, 5.0),
]


@pytest.mark.parametrize(("ids", "expected", "repetition", "frequency", "presence"), LLAMA_CPP_PENALTIES)
def test_llama_cpp_penalties(ids, expected, repetition, frequency, presence):
    row = apply_repetition(np.log(EVEN), ids, repetition)
    row = apply_presence(apply_frequency(row, ids, frequency), ids, presence)
    np.testing.assert_allclose(probabilities(row), expected, atol=1e-5)


LLAMA_CPP_DRY = [  # tests/test-sampling.cpp: size, ids, expected, multiplier, allowed length, breakers; base 1.1
    (4, [0, 1], [0.25] * 4, 1.0, 2, ()),
    (4, [0, 1, 2, 0, 1], [0.296923, 0.296923, 0.109232, 0.296923], 1.0, 2, ()),
    (5, [0, 1, 3, 4, 0, 1], EVEN, 1.0, 2, (3,)),
    (5, [0, 1, 2, 0, 1], [0.241818, 0.241818, 0.032727, 0.241818, 0.241818], 2.0, 2, ()),
    (5, [0, 1, 2, 3, 4, 0, 1], EVEN, 1.0, 4, ()),
]


@pytest.mark.parametrize(("size", "ids", "expected", "multiplier", "allowed", "breakers"), LLAMA_CPP_DRY)
def test_llama_cpp_dry(size, ids, expected, multiplier, allowed, breakers):
    row = apply_dry(
        np.log([1 / size] * size),
        ids,
        multiplier=multiplier,
        base=1.1,
        allowed_length=allowed,
        breakers=frozenset(breakers),
    )
    np.testing.assert_allclose(probabilities(row), expected, atol=1e-5)


@pytest.mark.parametrize("penalty", [0.7, 1.3])
def test_repetition_agrees_with_transformers(penalty):
    logits_V, ids = np.random.default_rng(0).normal(size=30), [3, 3, 8, 29, 0, 8]
    expected = RepetitionPenaltyLogitsProcessor(penalty)(torch.tensor([ids]), torch.from_numpy(logits_V)[None])
    np.testing.assert_array_equal(apply_repetition(logits_V, ids, penalty), expected[0].numpy())


@given(short, st.integers(1, 5))
def test_no_repeat_ngram_agrees_with_transformers(ids, n):
    logits_V = np.arange(4.0)
    expected = NoRepeatNGramLogitsProcessor(n)(torch.tensor([ids]), torch.from_numpy(logits_V)[None].clone())
    np.testing.assert_array_equal(apply_no_repeat_ngram(logits_V, ids, n), expected[0].numpy())


def find_runs_slowly(ids, shortest, breakers):
    """For each place before the end: how far back the ids before it equal the ids before the end."""
    runs: dict[int, int] = {}
    for place in range(1, len(ids)):
        length = 0
        while length < place and ids[place - 1 - length] == ids[-1 - length] and ids[-1 - length] not in breakers:
            length += 1
        if length >= shortest and ids[place] not in breakers:
            runs[ids[place]] = max(length, runs.get(ids[place], 0))
    return runs


@given(short, st.integers(1, 3), st.frozensets(st.integers(0, 3), max_size=2))
def test_runs_are_the_longest_common_endings(ids, shortest, breakers):
    found = measure_runs(ids, shortest=shortest, longest=99, breakers=breakers)
    assert found == find_runs_slowly(ids, shortest, breakers)


def test_dry_stays_finite_on_a_long_loop():
    ids = [1, 2] * 2000
    row = apply_dry(np.zeros(4, dtype=np.float32), ids, multiplier=5.0, base=1.75, allowed_length=2)
    assert np.isfinite(row).all()
    assert row[1] < -1e37
    assert row[[0, 2, 3]].tolist() == [0, 0, 0]


def test_dry_grows_with_the_run():
    taken = [
        -apply_dry(np.zeros(12), [*range(n), 11, *range(n)], multiplier=1, base=2, allowed_length=2)[11]
        for n in range(1, 6)
    ]
    assert taken == [0, 1, 2, 4, 8]
    assert all(later > earlier for earlier, later in pairwise(taken))


@given(short, st.integers(0, 14), st.one_of(st.none(), st.integers(1, 20)))
def test_spans(ids, num_prompt, window):
    num_prompt = min(num_prompt, len(ids))
    both, prompt, output = (select(ids, num_prompt, Lookback(scope, window)) for scope in ("both", "prompt", "output"))
    assert both == (ids if window is None else ids[-window:])
    if window is None:
        assert prompt + output == ids
    else:
        assert (len(prompt), len(output)) == (min(window, num_prompt), min(window, len(ids) - num_prompt))


@given(short)
def test_penalties_leave_other_ids_and_removed_ids_alone(ids):
    logits_V = np.array([1.0, -1.0, 0.0, -math.inf, 2.0, -2.0])
    for row in (
        apply_repetition(logits_V, ids, 1.5),
        apply_frequency(logits_V, ids, 0.5),
        apply_presence(logits_V, ids, 0.5),
        apply_dry(logits_V, ids, multiplier=1, base=1.5, allowed_length=1),
    ):
        assert row[[4, 5]].tolist() == [2.0, -2.0]
        assert row[3] == -math.inf
        assert not np.isnan(row).any()
        assert (row[:3] <= logits_V[:3]).all()
