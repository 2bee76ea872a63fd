"""`pellucid bench`: how fast a model reads prompts and generates tokens here, compared with the machine's own limits.

Generation is limited by memory bandwidth, prompt reading by matrix products. Both limits are measured after the model,
so that the memory they take is not counted as the model's. All figures are medians of a few rounds.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import click

from pellucid.cli.bench_requests import Load, bench_requests, measure_limits
from pellucid.cli.common import Common, Terminal, common_options, pattern_option, print_json, set_option, tell_opening
from pellucid.cli.language import words
from pellucid.cli.tables import print_table
from pellucid.cli.watch import waiting, watch_items
from pellucid.counts import counted
from pellucid.events import Event
from pellucid.planning.config import ModelConfig
from pellucid.planning.machine import Machine, inspect_machine
from pellucid.planning.report import describe_bytes

if TYPE_CHECKING:  # they load torch, which help does without
    from pellucid.engine.bench import Format
    from pellucid.engine.settings import EngineSettings
    from pellucid.language_model import LanguageModel

GIGA = 1e9


@dataclass(frozen=True, kw_only=True)
class TokenCounts:
    """The number of tokens read and generated in each measurement."""

    prefill: int  # of the prompt whose reading is timed
    context: int  # in the context before the first new token that is timed
    new: int  # new tokens that are timed; `generate` writes one before them


@dataclass(frozen=True, kw_only=True)
class Rate:
    """One timed operation: tokens per second, the cost of a token, and the machine's limit for that cost."""

    name: str
    tokens_per_second: float
    cost_per_token: float  # FLOPs of a token that is read, bytes of one that is written
    unit: str  # of a billion costs per second
    limit_per_second: float | None  # None where it is not measured: on an accelerator

    @property
    def share(self) -> float | None:
        """The share of the machine's limit that was reached."""
        return self.limit_per_second and self.tokens_per_second * self.cost_per_token / self.limit_per_second


@dataclass(frozen=True, kw_only=True)
class Memory:
    """The bytes of the model, and the peak memory of this process."""

    weights: int
    cache: int
    peak: int


@click.command()
@click.argument("run")
@click.option("--prompt-tokens", type=click.IntRange(min=1), default=512, show_default=True, help="prompt to read")
@click.option(
    "--context", type=click.IntRange(min=1), default=128, show_default=True, help="tokens before the new ones"
)
@click.option("--new-tokens", type=click.IntRange(min=2), default=64, show_default=True, help="tokens to write")
@click.option("--requests", type=click.IntRange(1, 1024), help="measure so many requests at once instead")
@click.option("--prompt", type=click.IntRange(min=1), default=128, show_default=True, help="their prompts, in tokens")
@click.option("--tokens", type=click.IntRange(min=2), default=128, show_default=True, help="what each of them writes")
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True, help="of which medians are taken")
@click.option(
    "--weights",
    type=click.Choice(["auto", "fp32", "bf16", "int8", "int4"]),
    help="number format of the weights while generating [default: auto, as they were loaded]",
)
@set_option("pellucid.engine.settings:EngineSettings", "a setting of the engine, for example --set kernels=off")
@pattern_option
@common_options
def command(
    common: Common,
    run: str,
    prompt_tokens: int,
    context: int,
    new_tokens: int,
    requests: int | None,
    prompt: int,
    tokens: int,
    rounds: int,
    weights: str | None,
    assignments: tuple[str, ...],
) -> None:
    """How fast the model in RUN reads and writes here, and how near that is to the machine's limits.

    --set takes the settings of the engine, for example --set kernels=off. The rates depend on
    what else the machine is doing at the moment.
    """
    tell_opening(run, quiet=common.as_json)
    from pellucid.api import load
    from pellucid.engine.settings import EngineSettings
    from pellucid.model.device import use_threads
    from pellucid.settings import Layer, parse_assignments, resolve

    given = parse_assignments(assignments) | ({"weights": weights} if weights else {})
    settings = resolve(EngineSettings, Layer("command line", given)).settings
    machine = inspect_machine()
    threads = use_threads(common.threads, machine)
    lm = load(run, device=common.device, engine=settings, pattern=common.pattern, recorder=Terminal())
    if requests is not None:
        load_of = Load(requests=requests, prompt=prompt, tokens=tokens)
        bench_requests(lm, number_format(lm, settings), machine, load_of, threads=threads, as_json=common.as_json)
        return
    lengths = fit_lengths(lm.config, TokenCounts(prefill=prompt_tokens, context=context, new=new_tokens))
    rates, memory = measure(lm, settings, machine, lengths, rounds=rounds, quiet=common.as_json)
    if common.as_json:
        print_json(document(lm, threads, lengths, rates, memory))
    else:
        show(lm, threads, lengths, rates, memory)


def fit_lengths(config: ModelConfig, asked: TokenCounts) -> TokenCounts:
    """Reduce the lengths to the model's context; every reduction is reported.

    Raises SettingsError when the new tokens alone do not fit.
    """
    from pellucid.errors import SettingsError

    room = config.context_length
    if asked.new + 1 >= room:
        raise SettingsError(
            "the new tokens leave no room for a prompt",
            found=f"--new-tokens {asked.new}",
            where=f"context_length={room}",
            hint=f"at most {room - 2}",
        )
    fitting = TokenCounts(
        prefill=min(asked.prefill, room), context=min(asked.context, room - asked.new - 1), new=asked.new
    )
    if fitting != asked:
        message = (
            f"the model's context is {room} tokens: {fitting.prefill} are read, {fitting.context} precede new ones"
        )
        Terminal().record(Event(name="bench.lengths_cut", message=message, data=asdict(fitting)))
    return fitting


