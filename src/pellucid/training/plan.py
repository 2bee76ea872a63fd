"""The plan of a run: every figure that was left open, worked out from the text, the machine and the time, with its reason.

It is made once, printed before the first step, saved with the run and read back on resume: a run that continues never
derives its figures anew. Explicit settings are taken as they are; one that cannot hold is an error.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pellucid.data.loader import num_windows
from pellucid.errors import DoesNotFitError, SettingsError
from pellucid.planning.config import ModelConfig
from pellucid.planning.flops import count_flops
from pellucid.planning.machine import Machine
from pellucid.planning.memory import ComputeType, MemoryPlan, estimate_training_memory
from pellucid.planning.params import count_parameters
from pellucid.planning.presets import preset
from pellucid.planning.report import check_fits
from pellucid.planning.scaling import Fit, Reason, derive_schedule, fit_to_budget, from_depth
from pellucid.settings import Layer, resolve, to_dict
from pellucid.settings import shallow as as_fields
from pellucid.training.settings import ModelSettings, TrainSettings

DEFAULT_MINUTES = 10.0
DEFAULT_CONTEXT = 256
MOST_EPOCHS = 10.0  # beyond about this many passes a small text is learned by heart
EVALUATIONS = 10
MEMORY_SHARE = 0.5  # of the free memory that one micro-batch may take
COMPILE_SECONDS, COMPILE_SAVING = 60.0, 0.3  # what compiling costs once, and the share of a step that it saves

SLOWEST_FLOPS, FASTEST_FLOPS = 1e9, 1e15  # a second: every machine lies between
UNMEASURED_SECONDS = 5.0  # a run that is shorter even on the slowest machine may go without measuring
DEPEND_ON_RATE = ("estimated_seconds", "reasons")


@dataclass(frozen=True, kw_only=True)
class TextSize:
    """How much text there is, in tokens."""

    train_tokens: int
    valid_tokens: int
    vocab_size: int


@dataclass(frozen=True, kw_only=True)
class RunPlan:
    """What a run will do."""

    config: ModelConfig
    steps: int
    rows: int
    micro_rows: int
    eval_every_steps: int
    eval_windows: int  # validation windows read by one evaluation; 0 when there is no validation text
    save_every_steps: int
    compiled: bool
    estimated_seconds: float
    memory: MemoryPlan
    reasons: tuple[Reason, ...]
    march: str | None = None  # the processor that steps are compiled for; None until it is settled, and in older runs

    @property
    def tokens(self) -> int:
        """Positions that the whole run learns from."""
        return self.steps * self.rows * self.config.context_length

    def to_dict(self) -> dict[str, Any]:
        """What is saved with the run."""
        values = as_fields(self) | {"config": to_dict(self.config), "reasons": [as_fields(r) for r in self.reasons]}
        return values | {"memory": self.memory.total}


def plan_run(
    settings: TrainSettings,
    text: TextSize,
    machine: Machine,
    flops_per_second: float,
    *,
    bf16: bool,
    given: ModelConfig | None = None,
) -> RunPlan:
    """Work out the run; `bf16` says what it computes in, `given` is the shape of a model to start from.

    Raises DoesNotFitError, with the figures, when even one row at a time needs more memory than is free.
    """
    config, fit = (given, None) if given is not None else choose_model(settings, text, flops_per_second)
    reasons = list(fit.derived.reasons + fit.reasons) if fit else []
    flops = count_flops(config).training
    steps, rows = _pace(settings, config, text, flops_per_second, fit, reasons)
    micro_rows, memory = _micro_rows(settings, config, rows, machine, "bfloat16" if bf16 else "float32")
    seconds = steps * rows * config.context_length * flops / flops_per_second
    eval_windows, every = _evaluations(settings, config, text, steps, rows, reasons)
    return RunPlan(
        config=config,
        steps=steps,
        rows=rows,
        micro_rows=micro_rows,
        eval_every_steps=every,
        eval_windows=eval_windows,
        save_every_steps=settings.saving.every_steps or every,
        compiled=_compile_pays(settings, seconds),
        estimated_seconds=seconds,
        memory=memory,
        reasons=tuple(reasons),
    )


def plan_unmeasured(
    settings: TrainSettings, text: TextSize, machine: Machine, *, bf16: bool, given: ModelConfig | None = None
) -> RunPlan | None:
    """The plan of a run so small that how fast the machine is changes nothing about it; None when it does.

    Measuring takes longer than such a run.
    """
    slow = plan_run(settings, text, machine, SLOWEST_FLOPS, bf16=bf16, given=given)
    if slow.estimated_seconds > UNMEASURED_SECONDS:
        return None
    try:
        fast = plan_run(settings, text, machine, FASTEST_FLOPS, bf16=bf16, given=given)
    except DoesNotFitError:
        return None
    if any(getattr(slow, name) != getattr(fast, name) for name in as_fields(slow) if name not in DEPEND_ON_RATE):
        return None
    why = f"at most: if this machine reached no more than {SLOWEST_FLOPS / 1e9:.0f} GFLOP/s"
    reason = Reason(field="estimated_seconds", value=slow.estimated_seconds, why=why)
    return dataclasses.replace(slow, reasons=(*slow.reasons, reason))


def choose_model(settings: TrainSettings, text: TextSize, flops_per_second: float) -> tuple[ModelConfig, Fit | None]:
    """The model's shape: a preset, a depth, or the deepest that the text and the time allow; then single overrides."""
    asked = settings.model
    length = asked.context_length or min(DEFAULT_CONTEXT, max(2, text.train_tokens - 1))
    fit = None
    if asked.preset is not None and asked.depth is not None:
        raise SettingsError("give model.preset or model.depth, not both", found=f"{asked.preset}, {asked.depth}")
    if asked.preset is not None:
        base = dataclasses.replace(preset(asked.preset), vocab_size=text.vocab_size)
    elif asked.depth is not None:
        base = from_depth(asked.depth, vocab_size=text.vocab_size, context_length=length).config
    else:
        seconds = 60 * (settings.minutes or DEFAULT_MINUTES)
        fit = fit_to_budget(
            text.train_tokens,
            flops_per_second,
            seconds,
            vocab_size=text.vocab_size,
            context_length=length,
            max_epochs=settings.epochs or MOST_EPOCHS,
        )
        base = fit.derived.config
    return resolve(ModelConfig, Layer("model", as_fields(base)), Layer("settings", overrides(asked))).settings, fit


