"""Pretraining: text in, a model that continues text out. It reads as what happens:

    open the text -> tokenizer -> tokens on disk -> plan -> build (or take up where the run stopped) -> train

A run lives in one directory. The same command on the same directory goes on with it; another command is refused with
the differences. Everything derived is written into run.json the first time and read from there afterwards.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

import torch

from pellucid.counts import counted
from pellucid.data.loader import DocumentLoader, Loader, Pool, build_loader
from pellucid.data.prepare import Prepared, identify, prepare
from pellucid.data.shards import REBUILD
from pellucid.data.source import Source, open_as_set
from pellucid.data.split import survey
from pellucid.errors import CorruptFileError, ResumeError, SettingsError, TrainingError
from pellucid.events import NULL, Event, Fanout, Recorder, WithoutProgress
from pellucid.model.build import build
from pellucid.model.device import choose_device, choose_dtype, use_threads
from pellucid.planning.machine import Machine, inspect_machine
from pellucid.planning.memory import estimate_training_memory
from pellucid.settings import Resolved, plain
from pellucid.store.checkpoint import Checkpoint, lineage_after, load_checkpoint, load_model
from pellucid.store.metrics import exam_scores
from pellucid.store.run import Run, SavedStep, is_run, lock_run, resolve_checkpoint
from pellucid.tokens.choose import train_tokenizer
from pellucid.tokens.tokenizer import Tokenizer
from pellucid.training.compiler import default_march, other_marches
from pellucid.training.curve import draw_curves
from pellucid.training.interrupt import StopRequest
from pellucid.training.lengths import Lengths
from pellucid.training.loop import Pace, Trainer
from pellucid.training.measure import Rates, measure_training
from pellucid.training.metrics import evaluations
from pellucid.training.opening import find_opening
from pellucid.training.other_text import check_same_text
from pellucid.training.plan import (
    COMPILE_SAVING,
    RowShape,
    RunPlan,
    TextSize,
    check_settings,
    overrides,
    plan_run,
    plan_unmeasured,
    saved_plan,
)
from pellucid.training.plan_text import summary, table
from pellucid.training.repeatable import fingerprint, use_determinism
from pellucid.training.resume import as_begun, check_same_machine, check_same_run
from pellucid.training.session import Exam, Session
from pellucid.training.settings import TrainSettings

RECIPE = "pretrain"
MOST_SET_UP = 0.5  # of the minutes: where more goes before the first step, a person is told


@dataclass(frozen=True, kw_only=True)
class Pretraining:
    """What to do: a text, a directory, settings, and how to treat what is already there."""

    text: Path | str
    out: Path
    resolved: Resolved[TrainSettings]
    start_from: Path | None = None  # weights and tokenizer of another run, checkpoint or Hugging Face directory
    extend: bool = False  # a finished run may be given another length
    verify: bool = False  # read all prepared tokens again and compare them with their hashes
    require_exact: bool = False  # refuse to go on where the bits may differ
    exam: Exam | None = None  # what the model is asked at each evaluation
    began: float = field(default_factory=lambda: monotonic())  # from when on the minutes of a time budget count


@dataclass(frozen=True, kw_only=True)
class Finished:
    """How a run ended."""

    out: Path
    step: int
    steps: int
    reason: str  # "finished", "patience", or the signal that stopped it
    checkpoint: Path | None  # the last one
    best: SavedStep | None  # the one that is used: the best on validation text, or the last
    opening: str  # a few of the text's own words, to begin with


def pretrain(task: Pretraining, *, recorder: Recorder = NULL) -> Finished:
    """Train (or go on training) one model; returns how it ended.

    Raises InputError for the text, SettingsError for settings that cannot hold, DoesNotFitError, ResumeError,
    LockedError, NonFiniteError, NoSpaceError.
    """
    check_place(task)
    task = as_begun_there(task)
    source = open_text(task, recorder)
    check_same_text(task.out, source)
    with lock_run(task.out):
        return pretrain_locked(task, source, recorder=recorder)


def open_text(task: Pretraining, recorder: Recorder) -> Source:
    """The text that a run learns from."""
    return open_as_set(task.text, task.resolved.settings.data, recorder=recorder)


def pretrain_locked(task: Pretraining, source: Source, *, recorder: Recorder = NULL) -> Finished:
    """The same for a caller that holds the lock of the run's directory."""
    settings, machine = task.resolved.settings, inspect_machine()
    check_settings(settings)  # before any text is read
    device = choose_device(settings.device)
    threads = use_threads(settings.threads, machine)
    run = open_run(task)
    with StopRequest() as stop:
        recorder = Fanout([recorder, WithoutProgress(run)])
        parent = load_checkpoint(resolve_checkpoint(task.start_from, recorder=recorder)) if task.start_from else None
        tokenizer = ready_tokenizer(run, source, settings, parent, recorder)
        _check_data(run, identify(source, tokenizer, settings.data))
        prepared = prepare(source, tokenizer, run.path / "data", settings.data, verify=task.verify, recorder=recorder)
        dtype = choose_dtype(settings.precision, device, machine)
        use_determinism(settings.deterministic)
        plan = ready_plan(task, run, prepared, tokenizer, parent, machine, recorder)
        _check_valid(run, plan, prepared)
        trainer = build_trainer(settings, plan, prepared, parent, device, dtype, recorder)
        plan = settle_step(run, trainer, plan, settings, recorder)
        print_of = fingerprint(
            device,
            dtype,
            threads=threads,
            march=plan.march,
            deterministic=settings.deterministic,
            machine=machine,
        )
        recorder.record(Event(name="training.fingerprint", message=_describe(print_of), data=dict(print_of)))
        info = {
            "recipe": RECIPE,
            "lineage": [] if parent is None else lineage_after(parent),
            "data": dict(prepared.identity),
        }
        session = Session(run, trainer, plan, settings, tokenizer, prepared, info, print_of, stop, recorder, task.exam)
        _take_up(task, run, session, recorder)
        reason = session.go()
        draw_loss(run)
        draw_exam(run)
        latest = run.latest()
        return Finished(
            out=run.path,
            step=trainer.step,
            steps=session.plan.steps,
            reason=reason,
            checkpoint=None if latest is None else latest.directory,
            best=run.best() or latest,
            opening=find_opening(prepared.train, tokenizer),
        )


