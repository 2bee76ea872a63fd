"""Make the plan of one run: read the saved one (lengthened when asked), or make a new one from a short measurement.

The plan is printed before the first step. `plan` has the arithmetic; this file gives it the run's text, machine and
time.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from time import monotonic

import torch

from pellucid.counts import counted
from pellucid.data.loader import DocumentLoader, Pool
from pellucid.data.shards import REBUILD
from pellucid.errors import CorruptFileError, SettingsError
from pellucid.evaluate.objective import OBJECTIVE
from pellucid.events import Event
from pellucid.planning.config import ModelConfig
from pellucid.planning.memory import MemoryPlan, estimate_training_memory
from pellucid.settings import to_dict
from pellucid.training.lengths import Lengths
from pellucid.training.measure import Rates, measure_training
from pellucid.training.plan import RowShape, RunPlan, TextSize, plan_run, plan_unmeasured, saved_plan
from pellucid.training.plan_text import summary, table
from pellucid.training.run import OpenRun
from pellucid.untrusted import Json

MOST_SET_UP = 0.5  # of the minutes: more before the first step is a warning


def make_plan(opened: OpenRun) -> RunPlan:
    """The run's plan. It is saved with the run and reported.

    Raises SettingsError for an impossible length, CorruptFileError for a saved plan that is damaged or whose validation
    text is gone.
    """
    run, task = opened.run, opened.task
    is_new = run.identity.get("plan") is None
    plan = _new_plan(opened) if is_new else _saved_plan(opened, run.part("plan"))
    if is_new or task.extend:
        data: dict[str, Json] = dict(opened.prepared.identity)
        made: dict[str, Json] = {"plan": plan.to_dict(), "data": data, OBJECTIVE: to_dict(opened.asked)}
        run.update_identity({**run.identity, "settings": task.told(), **made})
    told = {"summary": [list(line) for line in summary(plan)], "table": [list(line) for line in table(plan)]}
    message = "the plan of the run"
    opened.recorder.record(Event(name="training.plan", message=message, data={**plan.to_dict(), **told}))
    if plan.eval_windows and opened.prepared.valid is None:
        where = str(opened.run.path / "data")
        raise CorruptFileError("the validation part of the prepared tokens is gone", where=where, hint=REBUILD)
    return plan


def _saved_plan(opened: OpenRun, saved: Mapping[str, Json]) -> RunPlan:
    settings = opened.settings

    def memory(config: ModelConfig, rows: int) -> MemoryPlan:
        return estimate_training_memory(config, rows=rows, optimizer=settings.optimizer.matrices)

    with opened.run.advised():
        plan = saved_plan(saved, memory)
    if opened.task.extend:
        plan = _lengthen(opened, plan)
    return dataclasses.replace(plan, compiled=False) if settings.compile == "off" else plan


def _new_plan(opened: OpenRun) -> RunPlan:
    """A plan for the text, the machine and the time that is left."""
    settings, set_up = opened.settings, opened.set_up
    text, gone = _size_of(opened), monotonic() - opened.task.began
    bf16, given = set_up.dtype == torch.bfloat16, opened.given
    plan = plan_unmeasured(settings, text, set_up.machine, bf16=bf16, given=given, seconds_gone=gone)
    if plan is None:
        flops = _measure(opened).training_flops_per_second
        gone = monotonic() - opened.task.began
        on_cuda = set_up.device.type == "cuda"
        plan = plan_run(
            settings, text, set_up.machine, flops, bf16=bf16, given=given, seconds_gone=gone, on_cuda=on_cuda
        )
    _tell_large_update(opened, plan, text)
    _tell_set_up(opened, plan, gone)
    return plan


def _measure(opened: OpenRun) -> Rates:
    set_up = opened.set_up
    rates = measure_training(set_up.device, set_up.dtype, deterministic=opened.settings.deterministic)
    opened.recorder.record(
        Event(
            name="training.measured",
            message=f"a short training step reaches {rates.training_flops_per_second / 1e9:,.0f} GFLOP/s here; deterministic"
            f" algorithms take {_cost(rates)}{_busy(rates)}",
            data=dataclasses.asdict(rates),
        )
    )
    return rates


def _size_of(opened: OpenRun) -> TextSize:
    """The size of the text; with one document a row, also the shape of the rows."""
    prepared = opened.prepared
    return TextSize(
        train_tokens=prepared.train.num_tokens,
        valid_tokens=prepared.valid.num_tokens if prepared.valid else 0,
        vocab_size=opened.tokenizer.vocab_size,
        rows_of=(lambda length: _shape_of_rows(opened, length)) if opened.settings.data.rows != "stream" else None,
    )


def _shape_of_rows(opened: OpenRun, context_length: int) -> RowShape:
    """The mean length of one-document rows for a model with this context, and how much of a row is text."""
    settings, rows = opened.settings, opened.settings.batch.rows
    pool = Pool.of(rows, settings.batch.pool) if rows else None  # rows still open: as if unsorted
    loader = opened.loader(opened.prepared.train, context_length, pool=pool)
    assert isinstance(loader, DocumentLoader), "a stream has rows of one length"
    return RowShape(length=round(loader.mean_row_length), tokens=loader.mean_row_tokens)


def _tell_large_update(opened: OpenRun, plan: RunPlan, text: TextSize) -> None:
    """Warn when one update, as large as asked for, reads the same text more than once."""
    settings, update = opened.settings, plan.tokens // plan.steps
    if not (settings.batch.rows or settings.batch.tokens) or update < 2 * text.train_tokens:
        return
    message = (
        f"one update reads {update:,} tokens, and the text has {text.train_tokens:,}: it reads the same text"
        f" {update / text.train_tokens:,.0f} times over; smaller updates (batch.rows) learn more from it"
    )
    data = {"update_tokens": update, "train_tokens": text.train_tokens}
    opened.recorder.record(Event(name="training.large_update", message=message, data=data, level="warning"))


def _tell_set_up(opened: OpenRun, plan: RunPlan, gone: float) -> None:
    """Warn when most of the minutes were spent before the first step."""
    settings = opened.settings
    if settings.minutes is None or plan.budget_seconds is None or gone <= MOST_SET_UP * 60 * settings.minutes:
        return
    asked, left = 60 * settings.minutes, plan.budget_seconds
    message = (
        f"set-up (reading, tokenizer, measuring) took {gone:.3g} s of the {asked:.3g} s: training gets {left:.3g} s;"
        " all further minutes would be training"
    )
    data = {"set_up_seconds": gone, "asked_seconds": asked, "training_seconds": left}
    opened.recorder.record(Event(name="training.set_up", message=message, data=data, level="warning"))


def _cost(rates: Rates) -> str:
    """The cost of determinism in words; a negative measurement counts as no cost."""
    share = rates.determinism_cost
    return f"{share:.0%} more time" if share >= 0.01 else "no more time"


def _busy(rates: Rates) -> str:
    """A remark to add when other programs disturbed the measurement."""
    return f"; other programs are busy: most tries took {rates.busy:.1f} times as long" if rates.busy > 1.5 else ""


def _lengthen(opened: OpenRun, plan: RunPlan) -> RunPlan:
    """The saved plan with another number of steps; with a time budget the change is recorded in `lengths` too."""
    run, settings = opened.run, opened.settings
    seconds_per_step, times = plan.estimated_seconds / plan.steps, run.read_times()
    if plan.budget_seconds is not None and times and min(times[-1]) > 0:
        seconds_per_step = times[-1][1] / times[-1][0]
    if settings.steps is not None:
        steps = settings.steps
    elif settings.epochs is not None:
        steps = round(settings.epochs * opened.prepared.train.num_tokens / (plan.rows * plan.config.context_length))
    elif settings.minutes is not None:
        steps = round(settings.minutes * 60 / seconds_per_step)
    else:
        raise SettingsError("--extend needs the new length", hint="add --steps, --epochs or --minutes")
    steps = max(1, steps)
    lengths, saved = Lengths(run, plan.steps), run.latest()
    if saved is not None and steps < saved.step:
        raise SettingsError(
            "--extend needs a longer run than there is",
            found=f"{counted(steps, 'step')} asked for, {counted(saved.step, 'step')} done",
            where=str(run.path),
            hint="give more --steps, --epochs or --minutes than the run has had",
        )
    if lengths.lines:
        lengths.change(saved.step if saved else 0, steps, "--extend")
    epochs = None if plan.epochs is None else plan.epochs * steps / plan.steps
    return dataclasses.replace(
        plan,
        steps=steps,
        most_steps=steps,
        epochs=epochs,
        estimated_seconds=seconds_per_step * steps,
        budget_seconds=None if settings.minutes is None else 60 * settings.minutes,
    )