def overrides(asked: ModelSettings) -> Mapping[str, Any]:
    """The single axes that a person set."""
    axes = {name: value for name, value in as_fields(asked).items() if value is not None}
    return {name: value for name, value in axes.items() if name not in ("preset", "depth")}


def _pace(
    settings: TrainSettings,
    config: ModelConfig,
    text: TextSize,
    flops_per_second: float,
    fit: Fit | None,
    reasons: list[Reason],
) -> tuple[int, int]:
    """(steps, rows per step)."""
    length = config.context_length
    tokens = _tokens(settings, config, text, flops_per_second, fit)
    schedule = derive_schedule(config, tokens)
    rows = max(1, settings.batch.tokens // length) if settings.batch.tokens else schedule.rows
    if settings.batch.tokens is None:
        reasons.extend(reason for reason in schedule.reasons if reason.field == "tokens_per_step")
    steps = settings.steps or max(1, round(tokens / (rows * length)))
    why = "as asked" if settings.steps else f"{tokens:,} tokens / ({rows} rows x {length} positions)"
    reasons.append(Reason(field="steps", value=steps, why=why))
    return steps, rows


def _tokens(
    settings: TrainSettings, config: ModelConfig, text: TextSize, flops_per_second: float, fit: Fit | None
) -> int:
    """How many tokens to learn from, over all epochs."""
    if settings.steps is not None and settings.batch.tokens is not None:
        return settings.steps * settings.batch.tokens
    if settings.epochs is not None:
        return max(1, round(settings.epochs * text.train_tokens))
    if fit is not None:
        return fit.schedule.train_tokens
    in_time = flops_per_second * 60 * (settings.minutes or DEFAULT_MINUTES) / count_flops(config).training
    return max(1, round(min(in_time, MOST_EPOCHS * text.train_tokens)))


def _micro_rows(
    settings: TrainSettings, config: ModelConfig, rows: int, machine: Machine, compute_type: ComputeType
) -> tuple[int, MemoryPlan]:
    """The most rows that fit at once and divide the batch; an explicit figure that does not divide it is an error."""

    def memory(count: int) -> MemoryPlan:
        optimizer = settings.optimizer.matrices
        return estimate_training_memory(config, rows=count, optimizer=optimizer, compute_type=compute_type)

    asked = settings.batch.micro_rows
    if asked is not None:
        if rows % asked:
            raise SettingsError("batch.micro_rows must divide the rows of an update", found=f"{asked} of {rows} rows")
        check_fits(memory(asked), machine)
        return asked, memory(asked)
    budget = MEMORY_SHARE * machine.memory_available_bytes
    divisors = [count for count in range(rows, 0, -1) if rows % count == 0]
    count = next((count for count in divisors if memory(count).total <= budget), 1)
    check_fits(memory(count), machine)
    return count, memory(count)


def _evaluations(
    settings: TrainSettings, config: ModelConfig, text: TextSize, steps: int, rows: int, reasons: list[Reason]
) -> tuple[int, int]:
    """(windows of one evaluation, steps between evaluations)."""
    every = settings.evaluation.every_steps or max(1, math.ceil(steps / EVALUATIONS))
    if text.valid_tokens < 2:
        return 0, every
    total = num_windows(text.valid_tokens, config.context_length)
    # A window costs a third of what it costs in training: no backward pass.
    affordable = int(settings.evaluation.max_share * steps * rows * 3)
    count = max(1, min(total, affordable))
    why = (
        "all of them"
        if count == total
        else (f"of {total:,}: one evaluation may cost {settings.evaluation.max_share:.0%} of the run")
    )
    reasons.append(Reason(field="eval_windows", value=count, why=why))
    return count, every


def _compile_pays(settings: TrainSettings, seconds: float) -> bool:
    """Whether compiling is asked for, or would save more than it costs."""
    if settings.compile != "auto":
        return settings.compile == "on"
    return COMPILE_SAVING * seconds > COMPILE_SECONDS


def saved_plan(values: Mapping[str, Any], estimate: Callable[[ModelConfig, int], MemoryPlan]) -> RunPlan:
    """A plan as `to_dict` saved it; its memory is estimated again, since this may be another machine."""
    config = resolve(ModelConfig, Layer("run.json", values["config"])).settings
    memory = estimate(config, values["micro_rows"])
    reasons = tuple(Reason(**reason) for reason in values["reasons"])
    return RunPlan(**{**values, "config": config, "memory": memory, "reasons": reasons})


def table(plan: RunPlan) -> Iterator[tuple[str, str, str]]:
    """(figure, value, reason) for people, before the first step."""
    reasons = {reason.field: reason.why for reason in plan.reasons}
    config, count = plan.config, count_parameters(plan.config).total
    yield "parameters", f"{count:,}", f"{plan.tokens / count:.3g} training tokens for each"
    for name in ("n_layers", "d_model", "n_heads", "d_ff", "vocab_size", "context_length", "tied_head"):
        value = getattr(config, name)
        yield name, f"{value:,}" if type(value) is int else str(value), reasons.get(name, "")
    yield "update", f"{plan.rows} rows x {config.context_length}", reasons.get("tokens_per_step", "")
    yield "steps", f"{plan.steps:,}", reasons.get("steps", "")
    yield "micro-batch", f"{plan.micro_rows} rows", f"{plan.memory.total / 1e6:,.0f} MB at the worst moment"
    yield (
        "evaluation",
        f"every {plan.eval_every_steps} steps",
        f"{plan.eval_windows:,} windows {reasons.get('eval_windows', '')}",
    )
    yield "compiled", "yes" if plan.compiled else "no", "if it agrees with the eager step" if plan.compiled else "eager"
    why = reasons.get("estimated_seconds", "at the rate just measured here")
    yield "time", f"about {plan.estimated_seconds:,.0f} s", why