def check_place(task: Pretraining) -> None:
    """Refuse a directory for the run that would be its own text, or whose name no file of weights can be opened by."""
    text = Path(task.text)
    if any("\ud800" <= character <= "\udfff" for character in str(task.out)):
        raise SettingsError(
            "the name of the run's directory is not UTF-8", found=ascii(str(task.out)), hint="give it another name"
        )
    if str(task.text) != "-" and text.is_dir() and text.resolve() == task.out.resolve():
        raise SettingsError(
            "the run cannot lie in the folder that it is trained on",
            found=str(task.out),
            hint=f"give another directory, for example --out {task.out / 'run'}: a folder that holds a run is not read",
        )


def as_begun_there(task: Pretraining) -> Pretraining:
    """The same task, under the meaning that settings had when the run in its directory was begun, if one is there."""
    if not is_run(task.out):
        return task
    stored = Run.open(task.out).identity.get("settings")
    return dataclasses.replace(task, resolved=as_begun(task.resolved, stored)) if isinstance(stored, Mapping) else task


def build_trainer(
    settings: TrainSettings,
    plan: RunPlan,
    prepared: Prepared,
    parent: Checkpoint | None,
    device: torch.device,
    dtype: torch.dtype,
    recorder: Recorder,
) -> Trainer:
    """The planned model, new or with its parent's weights, and everything that trains it."""
    if parent is None:
        model = build(plan.config, seed=settings.seed, device=device)
    else:
        model = load_model(parent, device=device)
    model.reserve_positions(plan.config.context_length)
    return Trainer(
        model,
        open_rows(settings, prepared, plan, recorder),
        Pace(steps=plan.steps, rows=plan.rows, micro_rows=plan.micro_rows),
        optimizer=settings.optimizer,
        schedule=settings.schedule,
        seed=settings.seed,
        compute_dtype=dtype,
        compiled=plan.compiled,
        name_rows=lambda first_B: [origin_of(prepared, int(first)) for first in first_B],
        recorder=recorder,
    )


def open_rows(settings: TrainSettings, prepared: Prepared, plan: RunPlan, recorder: Recorder = NULL) -> Loader:
    """The rows of training; of rows that hold a document each, how much is padding is told."""
    loader = build_loader(
        prepared.train,
        rows=settings.data.rows,
        context_length=plan.config.context_length,
        seed=settings.seed,
        pool=Pool.of(plan.rows, settings.batch.pool),
    )
    if isinstance(loader, DocumentLoader):
        data: dict[str, Any] = {
            "rows": loader.num_rows_per_epoch,
            "positions": loader.row_length,
            "padding_share": loader.padding_share,
            "cut": loader.num_cut,
        }
        message = (
            f"one document to a row: {counted(data['rows'], 'row')} of {counted(data['positions'], 'position')}"
            f"{'' if loader.pool is None else ' or fewer, sorted by length'}, {loader.padding_share:.0%} of them padding"
        )
        if loader.num_cut:
            message += f"; longer than a row, and going on in rows of their own: {counted(loader.num_cut, 'document')}"
        recorder.record(Event(name="data.rows", message=message, data=data))
    return loader


