"""The plan of a run: each setting that was left open (model size, batch size, steps, …), with its reason.

The plan is derived once from the text, the machine and the time. It is printed (`plan_text`) before the first step,
saved with the run and read back on resume: a resumed run never derives its figures again. Explicit settings are taken
as they are; an impossible one is an error.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pellucid.data.loader import num_windows
from pellucid.errors import DoesNotFitError, SettingsError
from pellucid.evaluate.objective import NEEDS, check_can_learn
from pellucid.planning.config import ModelConfig
from pellucid.planning.flops import count_flops
from pellucid.planning.machine import Machine
from pellucid.planning.memory import ComputeType, MemoryPlan, estimate_training_memory
from pellucid.planning.presets import preset
from pellucid.planning.repetition import dropouts_for
from pellucid.planning.report import check_fits
from pellucid.planning.scaling import Derived, Fit, Reason, Work, derive_schedule, fit_to_budget, from_depth, ladder
from pellucid.settings import Layer, resolve, to_dict
from pellucid.settings import given as given_parts
from pellucid.settings import shallow as as_fields
from pellucid.training.objective_shape import MANY_SHAPES, check_objective, derive_sight
from pellucid.training.settings import ModelSettings, TrainSettings
from pellucid.untrusted import REQUIRED, Json, Table

DEFAULT_MINUTES = 10.0
DEFAULT_CONTEXT = 256
LEAST_TRAINING = 0.25  # of the minutes that were given, even when preparing the text took longer than the rest
EVALUATIONS = 10
MAY_BE_ZERO = ("eval_windows",)  # of the whole figures of a saved plan
MEMORY_SHARE = 0.5  # of the free memory that one micro-batch may take
COMPILE_SECONDS, COMPILE_SAVING = 60.0, 0.3  # what compiling costs once, and the share of a step that it saves
COMPILED_ON_CUDA = 60.0  # seconds of a run above which it pays there: it takes less, and saves more

SLOWEST_FLOPS, FASTEST_FLOPS = 1e9, 1e15  # FLOP/s: the speed of every machine lies between
UNMEASURED_SECONDS = 15.0  # a run that is shorter even on the slowest machine may go without measuring
DEPEND_ON_RATE = ("estimated_seconds", "reasons")


@dataclass(frozen=True, kw_only=True)
class RowShape:
    """The shape of a training row: its positions, and the mean number that hold text; the others are padding."""

    length: int
    tokens: float


@dataclass(frozen=True, kw_only=True)
class TextSize:
    """The size of the text in tokens."""

    train_tokens: int
    valid_tokens: int
    vocab_size: int
    rows_of: Callable[[int], RowShape] | None = None  # of a context length; None: every position of a row is text

    def rows(self, context_length: int) -> RowShape:
        """The shape of the training rows for a model with this context."""
        if self.rows_of is not None:
            return self.rows_of(context_length)
        return RowShape(length=context_length, tokens=context_length)


@dataclass(frozen=True, kw_only=True)
class Given:
    """A shape that the plan has not to choose, and what each of its tokens costs beside its own arithmetic."""

    shape: Derived
    beside: int = 0  # FLOPs: the teacher of a draft reads the token too

    def own_share(self) -> float:
        """The share of all arithmetic that is the model's own."""
        own = count_flops(self.shape.config).training
        return own / (own + self.beside)


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
    budget_seconds: float | None = None  # of training, by the clock; None: the steps alone say when it ends
    most_steps: int | None = None  # useful for this text: a run with time left may be lengthened to it
    epochs: float | None = None  # times through the training text; None in plans made before this was kept
    row_length: int | None = None  # positions of a row on average, padding too; None: the context length
    march: str | None = None  # the processor that steps are compiled for; None until it is settled, and in older runs

    @property
    def tokens(self) -> int:
        """The number of positions that the whole run learns from."""
        return self.steps * self.rows * (self.row_length or self.config.context_length)

    def to_dict(self) -> dict[str, Json]:
        """The plan as it is saved with the run."""
        values = as_fields(self) | {"config": to_dict(self.config), "reasons": [as_fields(r) for r in self.reasons]}
        return values | {"memory": self.memory.total}


