"""The compiled loops in each number format: the weights as they are stored, and to the bit the same whatever is read with them.

Axes: T positions · V vocabulary.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from kernel_models import FORMATS, SHAPES, make, same_bits, some_ids

from pellucid.engine.runners.build import build_runner
from pellucid.engine.runners.kernel_runner import ROWS, KernelRunner
from pellucid.engine.runners.kernels.arithmetic import find_arithmetics
from pellucid.engine.runners.kernels.pack import pack, quantize_int4, quantize_int8
from pellucid.engine.runners.torch_runner import TorchRunner
from pellucid.engine.settings import EngineSettings
from pellucid.errors import RequestError
from pellucid.model.experts import Mixture
from pellucid.processor import find_processor


def best(weights: str) -> str:
    """The arithmetic that this processor uses."""
    return find_arithmetics(weights, find_processor())[0]


@pytest.mark.parametrize("axes", [{}, SHAPES["shares as they are"]], ids=["dense", "every expert"])
@pytest.mark.parametrize("weights", FORMATS)
def test_quantised_weights_are_multiplied_as_they_are_stored(weights, axes):
    """torch with the dequantised weights is the reference: what is left is the rounding of activations and cache.

    Every expert takes part: between two that are nearly alike, rounded activations may choose the other one.
    """
    model, ids = make(**axes), some_ids(60)
    fast = build_runner(model, EngineSettings(weights=weights))
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            kept = "bf16" if name.endswith("router") and weights != "fp32" else weights  # it decides, and is small
            module.weight.data = torch.from_numpy(dequantised(module.weight.detach().numpy(), kept))
        if isinstance(module, Mixture):
            assert module.gate is None
            for stack in (module.up, module.down):
                stack.data = torch.stack([torch.from_numpy(dequantised(one.numpy(), weights)) for one in stack.data])
    head = dequantised(model.embed.weight.detach().numpy(), weights)
    model.score = lambda x, tap: torch.nn.functional.linear(x, torch.from_numpy(head))
    slow = TorchRunner(model)
    found, expected = (runner.score(runner.start(ids, max_length=60)) for runner in (fast, slow))
    assert np.abs(found - expected).max() < (1e-4 if weights == "fp32" else 0.03) * np.abs(expected).max()


def dequantised(weight: np.ndarray, weights: str) -> np.ndarray:
    if weights == "bf16":
        return torch.from_numpy(weight).bfloat16().float().numpy()
    if weights == "int8":
        q, scale = quantize_int8(weight)
        return q * scale[:, None]
    if weights == "int4":
        packed, scale = quantize_int4(weight)
        words = packed.view(np.uint16).reshape(len(packed), -1, 1, 32)
        q = ((words >> np.array([0, 4, 8, 12], np.uint16)[:, None]) & 15).astype(np.float32) - 8
        return (q * scale.reshape(len(packed), -1, 4, 1)).reshape(len(packed), -1)[:, : weight.shape[1]]
    return weight


def test_int4_keeps_the_largest_of_a_group_and_rounds_the_rest_to_the_nearest():
    weight = np.random.default_rng(1).standard_normal((7, 83)).astype(np.float32)
    error = np.abs(dequantised(weight, "int4") - weight)
    _, scale = quantize_int4(weight)
    step = np.repeat(np.abs(scale), 32, 1)[:, :83]
    assert (error <= step * 1.0001).all() and error.mean() < 0.35 * step.mean()


@pytest.mark.parametrize(
    "axes",
    [{}, SHAPES["gpt2"], SHAPES["window"], SHAPES["gemma2"], SHAPES["mixture"]],
    ids=["grouped heads", "gpt2", "window", "gemma2", "mixture"],
)
@pytest.mark.parametrize("weights", FORMATS)
def test_the_bits_of_a_row_depend_on_its_own_ids_alone(weights, axes):
    """One reading of 300 ids is the reference; every other way of reading them must give the same bits."""
    model, ids = make(**axes), some_ids(300)
    runner = KernelRunner(pack(model, weights), num_threads=2, arithmetic=best(weights))
    alone = KernelRunner(pack(model, weights), num_threads=1, arithmetic=best(weights))
    whole_TV = runner.score(runner.start(ids, max_length=300))
    assert same_bits(whole_TV, alone.score(alone.start(ids, max_length=300))), "threads"
    for first in (1, 7, 255, 256, 299):  # chunks
        pieces = runner.start(ids[:first], max_length=300)
        rows = [runner.score(pieces)]
        pieces.extend(ids[first:])
        assert same_bits(whole_TV, np.concatenate([*rows, runner.score(pieces)])), f"cut at {first}"
    steps = runner.start(ids[:250], max_length=300)  # one at a time, over the edge of a page
    rows = [runner.read([steps])[0]]
    for token in ids[250:260]:
        steps.extend([token])
        rows.append(runner.read([steps])[0])
    assert same_bits(whole_TV[249:260], np.stack(rows)), "steps"


@pytest.mark.parametrize("axes", [{}, SHAPES["gpt2"]], ids=["rms", "gpt2"])
@pytest.mark.parametrize("weights", FORMATS)
def test_weights_that_change_under_a_runner_are_taken_up_whole(weights, axes):
    """Some of what a runner reads shares the model's memory, some is a copy: after `refresh` all of it is new."""
    model, other, ids = make(**axes), make(seed=5, **axes), some_ids(40)
    runner = KernelRunner(pack(model, weights), num_threads=1, arithmetic=best(weights))
    begun = runner.start(ids, max_length=60)
    before = runner.read([begun])[0]
    model.load_state_dict(other.state_dict())
    runner.refresh()
    fresh = KernelRunner(pack(other, weights), num_threads=1, arithmetic=best(weights))
    new_V = runner.read([runner.start(ids, max_length=60)])[0]
    assert same_bits(new_V, fresh.read([fresh.start(ids, max_length=60)])[0]) and not same_bits(new_V, before)
    begun.extend([1])
    with pytest.raises(RequestError, match="weights that have changed"):
        runner.read([begun])


