"""Mirostat against its formulas, and its limit on sequences that are cut back and forked."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pellucid.engine.sampling.distribution import probabilities
from pellucid.engine.sampling.mirostat import apply_mirostat_1, apply_mirostat_2, count_for_limit, steepness
from pellucid.engine.sampling.sampler import Sampler
from pellucid.engine.sampling.settings import SamplingSettings
from pellucid.errors import SamplingError

SIZE = 64


def row_after(ids) -> np.ndarray:
    """A row that depends on the last id, as a model's does."""
    return np.random.default_rng(ids[-1]).normal(scale=2.0, size=SIZE).astype(np.float32)


def build(version: int, **knobs) -> Sampler:
    settings = SamplingSettings(mirostat=version, seed=7, **knobs)
    return Sampler(settings, num_logits=SIZE, num_known=SIZE)


def go_on(sampler: Sampler, ids: list[int], count: int, num_prompt: int = 1) -> list[int]:
    ids = list(ids)
    for _ in range(count):
        ids.append(sampler.choose(row_after(ids), ids, num_prompt).id)
    return ids


@given(st.lists(st.floats(-9, 9), min_size=1, max_size=20).map(np.array), st.floats(-5, 20))
def test_version_2_keeps_what_is_no_more_surprising_than_the_limit(logits_V, limit):
    surprise_V = -np.log2(probabilities(logits_V))
    kept_V = apply_mirostat_2(logits_V, limit) > -np.inf
    assert kept_V[logits_V.argmax()]
    assert not (kept_V & (surprise_V > limit + 1e-9))[np.arange(logits_V.size) != logits_V.argmax()].any()
    assert kept_V[surprise_V < limit - 1e-9].all()


def test_version_2_follows_its_formula():
    sampler, ids, limit = build(2, mirostat_tau=2.0, mirostat_eta=0.5), [0], 4.0
    for _ in range(20):
        row = row_after(ids)
        expected = probabilities(apply_mirostat_2(row, limit))
        choice = sampler.choose(row, ids, 1, keep_rows=True)
        np.testing.assert_allclose(probabilities(choice.rows[-1]), expected, atol=1e-6)
        surprise = -math.log2(expected[choice.id])
        assert choice.processed_logprob == pytest.approx(math.log(expected[choice.id]), abs=1e-5)
        limit -= 0.5 * (surprise - 2.0)
        ids.append(choice.id)


@pytest.mark.parametrize("exponent", [0.7, 1.0, 1.5])
def test_version_1_recovers_the_exponent_and_the_paper_s_count(exponent):
    ranks = np.arange(1, 5001)
    logits_V = -exponent * np.log(ranks)
    found = steepness(logits_V)
    assert found == pytest.approx(exponent)
    if exponent != 1:
        epsilon, limit = exponent - 1, 6.0
        expected = (epsilon * 2**limit / (1 - 5000**-epsilon)) ** (1 / exponent)
        assert count_for_limit(found, limit, 5000) == int(expected)
        assert (apply_mirostat_1(logits_V, limit) > -np.inf).sum() == int(expected)


@pytest.mark.parametrize(
    "row", [np.zeros(5), np.array([0.0]), np.array([1.0, -np.inf, -np.inf]), np.array([0.0, -1e4, -2e4])]
)
@pytest.mark.parametrize("limit", [-1e6, 0.0, 3.0, 1e6])
def test_extreme_rows_and_limits_leave_a_token(row, limit):
    for cut in (apply_mirostat_1, apply_mirostat_2):
        assert cut(row, limit)[row.argmax()] == row.max()


@pytest.mark.parametrize("version", [1, 2])
def test_the_mean_surprise_comes_near_the_target(version):
    """Over many rows of one shape; without the loop the mean is the entropy, 4.5 bits."""
    sampler, ids, surprises = build(version, mirostat_tau=2.5), [0], []
    shape = np.sort(np.random.default_rng(0).normal(scale=1.5, size=SIZE)).astype(np.float32)
    for _ in range(1500):
        choice = sampler.choose(shape, ids, 1)
        surprises.append(-choice.processed_logprob / math.log(2))
        ids.append(choice.id)
    assert np.mean(surprises[300:]) == pytest.approx(2.5, abs=0.15)


@pytest.mark.parametrize("version", [1, 2])
def test_a_sequence_cut_back_or_forked_goes_on_as_it_would_have(version):
    sampler = build(version)
    whole = go_on(sampler, [0], 30)
    assert go_on(sampler, whole[:11], 20) == whole  # cut back: the same draws, the same limits
    other = [*whole[:11], sampler.choose(row_after(whole[:11]), whole[:11], 1).id]
    assert go_on(sampler, other, 19) == whole  # a fork, taken up after the first has gone on
    assert go_on(build(version), [0], 30) == whole  # another sampler


def test_ids_that_it_did_not_choose_are_an_error():
    with pytest.raises(SamplingError, match="mirostat does not know these ids"):
        build(2).choose(row_after([5]), [0, 5], 1)