def plan_run(
    settings: TrainSettings,
    text: TextSize,
    machine: Machine,
    flops_per_second: float,
    *,
    bf16: bool,
    given: Given | None = None,
    seconds_gone: float = 0.0,
    on_cuda: bool = False,
) -> RunPlan:
    """Derive the plan of a run; `bf16` says whether it computes in bf16, `given` is the shape of a model to
    start from, or of a draft.

    `on_cuda` says whether it runs on a CUDA device. `seconds_gone` is the part of the minutes already spent on preparation. Raises DoesNotFitError, with the figures,
    when even one row at a time needs more memory than is free.
    """
    check_settings(settings)
    flops_per_second *= 1.0 if given is None else given.own_share()
    budget = _budget(settings, seconds_gone)
    seconds = 60 * DEFAULT_MINUTES if budget is None else budget
    fit = _fit(settings, text, flops_per_second, seconds, given)
    config, reasons = fit.config, list(fit.reasons)
    shape = text.rows(config.context_length)
    steps, rows, most_steps = _pace(settings, text, fit, shape, reasons)
    work = Work(config, muon=settings.optimizer.matrices == "muon")
    estimated = work.of(steps * rows * shape.length, steps) / flops_per_second
    micro_rows, memory = _micro_rows(settings, config, rows, machine, "bfloat16" if bf16 else "float32")
    eval_windows, every = _evaluations(settings, config, text, steps, rows, reasons)
    return RunPlan(
        config=config,
        steps=steps,
        rows=rows,
        micro_rows=micro_rows,
        eval_every_steps=every,
        eval_windows=eval_windows,
        save_every_steps=settings.saving.every_steps or every,
        compiled=_compile_pays(settings, estimated, on_cuda=on_cuda) and not (given and given.beside),
        estimated_seconds=estimated,
        memory=memory,
        reasons=tuple(reasons),
        budget_seconds=budget,
        most_steps=most_steps,
        epochs=steps * rows * shape.tokens / max(1, text.train_tokens),
        row_length=None if shape.length == config.context_length else shape.length,
    )


def plan_unmeasured(
    settings: TrainSettings,
    text: TextSize,
    machine: Machine,
    *,
    bf16: bool,
    given: Given | None = None,
    seconds_gone: float = 0.0,
) -> RunPlan | None:
    """The plan of a run that is too small to depend on the machine's speed; None for a larger run.

    Measuring the speed would take longer than such a run.
    """

    def planned(flops_per_second: float) -> RunPlan:
        return plan_run(settings, text, machine, flops_per_second, bf16=bf16, given=given, seconds_gone=seconds_gone)

    slow = planned(SLOWEST_FLOPS)
    if slow.estimated_seconds > UNMEASURED_SECONDS:
        return None
    try:
        fast = planned(FASTEST_FLOPS)
    except DoesNotFitError:
        return None
    if any(getattr(slow, name) != getattr(fast, name) for name in as_fields(slow) if name not in DEPEND_ON_RATE):
        return None
    why = f"at most: if this machine reached no more than {SLOWEST_FLOPS / 1e9:.0f} GFLOP/s"
    reason = Reason(field="estimated_seconds", value=slow.estimated_seconds, why=why)
    return dataclasses.replace(slow, reasons=(*slow.reasons, reason))


def check_settings(settings: TrainSettings) -> None:
    """Raise SettingsError for settings that are wrong for any text.

    These are an unknown preset, axes that do not fit it, a model that does not fit the objective, a size said twice,
    rows that cannot be sorted, and sorted rows with a compiled step (which has one shape).
    """
    check_objective(settings)
    _check_shape(settings)
    if settings.batch.rows is not None and settings.batch.tokens is not None:
        found = f"{settings.batch.rows}, {settings.batch.tokens}"
        raise SettingsError(
            "give batch.rows or batch.tokens, not both",
            found=found,
            hint="leave one of them out: rows = tokens / context",
        )
    if settings.batch.pool is None:
        return
    if settings.data.rows == "stream":
        raise SettingsError(
            "batch.pool sorts rows of documents",
            found=f"data.rows={settings.data.rows}",
            hint="add --set data.rows=documents, or leave batch.pool out",
        )
    if settings.compile == "on":
        raise SettingsError(
            "with batch.pool updates have many shapes, and a compiled step has one",
            found="compile=on",
            hint="leave --set compile=on out, or batch.pool",
        )


def _check_shape(settings: TrainSettings) -> None:
    """Raise SettingsError (or ModelError) for a preset with another depth, or with axes that make no model with it."""
    asked = settings.model
    if asked.preset is None:
        return
    if asked.depth is not None:
        raise SettingsError(
            "give model.preset or model.depth, not both",
            found=f"{asked.preset}, {asked.depth}",
            hint="leave one of them out: a preset has its own depth, and --set model.n_layers=… changes its blocks",
        )
    resolve(ModelConfig, Layer("model", as_fields(preset(asked.preset))), Layer("settings", overrides(asked)))


