"""Measure this machine's speed (FLOP/s, bandwidth, training steps) for a plan. Each measurement takes a second or two.

The rates depend on what else the machine is doing at that moment. They only size a run and estimate its time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from pellucid.data.batch import TokenRows
from pellucid.data.objectives.causal import CausalObjective
from pellucid.model.build import build
from pellucid.planning.flops import count_flops
from pellucid.planning.scaling import from_depth
from pellucid.training.compiler import default_march, other_marches
from pellucid.training.loop import Pace, Trainer
from pellucid.training.repeatable import use_determinism
from pellucid.training.settings import OptimizerSettings, ScheduleSettings
from pellucid.training.steady import time_in_turn


@dataclass(frozen=True, kw_only=True)
class Rates:
    """The measured speed of a training step on this machine."""

    training_flops_per_second: float  # eager training of a small model, arithmetic as `planning.flops` counts it
    determinism_cost: float  # time of a deterministic step over that of a nondeterministic one, minus 1
    busy: float = 1.0  # time of the median try over that of the best; above 1 because of other programs


@dataclass(frozen=True, kw_only=True)
class CompileTrial:
    """The result of compiling a small model's step."""

    march: str  # the processor that it was last compiled for
    fault: str  # why the step is not used; "" when it is


@dataclass(frozen=True, kw_only=True)
class RandomRows:
    """Rows of random tokens, for measuring only."""

    vocab_size: int
    context_length: int

    def rows(self, start: int, count: int) -> TokenRows:
        generator = torch.Generator().manual_seed(start)
        return TokenRows(
            ids_BS=torch.randint(self.vocab_size, (count, self.context_length + 1), generator=generator),
            weights_BS=torch.ones(count, self.context_length + 1),
            lengths_B=torch.full((count,), self.context_length + 1),
            first_token_B=torch.zeros(count, dtype=torch.int64),
            index_B=torch.arange(start, start + count),
        )


def measure_training(device: torch.device, dtype: torch.dtype, *, deterministic: bool) -> Rates:
    """Time a few updates of a small model (four blocks, 16 rows of 128 tokens), deterministic and not, in turn.

    The best of the tries counts, because other load on the machine passes; later the run's own clock corrects the rest.
    """
    trainer = _small_trainer(device, dtype, depth=4, rows=16)
    trainer.update()

    def step(exact: bool) -> float:
        use_determinism(exact)
        return seconds_of(trainer.update, device)

    taken = time_in_turn({"exact": lambda: step(True), "free": lambda: step(False)})
    use_determinism(deterministic)
    config = trainer.model.config
    flops = count_flops(config).training * trainer.pace.rows * config.context_length
    chosen = taken["exact" if deterministic else "free"]
    return Rates(
        training_flops_per_second=flops / chosen.seconds,
        determinism_cost=taken["exact"].seconds / taken["free"].seconds - 1,
        busy=chosen.usual,
    )


def try_compile(device: torch.device, dtype: torch.dtype) -> CompileTrial:
    """Compile the step of a small model, and for earlier processors too where it does not agree with the eager one."""
    trainer = _small_trainer(device, dtype, depth=2, rows=8, compiled=True)
    assert trainer.compiled is not None
    march = default_march()
    fault = trainer.settle(march=march, others=other_marches(march))
    return CompileTrial(march=trainer.compiled.march, fault=fault)


def _small_trainer(
    device: torch.device, dtype: torch.dtype, *, depth: int, rows: int, compiled: bool = False
) -> Trainer:
    config = from_depth(depth, vocab_size=1024, context_length=128).config
    return Trainer(
        build(config, seed=0, device=device),
        RandomRows(vocab_size=config.vocab_size, context_length=config.context_length),
        Pace(steps=100, rows=rows, micro_rows=rows),
        objective=CausalObjective(),
        optimizer=OptimizerSettings(),
        schedule=ScheduleSettings(),
        seed=0,
        compute_dtype=dtype,
        compiled=compiled,
    )


def measure_product(device: torch.device, dtype: torch.dtype, size: int = 2048) -> float:
    """FLOP/s of one large matrix product: the peak that other figures are shares of."""
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    torch.mm(left, right)
    best = min(seconds_of(lambda: torch.mm(left, right), device) for _ in range(8))
    return 2 * size**3 / best


def measure_read_bandwidth(num_bytes: int = 1 << 29) -> float:
    """Memory bandwidth: bytes per second at which this process reads memory that is in no cache."""
    block = torch.ones(num_bytes // 4)
    best = min(seconds_of(block.sum, torch.device("cpu")) for _ in range(4))
    return num_bytes / best


def seconds_of(function: Callable[[], object], device: torch.device) -> float:
    """Seconds that one call takes, including the accelerator's work."""
    synchronize(device)
    start = time.perf_counter()
    function()
    synchronize(device)
    return time.perf_counter() - start


def synchronize(device: torch.device) -> None:
    """Wait until an accelerator has finished."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
