"""What is timed is what is said to be timed, and the bytes are those of the model that is built."""

from __future__ import annotations

import numpy as np
import psutil
import pytest
import torch

from pellucid.engine import bench
from pellucid.engine.generate import generate
from pellucid.engine.request import Request
from pellucid.engine.runners.runner import Runner
from pellucid.engine.runners.torch_runner import TorchRunner
from pellucid.engine.sampling.settings import SamplingSettings
from pellucid.model.build import build
from pellucid.planning.config import ModelConfig
from pellucid.planning.memory import estimate_weights

SHAPES = [
    {"tied_head": True},
    {"tied_head": False, "qk_norm": False},
    {
        "position": "learned",
        "norm": "layer",
        "feed_forward": "gelu",
        "qk_norm": False,
        "qkv_bias": True,
        "mlp_bias": True,
    },
]


def config(**axes) -> ModelConfig:
    sizes = {"n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "head_dim": 8, "d_model": 32, "d_ff": 64}
    return ModelConfig.from_axes(vocab_size=300, context_length=64, **sizes, **axes)


class Counting(Runner):
    """A runner that notes what it is asked to read, and whose model likes one token best."""

    def __init__(self, runner) -> None:
        self.runner, self.config, self.name, self.exact = runner, runner.config, runner.name, runner.exact
        self.readings, self.favourite = [], None

    def start(self, ids, *, max_length):
        return self.runner.start(ids, max_length=max_length)

    def read_parts(self, parts):
        self.readings.append(tuple(part.count for part in parts))
        return self.favour(self.runner.read_parts(parts))

    def favour(self, logits):
        if self.favourite is not None:
            logits[..., self.favourite] = 1e3
        return logits


@pytest.fixture
def runner():
    return Counting(TorchRunner(build(config(init="gpt2"), seed=0)))


def test_a_prompt_is_read_once_and_whole(runner):
    pace = bench.measure_prefill(runner, bench.random_ids(runner.config, 40))
    assert runner.readings == [(40,)] and pace.num_tokens == 40 and pace.seconds > 0


def test_decode_reads_one_token_of_each_and_leaves_no_trace(runner):
    prompts = [bench.random_ids(runner.config, length, seed=length) for length in (9, 5, 7)]
    sequences = bench.read_prompts(runner, prompts, room=6)
    runner.readings.clear()
    pace = bench.measure_decode(runner, sequences, 6)
    assert pace.num_tokens == 18 and runner.readings == [(1, 1, 1)] * 6
    assert [sequence.ids for sequence in sequences] == prompts
    assert [sequence.cache.length for sequence in sequences] == [9, 5, 7]
    fresh = bench.read_prompts(runner, prompts, room=1)
    for row in (*sequences, *fresh):
        row.extend([3])
    assert np.allclose(runner.read(sequences), runner.read(fresh), atol=1e-5)


def test_generate_is_timed_over_the_same_number_of_tokens_whatever_the_model_says(runner, byte_tokenizer):
    runner.favourite = byte_tokenizer.eos_id
    prompt = bench.random_ids(runner.config, 8)
    request = Request(prompt_ids=prompt, sampling=SamplingSettings(temperature=0))
    assert len(list(generate(runner, byte_tokenizer, request))) == 1
    runner.readings.clear()
    pace = bench.measure_generate(runner, byte_tokenizer, prompt, 5)
    assert pace.num_tokens == 5 and runner.readings == [(8,)] + [(1,)] * 5


@pytest.mark.parametrize("axes", SHAPES)
def test_bytes_are_those_of_the_built_model(axes):
    model = build(config(**axes), seed=0)
    for weights, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        sizes = {name: parameter.to(dtype).nbytes for name, parameter in model.named_parameters()}
        assert bench.model_bytes(model.config, weights) == sum(sizes.values())
        rows = {"position.weight"} if model.config.tied_head else {"position.weight", "embed.weight"}
        read = sum(size for name, size in sizes.items() if name not in rows)
        assert bench.weight_bytes_per_token(model.config, weights) == read


@pytest.mark.parametrize("axes", SHAPES)
def test_int8_bytes_are_those_of_the_plan_and_int4_takes_half_and_scales(axes):
    shape = config(**axes)
    assert bench.model_bytes(shape, "int8") == estimate_weights(shape, "int8").value
    assert bench.tensor_bytes((10, 64), "int4") == 10 * 64 // 2 + 10 * 2 * 4
    assert bench.tensor_bytes((64,), "int4") == 64 * 4


@pytest.mark.parametrize("weights", bench.BITS)
def test_a_token_reads_the_experts_that_it_is_sent_to(weights):
    """With two of five experts it reads what it would read of two, and three rows of the router more."""
    five, two = (config(feed_forward={"experts": {"count": count, "active": 2, "width": 32}}) for count in (5, 2))
    more = 2 * (bench.tensor_bytes((5, 32), weights) - bench.tensor_bytes((2, 32), weights))
    assert bench.weight_bytes_per_token(five, weights) - bench.weight_bytes_per_token(two, weights) == more
    assert bench.weight_bytes_per_token(two, weights) == bench.model_bytes(two, weights)
    assert bench.model_bytes(five, "int8") == estimate_weights(five, "int8").value


def test_the_peak_is_never_below_what_is_held_and_remembers():
    held, before = psutil.Process().memory_info().rss, bench.peak_memory_bytes()
    assert before >= held * 0.99  # the system counts pages in batches
    block = np.ones(before - held + 50_000_000, np.uint8)
    num_bytes = block.nbytes
    del block
    assert num_bytes >= 50_000_000 and bench.peak_memory_bytes() >= before + 40_000_000