def _budget(settings: TrainSettings, seconds_gone: float) -> float | None:
    """The seconds that training may take by the clock; None when no minutes were given."""
    if settings.minutes is None:
        return None
    whole = 60 * settings.minutes
    if not (math.isfinite(whole) and whole > 0):
        raise SettingsError(
            "minutes must be a positive number", found=str(settings.minutes), hint="for example --minutes 5"
        )
    return max(whole - seconds_gone, LEAST_TRAINING * whole)


def _fit(settings: TrainSettings, text: TextSize, flops_per_second: float, seconds: float, given: Given | None) -> Fit:
    """Choose the model size first, where it is open, then how much text that model reads."""
    tokens = _asked_tokens(settings, text)
    dropouts = dropouts_for(text.train_tokens, tokens)

    def fit(shapes: Sequence[Derived], shares: Sequence[float], seconds: float) -> Fit:
        return fit_to_budget(
            text.train_tokens, flops_per_second, seconds, shapes=shapes, tokens=tokens, dropouts=shares
        )

    asked = settings.model
    if given is not None:
        shape = given.shape
    elif asked.preset is not None:
        base = dataclasses.replace(preset(asked.preset), vocab_size=text.vocab_size)
        shape = Derived(depth=base.n_layers, config=base, reasons=())
    else:
        length = asked.context_length or min(DEFAULT_CONTEXT, max(2, text.train_tokens - 1))
        sizes = ladder(vocab_size=text.vocab_size, context_length=length)
        if asked.depth is not None:
            sizes = (from_depth(asked.depth, vocab_size=text.vocab_size, context_length=length),)
        shape = _chosen(fit(sizes, dropouts, seconds).depth, sizes)
    axes: Mapping[str, Any] = {} if given is not None else overrides(asked)
    derived: Mapping[str, object] = {}
    if given is None and asked.preset is None:
        derived, reasons = derive_sight(settings.objective, asked.n_layers or shape.config.n_layers)
        shape = dataclasses.replace(shape, reasons=(*shape.reasons, *reasons))
    layers = (Layer("model", as_fields(shape.config)), Layer("objective", derived), Layer("settings", axes))
    config = resolve(ModelConfig, *layers).settings
    is_open = given is None and asked.preset is None and asked.dropout is None
    as_long_as_asked = tokens is not None and settings.minutes is None
    found = fit(
        [dataclasses.replace(shape, config=config)],
        dropouts if is_open else [config.dropout],
        math.inf if as_long_as_asked else seconds,
    )
    check_can_learn(settings.objective, config)
    # A value that a person set or that the given model has needs no reason.
    kept = (one for one in found.reasons if one.field not in axes and (is_open or one.field != "dropout"))
    return dataclasses.replace(found, reasons=tuple(kept))


def _chosen(depth: int, sizes: Sequence[Derived]) -> Derived:
    """The candidate size of this depth, with the reason why it was chosen."""
    shape = next(one for one in sizes if one.depth == depth)
    if len(sizes) == 1:
        return shape
    length = shape.config.context_length
    whys = {
        "n_layers": "of all depths, it promises the lowest loss for this text and time",
        "context_length": "enough for a small model"
        if length == DEFAULT_CONTEXT
        else "as asked, or all of a short text",
        "vocab_size": "the tokenizer's",
    }
    mine = (Reason(field=name, value=getattr(shape.config, name), why=why) for name, why in whys.items())
    return dataclasses.replace(shape, reasons=(*shape.reasons, *mine))


def _asked_tokens(settings: TrainSettings, text: TextSize) -> int | None:
    """The number of training tokens that a person asked for, over all passes; None when it is open."""
    batch = settings.batch
    if settings.steps is not None and batch.rows is not None:
        return settings.steps * batch.rows * text.rows(settings.model.context_length or DEFAULT_CONTEXT).length
    if settings.steps is not None and batch.tokens is not None:
        return settings.steps * batch.tokens
    if settings.epochs is not None:
        return max(1, round(settings.epochs * text.train_tokens))
    return None


def overrides(asked: ModelSettings) -> Mapping[str, Any]:
    """The single axes of the model that a person set."""
    return {name: value for name, value in given_parts(asked).items() if name not in ("preset", "depth")}


