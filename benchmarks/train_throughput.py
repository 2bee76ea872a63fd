"""Tokens per second of a training step beside transformers' GPT-2, and the share of the processor's own peak.

    python benchmarks/train_throughput.py --shape 10m|124m [--rounds 8] [--eager]

Four sides take steps in turn, in one process on the same random tokens, so that other load on the machine affects all
of them. Medians are compared. A step is a whole update: rows, forward, backward, optimizer.

    pellucid, GPT-2's axes       this project's Trainer (by default Muon) on the very shape that transformers builds
    pellucid, its own shape      the same Trainer on the default shape of about the same size (`from_depth`)
    transformers, fp32           GPT2LMHeadModel with torch's fused AdamW
    transformers, bf16 autocast  the same model and optimizer under torch.autocast

The peak is one large bf16 product, measured before and after. FLOPs are counted by `planning.flops` (printed), the same
for both sides of one shape. Dropout is off everywhere.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

import torch
import transformers

from pellucid.data.objectives.causal import CausalObjective
from pellucid.model.build import build
from pellucid.model.device import choose_dtype, use_threads
from pellucid.planning.config import ModelConfig
from pellucid.planning.flops import count_flops
from pellucid.planning.machine import inspect_machine
from pellucid.planning.params import count_parameters
from pellucid.planning.presets import preset
from pellucid.planning.scaling import from_depth
from pellucid.training.compiler import default_march, other_marches
from pellucid.training.loop import Pace, Trainer
from pellucid.training.measure import RandomRows, measure_product, seconds_of, try_compile
from pellucid.training.repeatable import use_determinism
from pellucid.training.settings import OptimizerSettings, ScheduleSettings, TrainSettings

CPU = torch.device("cpu")


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The models to measure: GPT-2's axes, the depth of our own shape of that size, and the rows of an update."""

    gpt2: ModelConfig
    depth: int
    rows: int


@dataclass(frozen=True, kw_only=True)
class Side:
    """One side of the comparison: a model with its training step."""

    name: str
    config: ModelConfig
    step: Callable[[], object]
    deterministic: bool


GPT2 = preset("gpt2")
SHAPES = {
    "10m": Shape(
        gpt2=dataclasses.replace(
            GPT2, vocab_size=65, context_length=256, n_layers=6, n_heads=6, n_kv_heads=6, d_model=384, d_ff=1536
        ),
        depth=6,
        rows=32,
    ),
    "124m": Shape(gpt2=dataclasses.replace(GPT2, context_length=512), depth=12, rows=4),
}


def our_side(
    name: str, config: ModelConfig, rows: int, dtype: torch.dtype, optimizer: OptimizerSettings, *, compiled: bool
) -> Side:
    """Pellucid's side: a Trainer as a run builds it."""
    trainer = Trainer(
        build(config, seed=0),
        RandomRows(vocab_size=config.vocab_size, context_length=config.context_length),
        Pace(steps=10_000, rows=rows, micro_rows=rows),
        objective=CausalObjective(),
        optimizer=optimizer,
        schedule=ScheduleSettings(),
        seed=0,
        compute_dtype=dtype,
        compiled=compiled,
    )
    if compiled and (fault := trainer.settle(march=None, others=other_marches(default_march()))):
        raise RuntimeError(f"{name}: {fault}")
    return Side(name=name, config=config, step=trainer.update, deterministic=TrainSettings().deterministic)


def their_sides(config: ModelConfig, rows: int) -> list[Side]:
    """The sides of transformers: GPT-2 and AdamW, plain and under autocast; both share one model."""
    model = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=config.vocab_size, n_positions=config.context_length, n_embd=config.d_model,
            n_layer=config.n_layers, n_head=config.n_heads, n_inner=config.d_ff,
            resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=0, eos_token_id=0,
        )
    ).train()  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.1, fused=True)
    source = RandomRows(vocab_size=config.vocab_size, context_length=config.context_length)

    def step(autocast: bool) -> float:
        ids_BT = source.rows(0, rows).ids_BS[:, :-1]
        with torch.autocast("cpu", torch.bfloat16) if autocast else nullcontext():
            loss = model(input_ids=ids_BT, labels=ids_BT, use_cache=False).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

    names = {False: "transformers, fp32", True: "transformers, bf16 autocast"}
    return [
        Side(name=name, config=config, step=lambda cast=cast: step(cast), deterministic=False)
        for cast, name in names.items()
    ]


