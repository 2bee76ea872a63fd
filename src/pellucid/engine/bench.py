"""Benchmark of a runner: tokens per second, and the bytes and FLOPs that limit them on a machine.

Each new token reads every weight once (of experts, those it is sent to), and the keys and values of all positions before it:

    bytes per token = bytes of weights + positions x bytes of cache per position

So one sequence gets at most (read bandwidth / bytes per token) tokens per second. A prompt shares the weights among its
positions, and is limited by matrix products instead. The runner is timed bare, fed with
given ids, and inside `generate`, where choosing a token and spelling it are paid for too. What the machine itself
reaches is *not* measured here, nor is the quality of what is generated.
"""

from __future__ import annotations

import sys
import time
from collections import abc
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import psutil

from pellucid.engine.generate import generate
from pellucid.engine.request import Request
from pellucid.engine.runners.runner import Runner
from pellucid.engine.runners.sequence import Sequence
from pellucid.engine.sampling.settings import SamplingSettings
from pellucid.planning.config import ModelConfig
from pellucid.planning.flops import count_flops
from pellucid.planning.formula import sizes
from pellucid.planning.layout import tensor_plans
from pellucid.planning.memory import estimate_kv_cache
from pellucid.planning.params import met_axes, parameter_shapes
from pellucid.tokens.tokenizer import Tokenizer

if sys.platform != "win32":
    import resource

Format = Literal["fp32", "bf16", "int8", "int4"]

BITS = {"fp32": 32, "bf16": 16, "int8": 8, "int4": 4}
SCALE_BYTES = 4  # a scale is one float32: for each output channel at int8, for each group at int4
GROUP = 32  # weights that share a scale at int4


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Some tokens, and the seconds that they took."""

    num_tokens: int
    seconds: float

    @property
    def tokens_per_second(self) -> float:
        """The rate.

        >>> Timing(num_tokens=30, seconds=0.5).tokens_per_second
        60.0
        """
        return self.num_tokens / self.seconds


def random_ids(config: ModelConfig, count: int, *, seed: int = 0) -> list[int]:
    """A prompt of `count` ids, the same for the same seed: speed does not depend on which they are.

    >>> random_ids(ModelConfig(vocab_size=10), 4) == random_ids(ModelConfig(vocab_size=10), 4)
    True
    """
    return np.random.default_rng(seed).integers(config.vocab_size, size=count).tolist()


def read_prompts(runner: Runner, prompts: abc.Sequence[abc.Sequence[int]], *, room: int) -> list[Sequence]:
    """A sequence for each prompt, read, with room for `room` ids more."""
    sequences = [runner.start(ids, max_length=len(ids) + room) for ids in prompts]
    runner.read(sequences)
    return sequences


def measure_prefill(runner: Runner, ids: abc.Sequence[int]) -> Timing:
    """Time the reading of one prompt, in tokens of the prompt."""
    sequence = runner.start(ids, max_length=len(ids))
    begin = time.perf_counter()
    runner.read([sequence])
    return Timing(num_tokens=len(ids), seconds=time.perf_counter() - begin)


def measure_decode(runner: Runner, sequences: abc.Sequence[Sequence], num_steps: int) -> Timing:
    """Time steps of one new token for each of some sequences that are read; they are left as they were found.

    The runner alone: the ids are given, no token is chosen. The tokens of all sequences count.
    """
    lengths = [len(sequence) for sequence in sequences]
    ids = random_ids(runner.config, num_steps, seed=1)
    begin = time.perf_counter()
    for token_id in ids:
        for sequence in sequences:
            sequence.extend((token_id,))
        runner.read(sequences)
    seconds = time.perf_counter() - begin
    for sequence, length in zip(sequences, lengths, strict=True):
        sequence.truncate(length)
    return Timing(num_tokens=num_steps * len(sequences), seconds=seconds)


def measure_generate(
    runner: Runner, tokenizer: Tokenizer, ids: abc.Sequence[int], num_tokens: int, *, explain: bool = False
) -> Timing:
    """The pace of `generate` after its first token: greedy, with the account of each token or without.

    The text may not end early, so that every measurement is of the same number of tokens.
    """
    sampling = SamplingSettings(temperature=0, max_new_tokens=num_tokens + 1, min_new_tokens=num_tokens + 1)
    request = Request(prompt_ids=ids, sampling=sampling, explain=explain)
    times = [time.perf_counter() for _ in generate(runner, tokenizer, request)]
    return Timing(num_tokens=len(times) - 1, seconds=times[-1] - times[0])


def prompt_flops(config: ModelConfig, num_tokens: int) -> int:
    """FLOPs of reading a prompt: every part for each token, but the head for the last one only.

    >>> config = ModelConfig(vocab_size=100, n_layers=1, n_heads=1, n_kv_heads=1, head_dim=8, d_model=8, d_ff=16)
    >>> prompt_flops(config, 1), prompt_flops(config, 10)
    (2912, 16160)
    """
    count = count_flops(config, context_length=num_tokens)
    return (count.forward - count["head"]) * num_tokens + count["head"]


def model_bytes(config: ModelConfig, weights: Format) -> int:
    """Bytes that all weights take in a number format; vectors (norms, biases) stay float32 in int8 and int4.

    >>> config = ModelConfig(vocab_size=100, n_layers=1, n_heads=2, n_kv_heads=2, head_dim=16, d_model=32, d_ff=64)
    >>> [model_bytes(config, weights) for weights in ("fp32", "bf16", "int8", "int4")]
    [54272, 27136, 15504, 8912]
    """
    return sum(tensor_bytes(shape, weights) for shape in parameter_shapes(config).values())


def weight_bytes_per_token(config: ModelConfig, weights: Format) -> int:
    """Bytes of weights that one new token reads: all but idle experts, and the tables of which it takes a single row.

    >>> config = ModelConfig(vocab_size=100, d_model=32, n_heads=1, n_kv_heads=1, tied_head=False)
    >>> model_bytes(config, "bf16") - weight_bytes_per_token(config, "bf16")
    6400
    """
    looked_up = {"position.weight"} if config.tied_head else {"position.weight", "embed.weight"}
    symbols, read = sizes(config), [tensor for tensor in tensor_plans(config) if tensor.name not in looked_up]
    return sum(tensor_bytes(tuple(symbols[axis] for axis in met_axes(tensor)), weights) for tensor in read)


def tensor_bytes(shape: tuple[int, ...], weights: Format) -> int:
    """Bytes of one tensor of weights in a number format, its scales included."""
    count = int(np.prod(shape))
    if weights in ("fp32", "bf16"):
        return count * BITS[weights] // 8
    if len(shape) == 1:
        return count * BITS["fp32"] // 8
    num_scales = count // shape[-1] if weights == "int8" else count // GROUP  # matrices of experts lie stacked
    return count * BITS[weights] // 8 + num_scales * SCALE_BYTES


def cache_bytes_per_position(config: ModelConfig, weights: Format) -> int:
    """Bytes of keys and values that one position adds to the cache, and that each later token reads.

    They are kept in float32 beside float32 weights, else in bfloat16.

    >>> cache_bytes_per_position(ModelConfig(n_layers=2, n_kv_heads=2, n_heads=4, head_dim=8), "int8")
    128
    """
    return estimate_kv_cache(config, "float32" if weights == "fp32" else "bfloat16").value


def peak_memory_bytes() -> int:
    """The most memory that this process has held at once (resident, files mapped into it included).

    >>> peak_memory_bytes() > 1_000_000
    True
    """
    status = Path("/proc/self/status")
    if status.is_file():  # what getrusage says here begins, in a child, at the peak of its parent
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
