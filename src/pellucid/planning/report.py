"""A plan: everything that can be known of a model before it is built, as one object and as rows of a table.

It joins the counts of the other files (parameters, FLOPs, bytes) with a time estimate on one machine, and refuses a
training run that cannot fit. It only gathers and labels: every figure comes with the formula it was computed from, and
nothing is drawn here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

from pellucid.counts import counted
from pellucid.errors import DoesNotFitError
from pellucid.planning.axis_names import flat
from pellucid.planning.config import ModelConfig
from pellucid.planning.flops import FlopCount, count_flops
from pellucid.planning.formula import Breakdown, Term
from pellucid.planning.machine import Machine, NamedMachine
from pellucid.planning.memory import (
    ComputeType,
    MemoryPlan,
    Optimizer,
    WeightType,
    estimate_inference_memory,
    estimate_kv_cache,
    estimate_training_memory,
    estimate_weights,
)
from pellucid.planning.params import ParameterCount, count_met, count_parameters
from pellucid.planning.scaling import CHINCHILLA

WEIGHT_TYPES: tuple[WeightType, ...] = ("float32", "bfloat16", "int8")


@dataclass(frozen=True, kw_only=True)
class TimeEstimate:
    """How long a machine would take to train on `tokens` tokens, and the most tokens per second that it could write.

    Writing one text at a time reads every weight once per token, so memory bandwidth over the bytes of the weights is
    its limit; None where the bandwidth is not known.
    """

    machine: str
    source: str
    flops_per_second: float
    tokens: int
    seconds: float
    most_tokens_per_second: float | None


@dataclass(frozen=True, kw_only=True, repr=False)
class Plan:
    """What a model has, costs and needs."""

    name: str
    config: ModelConfig
    parameters: ParameterCount
    flops: FlopCount
    weights: tuple[Term, ...]  # the same weights in each type
    training: MemoryPlan
    inference: MemoryPlan
    kv_cache_per_token: Term
    time: TimeEstimate | None

    def __repr__(self) -> str:
        """One line; `to_dict()` holds all of it, `pellucid plan` prints it."""
        return f"Plan({self.name!r}, {self.parameters.total:,} parameters)"

    def to_dict(self) -> dict[str, object]:
        """The plan for machines (`--json`)."""
        return {
            "name": self.name,
            "config": flat(self.config),
            "parameters": self.parameters.to_dict(),
            "flops": self.flops.to_dict(),
            "weights": [line.to_dict() for line in self.weights],
            "training_memory": self.training.to_dict(),
            "inference_memory": self.inference.to_dict(),
            "kv_cache_per_token": self.kv_cache_per_token.to_dict(),
            "time": None if self.time is None else asdict(self.time),
        }


@dataclass(frozen=True, kw_only=True)
class PlanRow:
    """One line of the printed table; `text` is the value as people read it, `total` marks a sum of the lines above."""

    section: str
    part: str
    formula: str
    figures: str
    value: float
    text: str
    total: bool = False


def plan(
    config: ModelConfig,
    *,
    name: str = "",
    rows: int = 1,
    context_length: int | None = None,
    tokens: int | None = None,
    optimizer: Optimizer = "adamw",
    compute_type: ComputeType = "bfloat16",
    machine: NamedMachine | None = None,
) -> Plan:
    """Work out a model on paper: its parts, arithmetic, bytes and, for a machine, time.

    `rows` x `context_length` tokens make a micro-batch (None: the model's whole context); `tokens` is what it would be
    trained on (None: 20 per parameter).

    >>> from pellucid.planning.presets import preset
    >>> plan(preset("gpt3"), name="gpt3").parameters.total
    174604259328
    """
    parameters = count_parameters(config)
    flops = count_flops(config, context_length=context_length)
    train_tokens = CHINCHILLA * parameters.total if tokens is None else tokens
    weights = tuple(estimate_weights(config, kind) for kind in WEIGHT_TYPES)
    return Plan(
        name=name,
        config=config,
        parameters=parameters,
        flops=flops,
        weights=weights,
        training=estimate_training_memory(
            config, rows=rows, context_length=context_length, optimizer=optimizer, compute_type=compute_type
        ),
        inference=estimate_inference_memory(
            config, rows=rows, context_length=context_length, weight_type=compute_type, cache_type=compute_type
        ),
        kv_cache_per_token=estimate_kv_cache(config, compute_type),
        time=None if machine is None else estimate_time(flops, train_tokens, 2 * count_met(config), machine),
    )


def estimate_time(flops: FlopCount, tokens: int, read_bytes: int, machine: NamedMachine) -> TimeEstimate:
    """How long training on `tokens` tokens would take, and how fast one text could at most be written.

    `read_bytes`: of the weights that a new token meets, in bfloat16.
    """
    bandwidth = machine.memory_bytes_per_second
    return TimeEstimate(
        machine=machine.name,
        source=machine.source,
        flops_per_second=machine.flops_per_second,
        tokens=tokens,
        seconds=flops.training * tokens / machine.flops_per_second,
        most_tokens_per_second=bandwidth / read_bytes if bandwidth else None,
    )


def check_fits(memory: MemoryPlan, machine: Machine) -> None:
    """Raise DoesNotFitError, with the figures and what to try, when a run needs more memory than is free.

    The hint names the most rows that would fit: gradient accumulation makes the same batch of smaller ones.
    """
    available = machine.memory_available_bytes
    if memory.total <= available:
        return
    rows = (available - memory.fixed) // memory.per_row  # per_row is never 0: each row has ids
    if rows >= 1:
        hint = f"{counted(rows, 'row')} at a time would fit; accumulate gradients to keep the batch"
    elif memory.fixed < available:
        hint = "a shorter context: not even one row of this length fits"
    else:
        hint = "fewer layers or a narrower model: without any text it already does not fit"
    largest = sorted(memory.terms, key=lambda line: line.value, reverse=True)[:3]
    raise DoesNotFitError(
        f"{memory.purpose} needs {describe_bytes(memory.total)} of memory, and {describe_bytes(available)} are free",
        found=", ".join(f"{line.name} {describe_bytes(line.value)}" for line in largest) + ", …",
        where=f"{counted(memory.rows, 'row')} of {counted(memory.context_length, 'token')}; limited by the {machine.memory_limited_by}",
        hint=hint,
    )


def render(plan: Plan) -> list[PlanRow]:
    """The plan as rows of a table, section by section, each account ending in its total.

    >>> from pellucid.planning.presets import preset
    >>> row = render(plan(preset("gpt3")))[0]
    >>> row.part, row.formula, row.figures, row.text
    ('token_embedding', 'vocab_size x d_model', '50,257 x 12,288', '617,558,016')
    """
    return [
        *_account_rows("parameters", plan.parameters, describe_count),
        *_account_rows("FLOPs per token", plan.flops, describe_count),
        _total("FLOPs per token", "training", "3 x forward", plan.flops.training, describe_count),
        *(_line("weights", line, describe_bytes) for line in plan.weights),
        *_account_rows("training memory", plan.training, describe_bytes),
        *_account_rows("inference memory", plan.inference, describe_bytes),
        _line("inference memory", plan.kv_cache_per_token, describe_bytes),
        *_time_rows(plan),
    ]


def _account_rows(section: str, account: Breakdown, describe: Callable[[int], str]) -> Iterator[PlanRow]:
    for line in account.terms:
        yield _line(section, line, describe)
    yield _total(section, "total", "", account.total, describe)


def _line(section: str, line: Term, describe: Callable[[int], str]) -> PlanRow:
    text = describe(line.value)
    return PlanRow(
        section=section, part=line.name, formula=line.formula, figures=line.figures, value=line.value, text=text
    )


def _total(section: str, part: str, formula: str, value: int, describe: Callable[[int], str]) -> PlanRow:
    text = describe(value)
    return PlanRow(section=section, part=part, formula=formula, figures="", value=value, text=text, total=True)


def _time_rows(plan: Plan) -> Iterator[PlanRow]:
    time = plan.time
    if time is None:
        return
    section = f"time on {time.machine} ({time.source})"
    ratio = time.tokens / plan.parameters.total
    yield PlanRow(
        section=section,
        part="training",
        formula="tokens x FLOPs / FLOPs per second",
        figures=f"{time.tokens:,} x {plan.flops.training:,} / {time.flops_per_second:,.0f}",
        value=time.seconds,
        text=f"{describe_seconds(time.seconds)} ({ratio:.3g} tokens per parameter)",
    )
    if time.most_tokens_per_second is not None:
        yield PlanRow(
            section=section,
            part="writing, at most",
            formula="memory bandwidth / bfloat16 weights that a token meets",
            figures="",
            value=time.most_tokens_per_second,
            text=f"{time.most_tokens_per_second:,.0f} tokens/s",
        )


def describe_count(value: int) -> str:
    """A count as people read it.

    >>> describe_count(174604259328)
    '174,604,259,328'
    """
    return f"{value:,}"


def describe_bytes(value: int) -> str:
    """Bytes in decimal units, three digits.

    >>> describe_bytes(512), describe_bytes(131_072), describe_bytes(698_417_037_312)
    ('512 B', '131 kB', '698 GB')
    """
    for power, unit in ((12, "TB"), (9, "GB"), (6, "MB"), (3, "kB")):
        if value >= 10**power:
            amount = value / 10**power
            return f"{amount:.{max(0, 2 - int(math.log10(amount)))}f} {unit}"
    return f"{value} B"


def describe_seconds(seconds: float) -> str:
    """A time in the unit that suits it.

    >>> describe_seconds(12.3), describe_seconds(420), describe_seconds(8e4), describe_seconds(9e6)
    ('12 s', '7.0 min', '22.2 h', '104 days')
    """
    for limit, size, text in ((90, 1, "{:.0f} s"), (5400, 60, "{:.1f} min"), (172_800, 3600, "{:.1f} h")):
        if seconds < limit:
            return text.format(seconds / size)
    days = seconds / 86_400
    return f"{days:,.0f} days" if days < 730 else f"{days / 365.25:,.0f} years"
