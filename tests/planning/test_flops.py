"""FLOPs against torch's own counter and against published figures."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from pellucid.model.context import Context, ReadingOrder
from pellucid.model.core import BatchedCore
from pellucid.model.decoder import Decoder
from pellucid.model.two_streams import TwoStreams
from pellucid.planning.config import EncoderConfig
from pellucid.planning.flops import count_flops, muon_flops
from pellucid.planning.params import count_parameters, parameter_shapes
from pellucid.planning.presets import PRESETS, preset
from pellucid.training.optim import orthogonalize


def test_gpt2_full_context_is_the_figure_of_nanogpt() -> None:
    """nanoGPT's sizing notebook counts 291,648,307,200 for one row of 1,024 tokens with nothing masked."""
    config = dataclasses.replace(preset("gpt2"), causal=False)
    assert count_flops(config).forward * 1024 == 291_648_307_200


def test_gpt3_training_is_near_its_published_compute() -> None:
    """Brown et al. 2020 table D.1: 3.14e23 FLOPs for 300 billion tokens, at 6 per parameter and token, no attention."""
    count = count_flops(preset("gpt3"))
    attention = 3 * (count["attention_scores"] + count["attention_sum"])
    assert (count.training - attention) * 300e9 == pytest.approx(3.14e23, rel=0.005)


@pytest.mark.parametrize("name", [name for name, config in PRESETS.items() if not (config.encoder or config.streams)])
def test_palm_formula(name: str) -> None:
    """Chowdhery et al. 2022 appendix B: 6 N + 12 L H Q T per token, nothing masked."""
    config = preset(name)
    config = dataclasses.replace(config, causal=False, attention=dataclasses.replace(config.attention, window=None))
    count = count_flops(config)
    matrices = sum(line.value for line in count.terms if not line.name.startswith("attention_")) // 2
    squares = config.n_layers * config.n_heads * config.head_dim * config.context_length
    assert count.training == 6 * matrices + 12 * squares


@pytest.mark.parametrize("name", ["micro", "tiny-gpt2", "nanogpt-char"])
def test_forward_pass_counted_by_torch(name: str) -> None:
    config = dataclasses.replace(preset(name), causal=False, dropout=0.0)
    ids_BT = torch.zeros(2, config.context_length, dtype=torch.long)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        Decoder(config)(ids_BT, Context(core=BatchedCore()))  # torch counts nothing in its fused kernel on a CPU
    assert counter.get_total_flops() == count_flops(config).forward * ids_BT.numel()


@pytest.mark.parametrize("name", ["micro", "tiny-gpt2", "tiny"])
def test_an_update_by_muon_counted_by_torch(name: str) -> None:
    config = preset(name)
    shapes = [shape for part, shape in parameter_shapes(config).items() if "blocks" in part and len(shape) == 2]
    with FlopCounterMode(display=False) as counter:
        for shape in shapes:
            orthogonalize(torch.ones(1, *shape))
    assert counter.get_total_flops() == muon_flops(config)


def test_a_mixture_costs_what_is_active() -> None:
    """Of 8 experts a token meets 2: a quarter of their multiplications, and the router."""
    mixtral, mistral = count_flops(preset("mixtral-8x7b")), count_flops(preset("mistral-7b"))
    experts = sum(mixtral[f"experts_{name}"] for name in ("gate", "up", "down"))
    assert experts == 2 * sum(mistral[f"mlp_{name}"] for name in ("gate", "up", "down"))
    assert mixtral["router"] == 2 * 8 * 4096 * 32


def test_an_encoder_and_its_decoder_counted_by_torch() -> None:
    """For rows and sources of the same length; the core that torch counts multiplies what it hides as well."""
    config = dataclasses.replace(preset("t5-small"), n_layers=2, encoder=EncoderConfig(n_layers=3), context_length=32)
    model, ids_BT = Decoder(config), torch.zeros(2, 32, dtype=torch.long)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(ids_BT, Context(memory=model.encode(ids_BT)))
    count = count_flops(config)
    seen = sum(count[name] for name in ("attention_scores", "attention_sum"))  # 33 / 2 places of 32
    assert counter.get_total_flops() == (count.forward - seen + seen * 64 // 33) * ids_BT.numel()


def test_two_streams_counted_by_torch() -> None:
    """One row, every place asked for. Of the products of queries with all 2 T distances the plan counts those that are used, T."""
    config = dataclasses.replace(preset("xlnet"), n_layers=2, context_length=32)
    with torch.device("meta"):
        model = TwoStreams(config).eval()
    model.to_empty(device="cpu").requires_grad_(False)
    place_BT = torch.arange(32)[None]
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros_like(place_BT), Context(order=ReadingOrder(ranks_BT=place_BT, places_BP=place_BT)))
    count = count_flops(config)
    scores = count["distance_scores"] + count["asked_distance_scores"]
    assert counter.get_total_flops() == (count.forward + scores) * 32
    assert count["asked_query"] == count["query"] and "asked_key" not in {line.name for line in count.terms}


@given(length=st.integers(1, 1024))
def test_a_causal_row_costs_the_sum_over_its_positions(length: int) -> None:
    config = preset("gpt2")
    seen = sum(range(1, length + 1))
    count = count_flops(config, context_length=length)
    assert count["attention_scores"] * length == 2 * config.n_layers * config.d_attention * seen


def test_totals() -> None:
    count = count_flops(preset("tiny"))
    assert count.forward == sum(line.value for line in count.terms)
    assert count.to_dict()["training"] == count.training == 3 * count.forward
    assert count.forward > 2 * count_parameters(preset("tiny")).non_embedding * 0.99
