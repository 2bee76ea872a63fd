"""`pellucid bench RUN --requests 16`: many requests at once, what each waits for, and how near that is to the limits."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import click

from pellucid.cli.common import print_json
from pellucid.cli.language import words
from pellucid.cli.tables import print_table
from pellucid.cli.watch import waiting
from pellucid.counts import counted
from pellucid.errors import SettingsError
from pellucid.planning.machine import Machine
from pellucid.planning.report import describe_bytes

if TYPE_CHECKING:  # they load torch, which help does without
    from pellucid.engine.bench import Format
    from pellucid.engine.bench_requests import Served
    from pellucid.language_model import LanguageModel

BANDWIDTH_BYTES = 1 << 29  # read to measure bandwidth: more than any cache holds
MILLI = 1e3


@dataclass(frozen=True, kw_only=True)
class Load:
    """Requests that come at once, the tokens of each prompt, and of each answer."""

    requests: int
    prompt: int
    tokens: int


def bench_requests(
    lm: LanguageModel, weights: Format, machine: Machine, load: Load, *, threads: int, as_json: bool
) -> None:
    """Measure requests that all come at once, then the machine, and print both."""
    from pellucid.engine.bench import model_bytes, peak_memory_bytes
    from pellucid.engine.bench_requests import make_requests, measure_requests, step_limit_seconds

    if load.prompt + load.tokens > lm.config.context_length:
        raise SettingsError(
            "prompt and answer do not fit into the model's context",
            found=f"--prompt {load.prompt} --tokens {load.tokens}",
            where=f"context_length={lm.config.context_length}",
            hint="ask for fewer tokens",
        )
    requests = make_requests(lm.config, load.requests, prompt=load.prompt, tokens=load.tokens)
    with waiting("answering", quiet=as_json):
        warm_up = make_requests(lm.config, load.requests, prompt=load.prompt, tokens=2)
        measure_requests(lm.runner, lm.tokenizer, warm_up)
        served = measure_requests(lm.runner, lm.tokenizer, requests)
    peak = peak_memory_bytes()
    with waiting("measuring the machine's own limits", quiet=as_json):
        product, bandwidth = measure_limits(lm, weights, machine)
    limit = None
    if bandwidth is not None:
        positions = load.prompt + load.tokens / 2
        limit = load.requests / step_limit_seconds(
            lm.config,
            weights,
            requests=load.requests,
            positions=positions,
            read_bytes_per_second=bandwidth,
            flops_per_second=product,
        )
    memory = {"weights": model_bytes(lm.config, weights), "cache": served.cache_bytes, "peak": peak}
    if as_json:
        print_json(document(lm, threads, load, served, limit, memory))
    else:
        show(lm, threads, load, served, limit, memory)


def measure_limits(lm: LanguageModel, weights: Format, machine: Machine) -> tuple[float, float | None]:
    """(FLOP/s of a large product, bytes per second read from memory): the limits of any runner on this machine."""
    import torch

    from pellucid.training.measure import measure_product, measure_read_bandwidth

    device = lm.model.device
    exact = weights == "fp32" or (device.type == "cpu" and not machine.has_bf16)
    product = measure_product(device, torch.float32 if exact else torch.bfloat16)
    num_bytes = min(BANDWIDTH_BYTES, machine.memory_available_bytes // 4)
    return product, measure_read_bandwidth(num_bytes) if device.type == "cpu" else None


def pace_while_all_write(served: Served, load: Load) -> float:
    """Tokens a second while all requests write: what the limit of a step is held against."""
    from pellucid.engine.bench_requests import quantile

    return load.requests / quantile(served.gaps)


def document(
    lm: LanguageModel, threads: int, load: Load, served: Served, limit: float | None, memory: dict[str, int]
) -> dict[str, Any]:
    """All results as JSON."""
    from pellucid.engine.bench_requests import quantile

    waits = {
        name: {"median": quantile(values), "p99": quantile(values, 0.99), "worst": max(values)}
        for name, values in (("first", served.first), ("gap", served.gaps))
    }
    pace = pace_while_all_write(served, load)
    return {
        "run": str(lm.checkpoint.directory),
        "runner": lm.runner.name,
        "exact": lm.runner.exact,
        "threads": threads,
        "load": asdict(load),
        "tokens_per_second": served.tokens_per_second,
        "seconds": waits,
        "while_all_write": {"tokens_per_second": pace, "limit": limit, "share": limit and pace / limit},
        "outside_the_model": served.outside,
        "memory_bytes": memory,
    }


def show(
    lm: LanguageModel, threads: int, load: Load, served: Served, limit: float | None, memory: dict[str, int]
) -> None:
    """Print all results for people."""
    from pellucid.engine.bench_requests import quantile

    exact = words("exact" if lm.runner.exact else "not exact")
    click.echo(f"{lm.runner.name}; {words(counted(threads, 'thread'))}; {exact}\n")
    click.echo(words(f"{counted(load.requests, 'request')} at once, {load.prompt} tokens in, {load.tokens} out each"))
    pace = pace_while_all_write(served, load)
    print_table(
        {"tokens/s": "left", "": "right"},
        [
            (words("of all, from the first prompt to the last token"), f"{served.tokens_per_second:,.1f}"),
            (words("while all of them write"), f"{pace:,.1f}"),
            (words("the machine's limit for that"), words("not measured") if limit is None else f"{limit:,.1f}"),
            (words("share"), "-" if limit is None else f"{pace / limit:.0%}"),
            (words("outside the model, of the whole time"), f"{served.outside:.1%}"),
        ],
    )
    rows = [
        (name, *(f"{MILLI * value:,.1f} ms" for value in (quantile(values), quantile(values, 0.99), max(values))))
        for name, values in ((words("to the first token"), served.first), (words("between two tokens"), served.gaps))
    ]
    print_table({"waits": "left", "median": "right", "99 of 100": "right", "worst": "right"}, rows)
    parts = (
        (words("weights"), memory["weights"]),
        (words("keys and values"), memory["cache"]),
        (words("this process at its peak"), memory["peak"]),
    )
    print_table({"memory": "left", "": "right"}, [(name, describe_bytes(value)) for name, value in parts])
