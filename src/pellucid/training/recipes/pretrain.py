"""Pretraining: train a language model on a text, by the objective of the settings.

    open the text -> tokenizer -> objective -> tokens on disk -> plan -> build (or resume) -> train

A run has one directory, and the same command on the same directory resumes it (`training.run`).
"""

from __future__ import annotations

from dataclasses import dataclass

from pellucid.data.source import Source
from pellucid.events import NULL, Fanout, Recorder, WithoutProgress
from pellucid.store.run import lock_run
from pellucid.training.drawings import draw_exam, draw_loss
from pellucid.training.interrupt import StopRequest
from pellucid.training.loop import Pace, Trainer
from pellucid.training.make_plan import make_plan
from pellucid.training.repeatable import use_determinism
from pellucid.training.run import RunTask, open_directory, open_run, open_text
from pellucid.training.session import Exam, Finished, Session
from pellucid.training.set_up import SetUp
from pellucid.training.settle import settle_step

RECIPE = "pretrain"


@dataclass(frozen=True, kw_only=True)
class Pretraining(RunTask):
    """The task: a run, and the exam of its model during training."""

    exam: Exam | None = None  # the questions for the model at each evaluation


def pretrain(task: Pretraining, *, recorder: Recorder = NULL) -> Finished:
    """Train one model, or resume its training; return how it ended.

    Raises InputError for the text, SettingsError for impossible settings, DoesNotFitError, ResumeError, LockedError,
    NonFiniteError, NoSpaceError.
    """
    task, source = open_text(task, recorder)
    with lock_run(task.out):
        return pretrain_locked(task, source, recorder=recorder)


def pretrain_locked(task: Pretraining, source: Source | None, *, recorder: Recorder = NULL) -> Finished:
    """As `pretrain`, for a caller that holds the lock of the run's directory."""
    settings = task.settings
    set_up = SetUp.choose(settings)
    run = open_directory(task, RECIPE)
    with StopRequest() as stop:
        opened = open_run(task, run, source, set_up, Fanout([recorder, WithoutProgress(run)]))
        use_determinism(settings.deterministic)
        plan = make_plan(opened)
        trainer = Trainer(
            opened.build_model(plan.config),
            opened.train_rows(plan.config.context_length, rows=plan.rows),
            Pace(steps=plan.steps, rows=plan.rows, micro_rows=plan.micro_rows),
            objective=opened.objective,
            optimizer=settings.optimizer,
            schedule=settings.schedule,
            seed=settings.seed,
            compute_dtype=set_up.dtype,
            compiled=plan.compiled,
            name_rows=opened.name_rows,
            recorder=opened.recorder,
        )
        plan = settle_step(opened, trainer, plan)
        session = Session(opened, trainer, plan, stop=stop, exam=task.exam)
        session.take_up()
        reason = session.go()
    draw_loss(run)
    draw_exam(run)
    return session.finished(reason)