def _pace(
    settings: TrainSettings, text: TextSize, fit: Fit, shape: RowShape, reasons: list[Reason]
) -> tuple[int, int, int]:
    """(steps, rows per step, the most steps that are useful for this text)."""
    schedule = derive_schedule(fit.config, fit.tokens)
    tokens, rows = settings.batch.tokens, settings.batch.rows
    if rows is None and tokens is None:
        reasons.extend(reason for reason in schedule.reasons if reason.field == "tokens_per_step")
    rows = rows or (max(1, tokens // shape.length) if tokens else schedule.rows)
    steps = settings.steps or max(1, round(fit.tokens / (rows * shape.tokens)))
    why = (
        "as asked"
        if settings.steps
        else f"{fit.tokens:,} tokens in updates of {rows} rows of {shape.tokens:,.0f} tokens"
    )
    reasons.append(Reason(field="steps", value=steps, why=why))
    return steps, rows, max(steps, _most_steps(settings, text, fit, rows * shape.tokens))


def _most_steps(settings: TrainSettings, text: TextSize, fit: Fit, tokens_per_step: float) -> int:
    """The most steps that time left over may lengthen the run to: those asked for, or those useful for this text."""
    if settings.steps is not None:
        return settings.steps
    asked = _asked_tokens(settings, text)
    return int((fit.most_tokens if asked is None else asked) // tokens_per_step)


def _micro_rows(
    settings: TrainSettings, config: ModelConfig, rows: int, machine: Machine, compute_type: ComputeType
) -> tuple[int, MemoryPlan]:
    """The micro-batch: the most rows that fit in memory and divide the batch; an explicit number must divide it."""

    def memory(count: int) -> MemoryPlan:
        optimizer = settings.optimizer.matrices
        return estimate_training_memory(config, rows=count, optimizer=optimizer, compute_type=compute_type)

    asked = settings.batch.micro_rows
    if asked is not None:
        if rows % asked:
            raise SettingsError(
                "batch.micro_rows must divide the rows of an update",
                found=f"{asked} of {rows} rows",
                hint="leave batch.micro_rows out: then it is worked out",
            )
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
    if text.rows_of is not None:
        total = max(1, round(text.valid_tokens / text.rows(config.context_length).tokens))
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


def compiled_above(*, on_cuda: bool) -> float:
    """The seconds of a run above which compiling its step pays."""
    return COMPILED_ON_CUDA if on_cuda else COMPILE_SECONDS / COMPILE_SAVING


def _compile_pays(settings: TrainSettings, seconds: float, *, on_cuda: bool) -> bool:
    """Whether compilation was asked for, or would save more time than it costs."""
    if settings.compile != "auto":
        return settings.compile == "on"
    if (
        settings.batch.pool is not None or NEEDS[settings.objective.kind] in MANY_SHAPES
    ):  # each shape would be compiled anew
        return False
    return seconds > compiled_above(on_cuda=on_cuda)


def saved_plan(values: Mapping[str, Any], estimate: Callable[[ModelConfig, int], MemoryPlan]) -> RunPlan:
    """Read a plan that `to_dict` saved; its memory is estimated again, since this may be another machine.

    Raises CorruptFileError for missing or impossible figures.
    """
    _check_saved(Table(values, "run.json", "the plan"))
    config = resolve(ModelConfig, Layer("run.json", values["config"])).settings
    memory = estimate(config, values["micro_rows"])
    reasons = tuple(Reason(**reason) for reason in values["reasons"])
    return RunPlan(**{**values, "config": config, "memory": memory, "reasons": reasons})


def _check_saved(saved: Table) -> None:
    for field in dataclasses.fields(RunPlan):
        default = REQUIRED if field.default is dataclasses.MISSING else field.default
        if field.type in ("int", "int | None"):
            saved.whole(field.name, default, low=0 if field.name in MAY_BE_ZERO else 1)
        elif field.type in ("float", "float | None"):
            saved.number(field.name, default, low=0)
        elif field.type == "str | None":
            saved.word(field.name, default)
        elif field.type == "bool":
            saved.flag(field.name, default)
    saved.table("config")
    known = {field.name for field in dataclasses.fields(Reason)}
    if saved.whole("rows") % saved.whole("micro_rows"):
        raise saved.wrong("micro_rows", ValueError("it does not divide rows"))
    if not all(isinstance(reason, dict) and reason.keys() == known for reason in saved.items("reasons")):
        raise saved.wrong("reasons", ValueError("it is not a list of reasons"))
    if unknown := saved.values.keys() - {field.name for field in dataclasses.fields(RunPlan)}:
        raise saved.wrong(sorted(unknown)[0], ValueError("no figure of a plan has this name"))
