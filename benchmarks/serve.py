"""Many requests at once beside llama.cpp, transformers and CTranslate2: tokens per second, and what each request waits for.

    python benchmarks/serve.py --peers-python ENV/bin/python [--shape 134m] [--weights bf16] [--only together prefix arrivals]

together    16 requests of 128 tokens come at once, and write 128 tokens each
prefix      the same, each after the same 1,024 tokens
arrivals    64 requests arrive by chance (Poisson), at 70 % of the pace that the best peer with a queue reached together

All engines run in a process of their own, without HTTP. llama.cpp batches by itself, a thread of ours for each request;
transformers and CTranslate2 get one static batch, which is their best case and has no arrivals. Where the processor has no
bf16, CTranslate2 has none either, and computes in fp32. Prompts are new in
each round, so that nothing is left in a cache from the last one.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
from collections.abc import Callable
from typing import Any

from contest import TYPES, Engine, Floor, Setup, engines, finish, in_turn, measure_machine, parse, prepare
from pellucid.engine.bench import random_ids
from pellucid.engine.bench_requests import poisson_arrivals, quantile
from pellucid.planning.machine import inspect_machine

PROMPT, NEW, SHARED, MANY, LOAD = 128, 128, 1024, 64, 0.7
TOGETHER, AFTER_PREFIX, WAIT, OUTSIDE = 2.0, 3.0, 1.0, 0.10
CTRANSLATE2 = {"fp32": "float32", "bf16": "bfloat16" if inspect_machine().has_bf16 else "float32", "int8": "int8"}
Result = tuple[dict[str, Any], list[Floor]]


class Prompts:
    """New prompts for every call: the first `shared` ids of all are the same."""

    def __init__(self, setup: Setup, count: int, *, shared: int = 0) -> None:
        self.setup, self.count, self.shared, self.rounds = setup, count, shared, itertools.count()

    def __call__(self) -> list[list[int]]:
        seed = 1000 * (1 + next(self.rounds))
        beginning = random_ids(self.setup.config, self.shared, seed=seed)
        own = [random_ids(self.setup.config, PROMPT, seed=seed + 1 + number) for number in range(self.count)]
        return [[*beginning, *ids] for ids in own]


def rate_of(engine: Engine, prompts: Callable[[], list[list[int]]], tokens: int) -> Callable[[], float]:
    """A turn: new prompts at once, the tokens of all a second."""
    return lambda: engine.ask("serve", prompts=prompts(), num_tokens=tokens)["rate"]


def commands(setup: Setup, given: argparse.Namespace, *, context: int) -> dict[str, list[str]]:
    """The commands of all engines that have this number format."""
    sides = {"pellucid": setup.ours(given.weights)}
    if setup.peers_python:
        sides["llama.cpp"] = setup.llama_cpp(TYPES[given.weights], context=context, parallel=given.requests)
        if given.weights in ("fp32", "bf16"):
            sides["transformers"] = setup.transformers(given.weights)
        if given.weights in CTRANSLATE2:
            sides["ctranslate2"] = setup.ctranslate2(CTRANSLATE2[given.weights])
    return sides


def measure_at_once(setup: Setup, given: argparse.Namespace, *, shared: int, floor: float, what: str) -> Result:
    """All requests at once; the outside share is that of one more run of ours."""
    prompts = Prompts(setup, given.requests, shared=shared)
    with engines(commands(setup, given, context=shared + PROMPT + given.tokens + 8)) as started:
        turns = {name: rate_of(engine, prompts, given.tokens) for name, engine in started.items()}
        rates = in_turn(turns, setup.rounds)
        last = started["pellucid"].ask("serve", prompts=prompts(), num_tokens=given.tokens)
    floors = [Floor(what=f"{what}, share outside the model", measured=last["outside"], floor=OUTSIDE, at_most=True)]
    if best := max((rate for name, rate in rates.items() if name != "pellucid"), default=None):
        floors.insert(0, Floor(what=f"{what}, times the best peer", measured=rates["pellucid"] / best, floor=floor))
    report = {"tokens_per_second": rates, "ours": {"outside": last["outside"], "cache_bytes": last["cache_bytes"]}}
    return report, floors


def measure_together(setup: Setup, given: argparse.Namespace) -> Result:
    """Requests that have nothing in common."""
    return measure_at_once(setup, given, shared=0, floor=TOGETHER, what=f"{given.requests} at once")


def measure_prefix(setup: Setup, given: argparse.Namespace) -> Result:
    """Requests that begin alike."""
    what = f"{given.requests} after the same {SHARED}"
    return measure_at_once(setup, given, shared=SHARED, floor=AFTER_PREFIX, what=what)


def measure_arrivals(setup: Setup, given: argparse.Namespace) -> Result:
    """Requests that arrive by chance, the same moments for every engine that has a queue."""
    with_queue = {
        name: command
        for name, command in commands(setup, given, context=PROMPT + given.tokens + 8).items()
        if name in ("pellucid", "llama.cpp")
    }
    warm, many = Prompts(setup, given.requests), Prompts(setup, MANY)
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in with_queue}
    with engines(with_queue) as started:
        turns = {name: rate_of(engine, warm, given.tokens) for name, engine in started.items()}
        rates = in_turn(turns, 1)
        slowest = min(rates.values())
        arrivals = poisson_arrivals(MANY, LOAD * slowest / given.tokens)
        for _ in range(setup.rounds):
            for name, engine in started.items():
                found[name].append(engine.ask("serve", prompts=many(), num_tokens=given.tokens, arrivals=arrivals))
    waits = {
        name: {kind: statistics.median(quantile(one[kind], 0.99) for one in answers) for kind in ("first", "gaps")}
        for name, answers in found.items()
    }
    print(waits, file=sys.stderr)
    floors = [
        Floor(
            what=f"arrivals, 99th of {words}, over llama.cpp's",
            measured=waits["pellucid"][kind] / waits["llama.cpp"][kind],
            floor=WAIT,
            at_most=True,
        )
        for kind, words in (("first", "time to first token"), ("gaps", "gap between tokens"))
        if "llama.cpp" in waits
    ]
    return {"arrivals_per_second": LOAD * slowest / given.tokens, "seconds_99th": waits, "capacity": rates}, floors


PARTS: dict[str, Callable[[Setup, argparse.Namespace], Result]] = {
    "together": measure_together,
    "prefix": measure_prefix,
    "arrivals": measure_arrivals,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="+", choices=tuple(PARTS), default=tuple(PARTS))
    parser.add_argument("--weights", choices=tuple(TYPES), default="bf16")
    parser.add_argument("--requests", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=NEW, help="new tokens of each request")
    given = parse(parser)
    setup = prepare(given)
    report: dict[str, Any] = {
        "shape": setup.shape, "weights": given.weights, "threads": setup.threads, "machine": measure_machine(setup.threads),
    }  # fmt: skip
    floors = []
    for name in given.only:
        report[name], promises = PARTS[name](setup, given)
        floors += promises
    finish(report, floors)


if __name__ == "__main__":
    main()
