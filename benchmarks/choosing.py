"""What a token costs outside the model: stages, draw, constraint, stop condition, spelling; for 16 rows at once.

Each chain is chosen from by the readable stages, and by the compiled loops on one thread and on all; the ids must be the
same, with every bit of their log-probabilities. The time of a row is the time of all rows over their number, the median
of the rounds. A step for as many requests of a model with that vocabulary is measured (or given: --step-ms), and the
share of it is printed.

Logits are normal, three nats wide, in no order: harder than a trained model's, whose nucleus is smaller. Each text has
300 ids behind it.
"""

from __future__ import annotations

import argparse
import os
import statistics
import string
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from contest import SHAPES, Floor, finish, invented_tokenizer
from pellucid.engine.bench import measure_decode, random_ids, read_prompts
from pellucid.engine.constraints.constrain import build_constraint
from pellucid.engine.constraints.settings import ConstraintSettings
from pellucid.engine.runners.build import build_runner
from pellucid.engine.sampling.find_loops import find_loops
from pellucid.engine.sampling.rows import Loops, RowAsk, choose_rows
from pellucid.engine.sampling.sampler import Sampler, check_row
from pellucid.engine.sampling.settings import SamplingSettings
from pellucid.engine.sampling.stage import History, Stage
from pellucid.engine.stop import StopCondition
from pellucid.model.build import build
from pellucid.tokens.tokenizer import Tokenizer

CHAINS: dict[str, dict[str, Any]] = {
    "greedy": {"temperature": 0},
    "draw": {},
    "temperature": {"temperature": 0.8},
    "temperature, top-k": {"temperature": 0.8, "top_k": 40},
    "temperature, top-p": {"temperature": 0.8, "top_p": 0.9},
    "top-k, top-p, temperature": {"top_k": 40, "top_p": 0.95, "temperature": 0.8, "order": "llama.cpp"},
    "min-p": {"min_p": 0.05},
    "repetition and all": {"repetition_penalty": 1.1, "temperature": 0.8, "top_k": 40, "top_p": 0.95, "min_p": 0.05},
    "repetition, top-p": {"repetition_penalty": 1.1, "temperature": 0.8, "top_p": 0.9},
}
CONSTRAINED = {"JSON": {}, "JSON, temperature, top-p": {"temperature": 0.8, "top_p": 0.9}}
SCHEMA = (
    '{"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer"}}, "required": ["name"]}'
)
BEGINNING = '{"name": "'
NUM_IDS, SPREAD = 300, 3.0
MOST_SHARE = 0.1  # of a model's step