def settle_step(run: Run, trainer: Trainer, plan: RunPlan, settings: TrainSettings, recorder: Recorder) -> RunPlan:
    """The plan with the `march` whose compiled step agreed with the eager one, or without a compiled step.

    Chosen before the first checkpoint and kept in the plan; a run that goes on asks again for that one alone. Raises
    SettingsError when compiling was asked for and does not work at all.
    """
    wanted = settings.compile == "on"
    if not plan.compiled:
        if wanted and run.latest() is not None:
            message = "not compiled: this run began with eager steps and goes on with them"
            recorder.record(Event(name="training.eager", message=message))
        return dataclasses.replace(plan, march=None)
    assert trainer.compiled is not None, "the plan says so"
    is_open, march = run.latest() is None, plan.march or default_march()
    saving = math.inf if wanted else COMPILE_SAVING * plan.estimated_seconds
    fault = trainer.settle(march=march, others=other_marches(march) if is_open else (), seconds=saving)
    settled = dataclasses.replace(plan, compiled=not fault, march=None if fault else trainer.compiled.march)
    if fault and wanted and is_open and not trainer.compiled.answered:
        raise SettingsError("torch.compile does not work here", found=fault, hint="leave --set compile=auto")
    if fault:
        level = "warning" if wanted or not is_open else "info"
        recorder.record(
            Event(name="training.eager", message=f"not compiled: {fault}", data={"reason": fault}, level=level)
        )
    if is_open:
        run.update_identity({**run.identity, "plan": settled.to_dict()})
    return settled


def open_run(task: Pretraining) -> Run:
    """The run of this directory: a new one, or the one that is there when this command may go on with it."""
    asked = {key: plain(value) for key, value, _ in task.resolved.rows()}
    asked["from"] = str(task.start_from) if task.start_from else None
    sources = {key: source for key, _, source in task.resolved.rows()}
    if not is_run(task.out):
        return Run.create(task.out, {"recipe": RECIPE, "settings": asked, "sources": sources})
    run = Run.open(task.out)
    if run.identity.get("recipe") != RECIPE:
        raise ResumeError(
            "this directory holds another kind of run",
            found=str(run.identity.get("recipe")),
            where=str(task.out),
            hint="choose another directory",
        )
    if "plan" in run.identity:
        check_same_run(run.part("settings"), asked, extend=task.extend, where=str(task.out))
    else:  # it was refused or cut before it had a plan: nothing is there yet that other settings could contradict
        run.update_identity({**run.identity, "settings": asked, "sources": sources})
        run.forget_tokenizer()
    return run


def ready_tokenizer(
    run: Run, source: Source, settings: TrainSettings, parent: Checkpoint | None, recorder: Recorder
) -> Tokenizer:
    """The run's own tokenizer, made once: the parent's, or one trained on the text."""
    stored = run.read_tokenizer()
    if stored is not None:
        return stored if parent is None or parent.tokenizer is None else stored.ending_at(parent.tokenizer.more_ends)
    if parent is not None:
        if parent.tokenizer is None:
            raise TrainingError("the model to start from has no tokenizer", where=str(parent.directory))
        tokenizer = parent.tokenizer
    else:
        num_bytes = survey(source.documents()).num_bytes
        texts = (document.text for document in source.documents())
        tokenizer = train_tokenizer(texts, num_bytes, settings.tokenizer, recorder=recorder)
    run.save_tokenizer(tokenizer)
    message = f"tokenizer: {tokenizer.kind}, {tokenizer.vocab_size:,} tokens"
    recorder.record(Event(name="training.tokenizer", message=message, data={"sha256": tokenizer.sha256}))
    return tokenizer