def measure(
    lm: LanguageModel, settings: EngineSettings, machine: Machine, lengths: TokenCounts, *, rounds: int, quiet: bool
) -> tuple[list[Rate], Memory]:
    """Time the model, then the machine's limits."""
    from pellucid.engine.bench import (
        cache_bytes_per_position,
        model_bytes,
        peak_memory_bytes,
        prompt_flops,
        weight_bytes_per_token,
    )

    weights = number_format(lm, settings)
    paces = measure_model(lm, lengths, rounds=rounds, quiet=quiet)
    peak = peak_memory_bytes()
    with waiting("measuring the machine's own limits", quiet=quiet):
        product, bandwidth = measure_limits(lm, weights, machine)
    flops = prompt_flops(lm.config, lengths.prefill) / lengths.prefill
    per_position = cache_bytes_per_position(lm.config, weights)
    read = weight_bytes_per_token(lm.config, weights) + (lengths.context + lengths.new // 2) * per_position
    costs = {"prefill": (flops, "GFLOP/s", product), "decode": (read, "GB/s", bandwidth)}
    costs["generate"] = costs["decode"]
    rates = [
        Rate(name=name, tokens_per_second=paces[name], cost_per_token=cost, unit=unit, limit_per_second=limit)
        for name, (cost, unit, limit) in costs.items()
    ]
    cache = (lengths.context + lengths.new) * per_position
    return rates, Memory(weights=model_bytes(lm.config, weights), cache=cache, peak=peak)


def number_format(lm: LanguageModel, settings: EngineSettings) -> Format:
    """The number format of the weights that are read."""
    if settings.weights != "auto":
        return settings.weights
    return "fp32" if lm.checkpoint.dtype.itemsize == 4 else "bf16"


def measure_model(lm: LanguageModel, lengths: TokenCounts, *, rounds: int, quiet: bool) -> dict[str, float]:
    """Median tokens per second of reading, of writing by the runner alone, and of `generate`."""
    from pellucid.engine.bench import measure_decode, measure_generate, measure_prefill, random_ids, read_prompts

    prompt, start = random_ids(lm.config, lengths.prefill), random_ids(lm.config, lengths.context)
    sequences = read_prompts(lm.runner, [start], room=lengths.new)
    measures: dict[str, Callable[[], Any]] = {
        "prefill": lambda: measure_prefill(lm.runner, prompt),
        "decode": lambda: measure_decode(lm.runner, sequences, lengths.new),
        "generate": lambda: measure_generate(lm.runner, lm.tokenizer, start, lengths.new),
    }
    paces: dict[str, list[float]] = {name: [] for name in measures}
    turns = [name for _ in range(rounds + 1) for name in measures]  # the first round warms up and is not counted
    for name in turns if quiet else watch_items(turns, len(turns), "measuring"):
        paces[name].append(measures[name]().tokens_per_second)
    return {name: statistics.median(values[1:]) for name, values in paces.items()}


def document(
    lm: LanguageModel, threads: int, lengths: TokenCounts, rates: list[Rate], memory: Memory
) -> dict[str, Any]:
    """All results as JSON."""
    return {
        "run": str(lm.checkpoint.directory),
        "runner": lm.runner.name,
        "exact": lm.runner.exact,
        "threads": threads,
        "tokens": asdict(lengths),
        "rates": {rate.name: asdict(rate) | {"share": rate.share} for rate in rates},
        "memory_bytes": asdict(memory),
    }


def show(lm: LanguageModel, threads: int, lengths: TokenCounts, rates: list[Rate], memory: Memory) -> None:
    """Print all results for people."""
    exact = words("exact" if lm.runner.exact else "not exact")
    click.echo(f"{lm.runner.name}; {words(counted(threads, 'thread'))}; {exact}\n")
    explained = {
        "prefill": words(f"read a prompt of {counted(lengths.prefill, 'token')}"),
        "decode": words(f"write {counted(lengths.new, 'token')} after {lengths.context}, the runner alone"),
        "generate": words("the same, each token chosen and spelled"),
    }
    columns = {"what": "left", "tokens/s": "right", "reached": "right", "the machine": "right", "share": "right"}
    print_table(columns, [(explained[rate.name], *cells(rate)) for rate in rates])  # type: ignore[arg-type]
    parts = (
        (words("weights"), memory.weights),
        (words("keys and values"), memory.cache),
        (words("this process at its peak"), memory.peak),
    )
    print_table({"memory": "left", "": "right"}, [(name, describe_bytes(value)) for name, value in parts])


def cells(rate: Rate) -> tuple[str, str, str, str]:
    """One rate as the cells of a table row."""
    reached = f"{rate.tokens_per_second * rate.cost_per_token / GIGA:,.1f} {rate.unit}"
    if rate.limit_per_second is None:
        return f"{rate.tokens_per_second:,.1f}", reached, words("not measured"), "-"
    return (
        f"{rate.tokens_per_second:,.1f}",
        reached,
        f"{rate.limit_per_second / GIGA:,.1f} {rate.unit}",
        f"{rate.share:.0%}",
    )