def measure(sides: list[Side], rounds: int) -> dict[str, float]:
    """Median seconds of a step for each side, measured in turn; the first step (which may compile) is not counted."""
    seconds: dict[str, list[float]] = {side.name: [] for side in sides}
    for _ in range(rounds + 1):
        for side in sides:
            use_determinism(side.deterministic)
            seconds[side.name].append(seconds_of(side.step, CPU))
    return {name: statistics.median(times[1:]) for name, times in seconds.items()}


def describe(side: Side, seconds: float, rows: int, peak: float) -> dict[str, object]:
    """The figures of one side."""
    tokens = rows * side.config.context_length
    flops_per_second = count_flops(side.config).training * tokens / seconds
    return {
        "parameters": count_parameters(side.config).total,
        "seconds_per_step": round(seconds, 4),
        "tokens_per_second": round(tokens / seconds, 1),
        "training_flops_per_token": count_flops(side.config).training,
        "share_of_peak": round(flops_per_second / peak, 4),
    }


def flop_formula(config: ModelConfig) -> str:
    """Training FLOPs per token, in the terms of `planning.flops`."""
    return "3 x (" + " + ".join(line.formula for line in count_flops(config).terms) + ")"


def run(shape: Shape, rows: int, rounds: int, optimizer: OptimizerSettings, *, compiled: bool) -> dict[str, object]:
    """Measure all four sides of a shape."""
    machine = inspect_machine()
    threads, dtype = use_threads(None, machine), choose_dtype("auto", CPU, machine)
    own = from_depth(shape.depth, vocab_size=shape.gpt2.vocab_size, context_length=shape.gpt2.context_length).config
    sides = [
        our_side("pellucid, GPT-2's axes", shape.gpt2, rows, dtype, optimizer, compiled=compiled),
        our_side("pellucid, its own shape", own, rows, dtype, optimizer, compiled=compiled),
        *their_sides(shape.gpt2, rows),
    ]
    peak = measure_product(CPU, torch.bfloat16)
    seconds = measure(sides, rounds)
    peak = max(peak, measure_product(CPU, torch.bfloat16))
    fp32, bf16 = (seconds[side.name] for side in sides[2:])
    return {
        "threads": threads,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "rows": rows,
        "context_length": shape.gpt2.context_length,
        "pellucid_computes_in": str(dtype).removeprefix("torch."),
        "pellucid_is_compiled": compiled,
        "pellucid_optimizer": optimizer.matrices,
        "bf16_product_peak_gflops": round(peak / 1e9, 1),
        "flop_formula": flop_formula(shape.gpt2),
        "sides": {side.name: describe(side, seconds[side.name], rows, peak) for side in sides},
        "times_transformers_fp32": {side.name: round(fp32 / seconds[side.name], 2) for side in sides[:2]},
        "times_transformers_bf16": {side.name: round(bf16 / seconds[side.name], 2) for side in sides[:2]},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--shape", choices=tuple(SHAPES), default="10m")
    parser.add_argument("--rows", type=int, help="rows of one update (default: 32 at 10m, 4 at 124m)")
    parser.add_argument("--rounds", type=int, default=8, help="steps of each side that count")
    parser.add_argument("--matrices", choices=("muon", "adamw"), default="muon", help="our optimizer (theirs is AdamW)")
    parser.add_argument("--eager", action="store_true", help="do not compile ours")
    given = parser.parse_args()
    dtype = choose_dtype("auto", CPU, inspect_machine())
    why_not = "asked for" if given.eager else try_compile(CPU, dtype).fault or None
    shape = SHAPES[given.shape]
    optimizer = OptimizerSettings(matrices=given.matrices)
    report = run(shape, given.rows or shape.rows, given.rounds, optimizer, compiled=why_not is None)
    print(json.dumps({"shape": given.shape, "cores": os.cpu_count(), "eager_because": why_not, **report}, indent=2))
    print(f"\n{'side':<28} {'tokens/s':>10} {'of peak':>9}")
    for name, figures in report["sides"].items():  # type: ignore[attr-defined]
        print(f"{name:<28} {figures['tokens_per_second']:>10,.0f} {figures['share_of_peak']:>9.1%}")


if __name__ == "__main__":
    main()
