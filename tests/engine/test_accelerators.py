"""The runner for accelerators: torch with its keys and values in memory set aside beforehand, on every device that is here.

The CPU stands in where there is no other: the code is the same, and the reference is the model read without a cache.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pellucid.engine.runners.build import build_runner
from pellucid.engine.runners.torch_runner import TorchRunner
from pellucid.engine.settings import EngineSettings
from pellucid.model.build import build
from pellucid.model.decoder import Decoder
from pellucid.planning.config import ModelConfig

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


def reference(model: Decoder, ids: list[int]) -> np.ndarray:
    """Every row of logits, on the CPU, without a cache."""
    with torch.no_grad():
        return model(torch.tensor([ids])).logits_BTV[0].numpy()


def test_prompts_of_unequal_length_and_their_steps(device) -> None:
    slow, model = build(CONFIG, seed=1).eval(), build(CONFIG, seed=1).eval().to(device)
    runner = build_runner(model, EngineSettings(kernels="off"))
    assert isinstance(runner, TorchRunner) and device in runner.name
    sequences = [runner.start(ids, max_length=12) for ids in PROMPTS]
    assert {tensor.device.type for s in sequences for tensor in (s.cache.k_LBGSK, s.cache.v_LBGSK)} == {device}
    for sequence, ids in zip(sequences, PROMPTS, strict=True):
        np.testing.assert_allclose(runner.read([sequence])[0], reference(slow, ids)[-1], rtol=1e-4, atol=1e-4)
    for new in (7, 20):
        for sequence in sequences:
            sequence.extend([new])
        for row_V, sequence in zip(runner.read(sequences), sequences, strict=True):
            np.testing.assert_allclose(row_V, reference(slow, sequence.ids)[-1], rtol=1e-4, atol=1e-4)


def test_a_fork_and_a_shortened_sequence(device) -> None:
    slow, model = build(CONFIG, seed=1).eval(), build(CONFIG, seed=1).eval().to(device)
    runner = TorchRunner(model)
    sequence = runner.start(PROMPTS[2], max_length=12)
    runner.read([sequence])
    twin = sequence.fork()
    sequence.truncate(4)
    for one, new in ((sequence, 2), (twin, 11)):
        one.extend([new])
        np.testing.assert_allclose(runner.score(one)[-1], reference(slow, one.ids)[-1], rtol=1e-4, atol=1e-4)