def ready_plan(
    task: Pretraining,
    run: Run,
    prepared: Prepared,
    tokenizer: Tokenizer,
    parent: Checkpoint | None,
    machine: Machine,
    recorder: Recorder,
) -> RunPlan:
    """The run's plan: the saved one (lengthened, when asked), or a new one from a short measurement."""
    settings = task.resolved.settings
    saved = run.identity.get("plan")
    if saved is None:
        plan = _new_plan(task, prepared, tokenizer, parent, machine, recorder)
    else:
        with run.advised():
            plan = saved_plan(
                saved,
                lambda config, rows: estimate_training_memory(config, rows=rows, optimizer=settings.optimizer.matrices),
            )
        if task.extend:
            plan = _lengthen(run, plan, settings, prepared)
        if settings.compile == "off":
            plan = dataclasses.replace(plan, compiled=False)
    if saved is None or task.extend:
        asked = {key: plain(value) for key, value, _ in task.resolved.rows()}
        asked["from"] = str(task.start_from) if task.start_from else None
        run.update_identity(
            {**run.identity, "settings": asked, "plan": plan.to_dict(), "data": dict(prepared.identity)}
        )
    told = {"summary": [list(line) for line in summary(plan)], "table": [list(line) for line in table(plan)]}
    recorder.record(Event(name="training.plan", message="the plan of the run", data={**plan.to_dict(), **told}))
    return plan


def _new_plan(
    task: Pretraining,
    prepared: Prepared,
    tokenizer: Tokenizer,
    parent: Checkpoint | None,
    machine: Machine,
    recorder: Recorder,
) -> RunPlan:
    settings = task.resolved.settings
    device = choose_device(settings.device)
    dtype = choose_dtype(settings.precision, device, machine)
    shapes = None
    if settings.data.rows == "documents":

        def shapes(context_length: int) -> RowShape:
            return shape_of_rows(settings, prepared, context_length)

    text = TextSize(
        train_tokens=prepared.train.num_tokens,
        valid_tokens=prepared.valid.num_tokens if prepared.valid else 0,
        vocab_size=tokenizer.vocab_size,
        rows_of=shapes,
    )
    if parent is not None and (overrides(settings.model) or settings.model.preset or settings.model.depth):
        raise SettingsError(
            "the model comes from --from: its shape cannot be set", found=str(dict(overrides(settings.model)))
        )
    bf16, given, gone = dtype == torch.bfloat16, parent.config if parent else None, monotonic() - task.began
    plan = plan_unmeasured(settings, text, machine, bf16=bf16, given=given, seconds_gone=gone)
    if plan is not None:
        _tell_limits(plan, settings, text, gone, recorder)
        return plan
    rates = measure_training(device, dtype, deterministic=settings.deterministic)
    recorder.record(
        Event(
            name="training.measured",
            message=f"a short training step reaches {rates.training_flops_per_second / 1e9:,.0f} GFLOP/s here; deterministic"
            f" algorithms take {_cost(rates)}{_busy(rates)}",
            data=dataclasses.asdict(rates),
        )
    )
    gone = monotonic() - task.began
    flops = rates.training_flops_per_second
    plan = plan_run(settings, text, machine, flops, bf16=bf16, given=given, seconds_gone=gone)
    _tell_limits(plan, settings, text, gone, recorder)
    return plan


def _tell_limits(plan: RunPlan, settings: TrainSettings, text: TextSize, gone: float, recorder: Recorder) -> None:
    """Say what a person may not have meant: an update larger than the text, minutes that went before the first step."""
    _tell_large_update(plan, settings, text, recorder)
    _tell_set_up(plan, settings, gone, recorder)


def _tell_large_update(plan: RunPlan, settings: TrainSettings, text: TextSize, recorder: Recorder) -> None:
    """Say so where one update, as large as asked for, reads the same text more than once."""
    update = plan.tokens // plan.steps
    if not (settings.batch.rows or settings.batch.tokens) or update < 2 * text.train_tokens:
        return
    message = (
        f"one update reads {update:,} tokens, and the text has {text.train_tokens:,}: it reads the same text"
        f" {update / text.train_tokens:,.0f} times over; smaller updates (batch.rows) learn more from it"
    )
    data = {"update_tokens": update, "train_tokens": text.train_tokens}
    recorder.record(Event(name="training.large_update", message=message, data=data, level="warning"))


def _tell_set_up(plan: RunPlan, settings: TrainSettings, gone: float, recorder: Recorder) -> None:
    """Say so where most of the minutes went before the first step could be taken."""
    if settings.minutes is None or plan.budget_seconds is None or gone <= MOST_SET_UP * 60 * settings.minutes:
        return
    asked, left = 60 * settings.minutes, plan.budget_seconds
    message = (
        f"set-up (reading, tokenizer, measuring) took {gone:.3g} s of the {asked:.3g} s: training gets {left:.3g} s;"
        " all further minutes would be training"
    )
    data = {"set_up_seconds": gone, "asked_seconds": asked, "training_seconds": left}
    recorder.record(Event(name="training.set_up", message=message, data=data, level="warning"))