def main() -> None:
    """Measure all chains at each size of vocabulary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vocab", type=int, nargs="+", default=[32_000, 151_936])
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--shape", choices=tuple(SHAPES), default="134m", help="the model whose step is measured")
    parser.add_argument("--step-ms", type=float, help="a step of it for all rows, in ms, instead of measuring it")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    loops = {threads: find_loops(threads=threads) for threads in sorted({1, given.threads})}
    tables = [measure(num_logits, loops, given) for num_logits in given.vocab]
    floors = [
        Floor(
            what=f"{chain}, {table['vocab']} tokens: share of a step",
            measured=cost["share_of_step"],
            floor=MOST_SHARE,
            at_most=True,
        )
        for table in tables
        for chain, cost in table["chains"].items()
    ]
    finish({"rows": given.rows, "threads": given.threads, "tables": tables}, floors)


def measure_step(shape: str, num_logits: int, num_rows: int) -> float:
    """A step of a model in fp32 with random weights and so large a vocabulary, for requests of 128 ids, in ms."""
    config = SHAPES[shape].revise(vocab_size=num_logits)
    runner = build_runner(build(config, seed=0))
    prompts = [random_ids(config, 128, seed=number) for number in range(num_rows)]
    timing = measure_decode(runner, read_prompts(runner, prompts, room=32), 16)
    return 1000 * timing.seconds / (timing.num_tokens / num_rows)


def measure(num_logits: int, loops: dict[int, Loops | None], given: argparse.Namespace) -> dict[str, Any]:
    """The microseconds of a row of each chain, each readable stage, and what follows the choice."""
    step_ms = given.step_ms or measure_step(given.shape, num_logits, given.rows)
    tokenizer = invented_tokenizer(min(num_logits, 143_000))
    rng = np.random.default_rng(0)
    rows_RV = (rng.normal(size=(given.rows, num_logits)) * SPREAD).astype(np.float32)
    ids = rng.integers(0, tokenizer.vocab_size, size=(given.rows, NUM_IDS)).tolist()
    chains, stages = {}, {}
    for name, knobs in {**CHAINS, **CONSTRAINED}.items():
        asked = []
        for number in range(given.rows):
            extra, after = (
                ([build_json(tokenizer)], tokenizer.encode(BEGINNING).ids) if name in CONSTRAINED else ([], ())
            )
            settings = SamplingSettings(seed=number, **knobs)
            sampler = Sampler(settings, num_logits=num_logits, num_known=num_logits, extra=extra)
            asked.append(RowAsk(sampler, rows_RV[number], [*ids[number], *after], NUM_IDS))
        chains[name] = compare(asked, loops, given.rounds)
        chains[name]["share_of_step"] = round(given.rows * chains[name]["best"] / (1000 * step_ms), 4)
        stages |= {stage.name: time_stage(stage, asked[0], given.rounds) for stage in asked[0].sampler.stages}
        print(f"{num_logits:>8,} {name:<28}", chains[name], file=sys.stderr, flush=True)
    stages["check of a row"] = median_us(lambda: check_row(rows_RV[0], "model"), given.rounds)
    return {
        "vocab": num_logits,
        "step_ms": round(step_ms, 2),
        "chains": chains,
        "stages_us": stages,
        "ending_us": time_ending(tokenizer, given.rounds),
    }


def compare(asked: list[RowAsk], loops: dict[int, Loops | None], rounds: int) -> dict[str, float]:
    """Microseconds of a row by the readable stages and by the loops, taking turns, after both have given the same."""
    ways = {"readable": None, **{f"loops, threads: {threads}": found for threads, found in loops.items() if found}}
    expected = repr(choose_rows(asked))
    for name, found in ways.items():
        assert repr(choose_rows(asked, found)) == expected, f"{name} chooses otherwise"
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, found in ways.items():
            began = time.perf_counter()
            choose_rows(asked, found)
            times[name].append((time.perf_counter() - began) * 1e6 / len(asked))
    medians = {name: round(statistics.median(values), 1) for name, values in times.items()}
    return medians | {"best": min(medians.values())}


def build_json(tokenizer: Tokenizer) -> Stage:
    """The constraint of a small JSON object; each text needs its own."""
    return build_constraint(ConstraintSettings(json_schema=SCHEMA), tokenizer)


def time_stage(stage: Stage, ask: RowAsk, rounds: int) -> float:
    """Microseconds of a stage on the model's row."""
    history = History(ask.ids, ask.num_prompt)
    return median_us(lambda: stage.apply(ask.logits_V, history), rounds)


def time_ending(tokenizer: Tokenizer, rounds: int) -> dict[str, float]:
    """Microseconds of a token in the stop condition, its spelling included, and of its spelling alone."""
    ids = tokenizer.encode(string.ascii_letters * 20).ids

    def push(stops: tuple[str, ...]) -> float:
        ending = StopCondition(tokenizer, stops, max_new_tokens=None, room=None)
        return median_us(lambda: [ending.push(token_id) for token_id in ids], rounds) / len(ids)

    stream = tokenizer.stream()
    return {
        "spelling": median_us(lambda: [stream.push(token_id) for token_id in ids], rounds) / len(ids),
        "no stop string": push(()),
        "three stop strings": push(("\n\n", "###", "</answer>")),
    }


def median_us(action: Callable[[], object], rounds: int) -> float:
    """The median time of an action in microseconds; the first is not counted."""
    times = []
    for _ in range(rounds + 1):
        began = time.perf_counter()
        action()
        times.append(time.perf_counter() - began)
    return round(statistics.median(times[1:]) * 1e6, 2)


if __name__ == "__main__":
    main()
