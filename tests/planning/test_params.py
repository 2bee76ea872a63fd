"""Parameter counts against published totals, and against the built models."""

from __future__ import annotations

import dataclasses
from math import prod
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.model.build import build_unfilled
from pellucid.model.decoder import Decoder
from pellucid.planning.config import ModelConfig
from pellucid.planning.other_presets import OTHER_FAMILIES
from pellucid.planning.params import block_matrices, count_parameters, parameter_shapes
from pellucid.planning.parts.feed_forward import FeedForwardKind
from pellucid.planning.presets import PRESETS, preset

# As the libraries that publish these models count them (each tensor once).
PUBLISHED = {
    "gpt2": 124_439_808,
    "gpt2-medium": 354_823_168,
    "gpt2-large": 774_030_080,
    "gpt2-xl": 1_557_611_200,
    "gpt3": 174_604_259_328,
    "qwen3-0.6b": 596_049_920,
    "qwen3-1.7b": 1_720_574_976,
    "qwen3-4b": 4_022_468_096,
    "qwen3-8b": 8_190_735_360,
    "qwen3-14b": 14_768_307_200,
    "qwen3-32b": 32_762_123_264,
    "smollm2-135m": 134_515_008,
    "tinyllama-1.1b": 1_100_048_384,
    "llama3-8b": 8_030_261_248,
}

configs = st.builds(
    lambda groups, heads, **axes: ModelConfig.from_axes(n_kv_heads=groups, n_heads=groups * heads, **axes),
    groups=st.integers(1, 3),
    heads=st.integers(1, 3),
    vocab_size=st.integers(1, 50),
    context_length=st.integers(1, 20),
    n_layers=st.integers(1, 3),
    head_dim=st.integers(1, 4).map(lambda half: 2 * half),
    d_model=st.integers(1, 20),
    d_ff=st.integers(1, 20),
    position=st.sampled_from(["none", "learned", "sinusoidal", "rotary"]),
    norm=st.sampled_from(["layer", "layer_no_bias", "rms"]),
    feed_forward=st.sampled_from(get_args(FeedForwardKind)),
    qk_norm=st.booleans(),
    qkv_bias=st.booleans(),
    output_bias=st.booleans(),
    mlp_bias=st.booleans(),
    tied_head=st.booleans(),
)


@pytest.mark.parametrize(("name", "total"), PUBLISHED.items())
def test_published_totals(name: str, total: int) -> None:
    assert count_parameters(preset(name)).total == total


def test_gpt3_by_part() -> None:
    """The total of 174,604,259,328 counts everything: positions, all biases, every norm; the head is tied."""
    count = count_parameters(preset("gpt3"))
    assert (count["token_embedding"], count["position_embedding"]) == (617_558_016, 25_165_824)
    assert count["head"] == 0
    d, layers = 12_288, 96
    assert count.non_embedding == layers * (12 * d * d + 13 * d) + 2 * d
    assert count.terms[0].figures == "50,257 x 12,288"


@pytest.mark.parametrize(("name", "billions"), [
    ("gpt3-small", 0.125), ("gpt3-medium", 0.356), ("gpt3-large", 0.760), ("gpt3-xl", 1.3), ("gpt3-2.7b", 2.7),
    ("gpt3-6.7b", 6.7), ("gpt3-13b", 12.9), ("gpt3", 174.6),
])  # fmt: skip
def test_gpt3_family_is_as_large_as_its_paper_says(name: str, billions: float) -> None:
    assert count_parameters(preset(name)).total / 1e9 == pytest.approx(billions, rel=0.02)


def test_nanogpt_char_without_positions_is_10_65_million() -> None:
    count = count_parameters(preset("nanogpt-char"))
    assert round((count.total - count["position_embedding"]) / 1e6, 2) == 10.65


@given(config=configs)
@settings(deadline=None, max_examples=60)
def test_parts_shapes_and_the_built_model_agree(config: ModelConfig) -> None:
    shapes = parameter_shapes(config)
    assert sum(prod(shape) for shape in shapes.values()) == count_parameters(config).total
    with torch.device("meta"):
        built = Decoder(config)
    assert {name: tuple(p.shape) for name, p in built.named_parameters()} == shapes


@pytest.mark.parametrize("name", [name for name in PRESETS if name != "gpt3"])
def test_presets_build_to_the_planned_shapes(name: str) -> None:
    shallow = {} if name in OTHER_FAMILIES else {"n_layers": 2}  # depth and length repeat, no new shapes
    config = dataclasses.replace(preset(name), context_length=64, **shallow)
    built = build_unfilled(config, device="meta", dtype=torch.float32)
    assert {name: tuple(p.shape) for name, p in built.named_parameters()} == parameter_shapes(config)


@given(config=configs, axis=st.sampled_from(["vocab_size", "n_layers", "d_model", "d_ff"]))
def test_more_of_anything_is_more_parameters(config: ModelConfig, axis: str) -> None:
    more = dataclasses.replace(config, **{axis: getattr(config, axis) + 1})
    assert count_parameters(more).total > count_parameters(config).total


def test_block_matrices_are_what_has_two_axes() -> None:
    assert [part for part, _ in block_matrices(dataclasses.replace(preset("tiny"), n_layers=1))] == [
        "query", "key", "value", "output", "mlp_gate", "mlp_up", "mlp_down"
    ]  # fmt: skip