def shape_of_rows(settings: TrainSettings, prepared: Prepared, context_length: int) -> RowShape:
    """How long a row of one document is for a model with this context, and how much of it is text."""
    rows = settings.batch.rows
    pool = Pool.of(rows, settings.batch.pool) if rows else None  # rows still open: as if unsorted
    loader = DocumentLoader(prepared.train, context_length, settings.seed, pool)
    length = loader.mean_row_length
    return RowShape(length=round(length), tokens=(1 - loader.padding_share) * length)


def _cost(rates: Rates) -> str:
    """What determinism costs; less than nothing is what a measurement makes of nothing."""
    share = rates.determinism_cost
    return f"{share:.0%} more time" if share >= 0.01 else "no more time"


def _busy(rates: Rates) -> str:
    """What to add where other programs were in the way."""
    return f"; other programs are busy: most tries took {rates.busy:.1f} times as long" if rates.busy > 1.5 else ""


def _lengthen(run: Run, plan: RunPlan, settings: TrainSettings, prepared: Prepared) -> RunPlan:
    """The saved plan with another number of steps; of a run whose length the clock changed, this change is on record too."""
    seconds_per_step, times = plan.estimated_seconds / plan.steps, run.read_times()
    if plan.budget_seconds is not None and times and min(times[-1]) > 0:
        seconds_per_step = times[-1][1] / times[-1][0]
    if settings.steps is not None:
        steps = settings.steps
    elif settings.epochs is not None:
        steps = round(settings.epochs * prepared.train.num_tokens / (plan.rows * plan.config.context_length))
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


def origin_of(prepared: Prepared, token: int) -> str:
    """The document that a token of the training text belongs to, as a person knows it."""
    return prepared.train.document(prepared.train.document_at(token)).origin


def _check_data(run: Run, identity: Mapping[str, str]) -> None:
    """A run goes on with the data it began with, or not at all."""
    stored: Mapping[str, Any] | None = run.identity.get("data")
    different = [key for key in identity if stored is not None and stored.get(key) != identity[key]]
    if not different:
        return
    raise ResumeError(
        "the text is not the one this run began with",
        found=f"different: {', '.join(different)}",
        where=str(run.path),
        hint="restore the text, or train in a new directory (--from this one keeps its weights)",
    )


def _check_valid(run: Run, plan: RunPlan, prepared: Prepared) -> None:
    """A run that evaluates needs its validation text."""
    if plan.eval_windows and prepared.valid is None:
        raise CorruptFileError(
            "the validation part of the prepared tokens is gone", where=str(run.path / "data"), hint=REBUILD
        )


def _take_up(task: Pretraining, run: Run, session: Session, recorder: Recorder) -> None:
    """Go to where the run stopped, if it had begun."""
    saved = run.latest()
    if saved is None:
        run.truncate_metrics(after_step=0)
        return
    session.restore(saved)
    check_same_machine(
        session.stored_fingerprint, session.fingerprint, require_exact=task.require_exact, recorder=recorder
    )
    done = saved.step >= session.plan.steps
    message = (
        f"this run is finished ({counted(saved.step, 'step')}); to go on, give a new length with --extend"
        if done
        else f"going on after step {saved.step} of {session.plan.steps}"
    )
    recorder.record(Event(name="training.resumed", message=message, data={"step": saved.step, "finished": done}))


def draw_loss(run: Run) -> None:
    """The loss curve of a run as `loss.svg` and `loss.png`."""
    rows = run.read_metrics()
    training = [(row["step"], row["loss"]) for row in rows if row["kind"] == "train"]
    series = {"training": training, "validation": [(row["step"], row["loss"]) for row in evaluations(rows)]}
    present = {name: points for name, points in series.items() if points}
    if present:
        draw_curves(
            present,
            title=run.path.name,
            x_label="step",
            y_label="loss, nats per token",
            path_without_suffix=run.path / "loss",
        )


def draw_exam(run: Run) -> None:
    """The shares of right answers over the steps as `exam.svg` and `exam.png`, of a run whose model is asked."""
    scores = exam_scores(run.read_metrics())
    if scores:
        draw_curves(
            {part: list(shares.items()) for part, shares in scores.items()},
            title=f"{run.path.name}: questions about new worlds",
            x_label="step",
            y_label="answered exactly, share",
            path_without_suffix=run.path / "exam",
        )


def _describe(print_of: Mapping[str, str]) -> str:
    on = f"{print_of['device']} ({print_of['hardware']}, {print_of['cpu capability']})"
    return (
        f"set-up: torch {print_of['torch']} on {on}, {counted(int(print_of['threads']), 'thread')}, {print_of['dtype']},"
        f" compiled: {print_of['compiled']}, deterministic: {print_of['deterministic']}"
    )
