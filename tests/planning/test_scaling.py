"""The dial: shapes grow with depth, known shapes lie on its line, and budgets are kept."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.errors import SettingsError
from pellucid.planning.axis_names import flat
from pellucid.planning.flops import count_flops, muon_flops
from pellucid.planning.params import count_parameters
from pellucid.planning.scaling import DEPTHS, derive_schedule, fit_to_budget, from_depth, ladder, suggest_adamw_rate


@pytest.mark.parametrize(("depth", "shape"), [(6, (384, 6, 1024)), (12, (768, 12, 2048))])
def test_nanogpt_and_gpt2_lie_on_the_line(depth: int, shape: tuple[int, int, int]) -> None:
    config = from_depth(depth, vocab_size=65).config
    assert (config.d_model, config.n_heads, config.d_ff) == shape


@given(depth=st.integers(1, 40), vocab_size=st.integers(1, 60_000), aspect=st.sampled_from([32, 48, 64, 96, 128]))
def test_every_depth_gives_a_sound_shape(depth: int, vocab_size: int, aspect: int) -> None:
    config = from_depth(depth, vocab_size=vocab_size, aspect=aspect).config
    assert config.d_attention == config.d_model
    assert config.d_ff % 32 == 0 and abs(config.d_ff - 8 / 3 * config.d_model) <= 16
    assert abs(config.d_model - aspect * depth) <= config.head_dim / 2 * config.n_heads / config.n_kv_heads
    if not config.tied_head:
        assert vocab_size * config.d_model <= 0.06 * count_parameters(config).total


@given(depth=st.integers(1, 40))
def test_deeper_is_larger(depth: int) -> None:
    smaller, larger = (count_parameters(from_depth(d, vocab_size=4096).config).total for d in (depth, depth + 1))
    assert smaller < larger


def test_every_size_has_its_reason() -> None:
    derived = from_depth(4, vocab_size=2048)
    for reason in derived.reasons:
        assert flat(derived.config)[reason.field] == reason.value and reason.why


def test_wide_models_share_keys_and_values() -> None:
    config = from_depth(16, vocab_size=2048).config
    assert (config.n_heads, config.n_kv_heads) == (16, 8)


def test_schedule_of_a_known_good_run() -> None:
    """1,200 updates of 4 rows of 256: the best of 300, 600, 1,200 and 2,400 for four passes over a novel of 1 MB."""
    schedule = derive_schedule(from_depth(2, vocab_size=1024).config, 1200 * 4 * 256)
    assert (schedule.num_steps, schedule.rows, schedule.tokens_per_step) == (1200, 4, 1024)


def test_small_updates_cost_time_that_the_budget_knows() -> None:
    """Muon's arithmetic is the same for every update: with less text to each, a wide model gets through less of it."""
    shape = from_depth(12, vocab_size=2048)
    fit = fit_to_budget(10**9, 3e11, 600, shapes=[shape])
    updates = derive_schedule(shape.config, fit.tokens).num_steps
    spent = count_flops(shape.config).training * fit.tokens + muon_flops(shape.config) * updates
    assert spent / 3e11 == pytest.approx(600, rel=0.3)  # rows are a power of two, so updates only nearly as many
    assert count_flops(shape.config).training * fit.tokens / 3e11 < 500


@given(depth=st.integers(2, 20), tokens=st.integers(1, 10**11))
def test_schedule_spends_the_tokens(depth: int, tokens: int) -> None:
    schedule = derive_schedule(from_depth(depth, vocab_size=1000).config, tokens)
    assert 0 <= schedule.num_steps * schedule.tokens_per_step - tokens < schedule.tokens_per_step
    assert schedule.rows & (schedule.rows - 1) == 0


def test_adamw_rates_near_published_ones() -> None:
    """Brown et al. 2020 table 2.1: 6e-4 at 125M, 1e-4 at 13B (the formula was fitted below that)."""
    assert suggest_adamw_rate(from_depth(12, vocab_size=65).config) == pytest.approx(6e-4, rel=0.2)


SHAPES = ladder(vocab_size=2048)[:16]


@given(
    tokens=st.integers(1_000_000, 10**9),
    seconds=st.floats(30, 3600),
    rate=st.floats(1e11, 1e13),
    most=st.integers(1, len(SHAPES)),
)
def test_budgets_are_kept(tokens: int, seconds: float, rate: float, most: int) -> None:
    fit = fit_to_budget(tokens, rate, seconds, shapes=SHAPES[:most])
    assert fit.estimated_seconds <= seconds * 1.0001
    assert fit.depth <= DEPTHS[most - 1] and fit.epochs == pytest.approx(fit.tokens / tokens)
    assert fit.tokens <= fit.most_tokens


@given(seconds=st.floats(1, 10_000))
def test_more_time_never_gives_a_shallower_model_of_fresh_text(seconds: float) -> None:
    less, more = (fit_to_budget(10**9, 3e11, s, shapes=SHAPES).depth for s in (seconds, 2 * seconds))
    assert less <= more


@settings(deadline=None)
@given(tokens=st.integers(2_000, 10**7), seconds=st.floats(10, 3600), rate=st.sampled_from([3e10, 3e11, 1e14]))
def test_more_time_never_promises_less(tokens: int, seconds: float, rate: float) -> None:
    """And the choice is the best of all that there were, each alone."""
    fit = fit_to_budget(tokens, rate, seconds, shapes=SHAPES[:8])
    assert fit_to_budget(tokens, rate, 2 * seconds, shapes=SHAPES[:8]).excess <= fit.excess
    assert fit.excess == min(fit_to_budget(tokens, rate, seconds, shapes=[shape]).excess for shape in SHAPES[:8])


@pytest.mark.parametrize("tokens", [0, 1, 2, 3, 50])
def test_the_smallest_texts_still_get_a_model(tokens: int) -> None:
    fit = fit_to_budget(tokens, 1e11, 60, shapes=ladder(vocab_size=258, context_length=max(1, tokens - 1)))
    assert fit.depth == 2 and fit.tokens >= 1


def test_without_a_time_limit_the_text_decides() -> None:
    fit = fit_to_budget(1_000_000, 1e11, shapes=ladder(vocab_size=65))
    assert 1 < fit.epochs < 100 and math.isfinite(fit.estimated_seconds) and fit.tokens == fit.most_tokens
    [why] = [reason.why for reason in fit.reasons if reason.field == "passes"]
    assert "by heart" in why


def test_asked_tokens_are_read_whatever_they_are_worth() -> None:
    fit = fit_to_budget(1000, 1e11, shapes=SHAPES, tokens=10**7)
    assert fit.tokens == 10**7 and fit.config.dropout > 0
    assert fit_to_budget(10**9, 1e11, shapes=SHAPES, tokens=10**7).config.dropout == 0


@pytest.mark.parametrize(("rate", "seconds"), [(0.0, 10.0), (1e9, 0.0), (math.nan, 10.0), (-1.0, 10.0)])
def test_senseless_budgets_are_errors(rate: float, seconds: float) -> None:
    with pytest.raises(SettingsError):
        fit_to_budget(1000, rate, seconds, shapes=SHAPES)


def test_senseless_depths_are_errors() -> None:
    with pytest.raises(SettingsError):
        from_depth(0, vocab_size=65)
