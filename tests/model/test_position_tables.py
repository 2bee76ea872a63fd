"""Tables of positions: as long as what was used, and the same bits however they grew."""

from __future__ import annotations

import dataclasses
import tracemalloc

import pytest
import torch

from pellucid.model import position
from pellucid.model.build import build, build_unfilled
from pellucid.planning.config import ModelConfig

CONFIG = ModelConfig(
    vocab_size=11, context_length=48, n_layers=1, n_heads=2, n_kv_heads=1, head_dim=8, d_model=16, d_ff=16
)
YARN = {"rope_scaling": "yarn", "rope_factor": 4.0, "rope_high_frequency": 32.0, "rope_original_context": 16}
KINDS = [{}, {"position": "sinusoidal"}, YARN, {"rope_scaling": "linear", "rope_factor": 2.0}]


@pytest.mark.parametrize("axes", KINDS, ids=lambda axes: "-".join(map(str, axes.values())) or "rotary")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_table_that_grew_equals_one_that_was_made_whole(axes, dtype, monkeypatch):
    config = CONFIG.revise(**axes)
    whole = build(config, seed=1, dtype=dtype)
    monkeypatch.setattr(position, "FIRST_ROWS", 5)
    grown = build(config, seed=1, dtype=dtype)
    ids_BT = torch.arange(48)[None] % 11
    with torch.inference_mode():
        for length in (3, 6, 7, 48):
            expected, found = whole(ids_BT[:, :length]), grown(ids_BT[:, :length])
            assert torch.equal(expected.logits_BTV, found.logits_BTV)
    for (name, one), (_, other) in zip(whole.named_buffers(), grown.named_buffers(), strict=True):
        assert torch.equal(one, other), name
    grown(ids_BT).logits_BTV.sum().backward()  # rows that were made while only reading serve a training step too


def test_a_context_of_millions_takes_no_memory_until_it_is_used():
    config = dataclasses.replace(CONFIG, context_length=1 << 24, head_dim=128)
    tracemalloc.start()
    model = build_unfilled(config, device="cpu", dtype=torch.float32)
    assert sum(buffer.nbytes for buffer in model.buffers()) < 5_000_000
    tracemalloc.stop()
    model.reserve_positions(10_000)
    assert model.rotation.cos_TK.shape == (10_000, 128)


@pytest.mark.parametrize("axes", KINDS, ids=lambda axes: "-".join(map(str, axes.values())) or "rotary")
def test_a_table_in_a_finer_format_is_made_anew(axes):
    """A cast would keep what the coarser format had rounded away."""
    model = build(CONFIG.revise(**axes), seed=1, dtype=torch.bfloat16)
    for finer in (torch.float16, torch.float32, torch.float64):
        expected = build_unfilled(CONFIG.revise(**axes), device="cpu", dtype=finer)
        for one, other in zip(model.to(finer).buffers(), expected.buffers(), strict=True):
            assert one.dtype == finer and torch.equal(one, other)


def test_a_float32_table_is_what_it_was():
    """Models trained before must find the same bits."""
    rotation = build(CONFIG, seed=1).rotation
    frequency = 1.0 / 10_000.0 ** (torch.arange(0, 8, 2).float() / 8)
    assert torch.equal(rotation.cos_TK[:, :4], (torch.arange(48).float()[:, None] * frequency).cos())