@pytest.mark.parametrize("weights", FORMATS)
@pytest.mark.parametrize("size", [2, 3, 5, 8])
def test_neighbours_in_a_batch_change_no_bit(weights, size):
    model, ids = make(), some_ids(290)
    runner = KernelRunner(pack(model, weights), num_threads=2, arithmetic=best(weights))
    whole_TV = runner.score(runner.start(ids, max_length=300))
    lengths = [(60 * place + 13) % 280 + 1 for place in range(size)]
    batch = [runner.start(ids[:length], max_length=300) for length in lengths]
    for sequence, length in zip(batch, lengths, strict=True):
        assert same_bits(runner.read([sequence])[0], whole_TV[length - 1])
        sequence.extend([ids[length]])
    assert same_bits(runner.read(batch), whole_TV[lengths]), "each in its place"
    for sequence, length in zip(batch, lengths, strict=True):
        sequence.extend([ids[length + 1]])
    assert same_bits(runner.read(batch[::-1]), whole_TV[[n + 1 for n in lengths]][::-1]), "and in any other"


@pytest.mark.parametrize("axes", [{}, SHAPES["mixture"]], ids=["dense", "mixture"])
@pytest.mark.parametrize("weights", FORMATS)
def test_prompts_pieces_and_steps_are_read_at_once_without_a_bit_changed(weights, axes):
    """Each sequence has as many new ids as it likes, more in all than one pass reads; every row is the one read alone."""
    model, ids = make(**axes), some_ids(300)
    runner = KernelRunner(pack(model, weights), num_threads=2, arithmetic=best(weights))
    whole_TV = runner.score(runner.start(ids, max_length=300))
    parts = [(0, 300), (120, 121), (0, 1), (40, 290), (7, 9), (299, 300), (0, 250)]  # read before, and then
    batch = [runner.start(ids[:known], max_length=300) for known, _ in parts]
    for sequence, (known, length) in zip(batch, parts, strict=True):
        if known:
            runner.read([sequence])
        sequence.extend(ids[known:length])
    assert sum(len(sequence.unread) for sequence in batch) > ROWS
    assert same_bits(runner.read(batch), whole_TV[[length - 1 for _, length in parts]])
    assert [sequence.unread for sequence in batch] == [[]] * len(parts)
