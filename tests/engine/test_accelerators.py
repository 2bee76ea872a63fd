"""The runner for accelerators: torch with its keys and values in memory set aside beforehand, on every device that is here.

The CPU stands in where there is no other: the code is the same, and the reference is the model read without a cache.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from pellucid.engine.runners.build import build_runner, in_format
from pellucid.engine.runners.slot_runner import SlotRunner, compute_step
from pellucid.engine.runners.slot_trial import keeps_bits
from pellucid.engine.runners.torch_runner import TorchRunner
from pellucid.engine.settings import EngineSettings
from pellucid.errors import EngineError, RequestError
from pellucid.model.build import build
from pellucid.model.cache import ContiguousCache
from pellucid.model.decoder import Decoder
from pellucid.planning.config import ModelConfig
from pellucid.planning.parts.feed_forward import Experts

AVAILABLE = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
CONFIG = ModelConfig.from_axes(
    vocab_size=31, context_length=16, n_layers=2, n_heads=4, n_kv_heads=2, head_dim=8, d_model=16, d_ff=24, init="gpt2",
    sliding_window=6, rope_scaling="linear", rope_factor=2.0,
)  # fmt: skip
PROMPTS = ([3, 1, 4, 1, 5], [9, 2], [6, 5, 3, 5, 8, 9, 7, 9])


@pytest.fixture(params=AVAILABLE)
def device(request) -> str:
    if not AVAILABLE[request.param]:
        pytest.skip(f"this machine has no {request.param} device")
    return request.param


def memories(cache) -> tuple[torch.Tensor, torch.Tensor]:
    """Where keys and values lie."""
    holder = cache if isinstance(cache, ContiguousCache) else cache.slot[0]
    return holder.k_LBGSK, holder.v_LBGSK


def reference(model: Decoder, ids: list[int]) -> np.ndarray:
    """Every row of logits, on the CPU, without a cache."""
    with torch.no_grad():
        return model(torch.tensor([ids])).logits_BTV[0].numpy()


@pytest.mark.parametrize("exact", ["auto", "on", "off"])
def test_prompts_of_unequal_length_and_their_steps(device, exact) -> None:
    slow, model = build(CONFIG, seed=1).eval(), build(CONFIG, seed=1).eval().to(device)
    runner = build_runner(model, EngineSettings(kernels="off", weights="fp32", exact=exact, slots=2))
    in_slots = device != "cpu" or exact != "auto"
    assert isinstance(runner, SlotRunner if in_slots else TorchRunner) and f"torch, float32, {device}" in runner.name
    assert runner.exact == (in_slots and exact != "off")
    sequences = [runner.start(ids, max_length=12) for ids in PROMPTS]
    for sequence, ids in zip(sequences, PROMPTS, strict=True):
        np.testing.assert_allclose(runner.read([sequence])[0], reference(slow, ids)[-1], rtol=1e-4, atol=1e-4)
    for new in (7, 20):
        for sequence in sequences:
            sequence.extend([new])
        for row_V, sequence in zip(runner.read(sequences), sequences, strict=True):
            np.testing.assert_allclose(row_V, reference(slow, sequence.ids)[-1], rtol=1e-4, atol=1e-4)
    assert {memory.device.type for sequence in sequences for memory in memories(sequence.cache)} == {device}


def test_a_fork_and_a_shortened_sequence(device) -> None:
    slow, model = build(CONFIG, seed=1).eval(), build(CONFIG, seed=1).eval().to(device)
    runner = build_runner(model, EngineSettings(kernels="off", weights="fp32"))
    sequence = runner.start(PROMPTS[2], max_length=12)
    runner.read([sequence])
    twin = sequence.fork()
    sequence.truncate(4)
    for one, new in ((sequence, 2), (twin, 11)):
        one.extend([new])
        np.testing.assert_allclose(runner.score(one)[-1], reference(slow, one.ids)[-1], rtol=1e-4, atol=1e-4)


def test_a_processor_runs_in_fixed_shapes_where_that_is_asked_for() -> None:
    model = build(CONFIG, seed=1).eval()
    plain, exact = (build_runner(model, EngineSettings(kernels="off", exact=asked)) for asked in ("auto", "on"))
    assert (plain.exact, plain.name) == (False, "torch, float32, cpu")
    assert (exact.exact, exact.name) == (True, "torch, float32, cpu, steps of 16")
    assert plain.set_aside(None) is plain
    assert (
        build_runner(model, EngineSettings(kernels="off", exact="off")).name == "torch, float32, cpu, steps of up to 16"
    )


@pytest.mark.parametrize("asked", ["on", "auto"])
def test_experts_have_no_fixed_shape(asked) -> None:
    experts = replace(CONFIG.feed_forward, experts=Experts(count=3, active=2, width=8))
    model = build(replace(CONFIG, feed_forward=experts), seed=1).eval()
    settings = EngineSettings(kernels="off", exact=asked)
    if asked == "auto":
        assert not build_runner(model, settings).exact
        return
    with pytest.raises(EngineError, match="an expert reads as many rows as are sent to it"):
        build_runner(model, settings)


def test_a_trial_finds_slots_that_give_other_bits(monkeypatch) -> None:
    model = build(CONFIG, seed=1).eval()
    runner = SlotRunner(model, exact=True, num_slots=3)
    assert keeps_bits(runner) and runner.pool.num_used == 0

    def uneven(*given, **how):
        """A library that adds up in another order in the last row."""
        logits_BV = compute_step(*given, **how)
        logits_BV[-1] *= 1 + 2**-22
        return logits_BV

    monkeypatch.setattr("pellucid.engine.runners.slot_runner.compute_step", uneven)
    runner = SlotRunner(model, exact=True, num_slots=3)
    assert not keeps_bits(runner) and runner.pool.num_used == 0


def test_a_device_that_fails_the_trial_is_not_called_exact(monkeypatch) -> None:
    monkeypatch.setattr("pellucid.engine.runners.build.keeps_bits", lambda runner: False)
    with pytest.raises(EngineError, match="fixed shapes are not exact on this device"):
        build_runner(build(CONFIG, seed=1).eval(), EngineSettings(kernels="off", exact="on"))


def test_weights_in_another_format_follow_those_of_the_model() -> None:
    model = build(CONFIG, seed=1).eval()
    runner = SlotRunner(in_format(model, "bf16"), exact=True, num_slots=2, origin=model)
    assert runner.name.startswith("torch, bfloat16") and model.dtype == torch.float32
    before = runner.read([runner.start(PROMPTS[0], max_length=12)])
    np.testing.assert_allclose(before[0], reference(model, PROMPTS[0])[-1], rtol=0.1, atol=0.02)
    with torch.no_grad():
        model.embed.weight.mul_(-1)
    assert np.array_equal(runner.read([runner.start(PROMPTS[0], max_length=12)]), before)
    runner.refresh()
    assert not np.array_equal(runner.read([runner.start(PROMPTS[0], max_length=12)]), before)


def test_settings_that_cannot_be() -> None:
    with pytest.raises(RequestError, match="slots must be 1 or more"):
        EngineSettings(slots=0)
