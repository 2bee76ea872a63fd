"""The work around the steps of a run: metrics, checkpoints, evaluation, early stopping.

Every step writes one metric line. At a boundary the session saves first, then makes probes and snapshots, then
evaluates, so that a failure there cannot lose a checkpoint. All state between steps is read back from the metric lines.
So a run that was interrupted between a save and its evaluation evaluates when it is resumed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Protocol

import psutil
from torch import nn

from pellucid.counts import counted
from pellucid.data.loader import Loader
from pellucid.evaluate.likelihood import Likelihood, MeasuredLoss, measure_loss
from pellucid.evaluate.objective import OBJECTIVE
from pellucid.events import Event, Once
from pellucid.settings import shallow
from pellucid.store.checkpoint import TrainingFiles, load_checkpoint, load_training
from pellucid.store.metrics import EXAM, best_evaluation, evaluations, evaluations_since_best
from pellucid.store.run import SavedStep
from pellucid.tokens.tokenizer import Tokenizer
from pellucid.training.interrupt import StopRequest
from pellucid.training.lengths import Lengths, TimeBudget
from pellucid.training.loop import StepReport, Trainer, train
from pellucid.training.metrics import Board, NoBoard
from pellucid.training.moments import Look
from pellucid.training.opening import find_opening, find_source
from pellucid.training.plan import RunPlan
from pellucid.training.probe import Probes
from pellucid.training.resume import check_same_machine
from pellucid.training.run import OpenRun
from pellucid.training.settings import TrainSettings
from pellucid.training.snapshots import Snapshots
from pellucid.untrusted import Json, Table

EVAL_ROWS = 32  # windows evaluated at once; the result does not depend on it


class Exam(Protocol):
    """Questions that a run asks its model at each evaluation, always the same ones: scores by name, from 0 to 1."""

    def __call__(self, model: nn.Module, tokenizer: Tokenizer) -> Mapping[str, float]: ...


@dataclass(frozen=True, kw_only=True)
class Finished:
    """The result of a run: why and where it ended."""

    out: Path
    step: int
    steps: int
    reason: str  # "finished", "patience", or the signal that stopped it
    checkpoint: Path | None  # the last one
    best: SavedStep | None  # the one that is used: the best on validation text, or the last
    objective: str  # what the model learned, by its name: causal, masked, …
    opening: str  # a few of the text's own words, to begin with; of pairs, a source that was held out
    columns: tuple[str, str] | None = None  # of pairs: what names the source and the target in their file
    draft_of: Path | None = None  # of a draft: the model that it guesses for


class Session:
    """The work of one process on one run, from its newest checkpoint (or the beginning) to its end."""

    def __init__(
        self, opened: OpenRun, trainer: Trainer, plan: RunPlan, *, stop: StopRequest, exam: Exam | None = None
    ) -> None:
        self.opened, self.trainer, self.plan, self.stop, self.exam = opened, trainer, plan, stop, exam
        self.run, self.settings, self.recorder = opened.run, opened.settings, opened.recorder
        self.info = opened.info()
        self.valid_rows = self._open_valid_rows()  # before the first step: what cannot be read is an error then
        deterministic = self.settings.deterministic
        self.about_saving = Once(self.recorder)  # how a model is stored is the same at every save
        self.fingerprint = opened.set_up.fingerprint(plan.march, deterministic=deterministic, recorder=self.recorder)
        self.stored_fingerprint = self.fingerprint  # of the process that wrote the checkpoint
        self.started = monotonic()
        self.board: Board | NoBoard = NoBoard()
        self.updates_here = self.tokens_here = 0  # in this process
        self.looks: tuple[Look, ...] = ()
        self.lengths, self.budget = Lengths(self.run, plan.steps), _time_budget(plan, self.settings)
        self.seen: list[tuple[int, float]] = []  # (updates done, seconds of training until then), in all processes
        self.spent_before = 0.0  # seconds of training, in the processes before this one

    def take_up(self) -> None:
        """Resume from the newest checkpoint, if any. Raises ResumeError when exact bits are required but impossible."""
        saved = self.run.latest()
        if saved is None:
            self.run.truncate_metrics(after_step=0)
            return
        self.restore(saved)
        check_same_machine(
            self.stored_fingerprint,
            self.fingerprint,
            require_exact=self.opened.task.require_exact,
            recorder=self.recorder,
        )
        done = saved.step >= self.plan.steps
        message = (
            f"this run is finished ({counted(saved.step, 'step')}); to go on, give a new length with --extend"
            if done
            else f"going on after step {saved.step} of {self.plan.steps}"
        )
        self.recorder.record(
            Event(name="training.resumed", message=message, data={"step": saved.step, "finished": done})
        )

    def restore(self, saved: SavedStep) -> None:
        """Restore weights, optimizer and position from a checkpoint, and drop metrics written after it."""
        state, arena = load_training(saved.directory), self.trainer.arena
        table = Table(state.state, str(saved.directory), "the training state")
        arena.load(arena.master, load_checkpoint(saved.directory).weights)
        arena.publish()
        self.trainer.optimizer.load(state.tensors, table.whole("updates"))
        self.trainer.step, self.trainer.skipped = table.whole("step"), table.wholes("skipped")
        self.stored_fingerprint = table.table("fingerprint")
        self.run.truncate_metrics(after_step=saved.step)
        self._set_length(self.lengths.at(saved.step))

    def go(self) -> str:
        """Train to the end of the plan; return why it ended: finished, patience (early stopping), or the signal."""
        if self.settings.tensorboard:
            self.board = Board(self.run.path / "tensorboard", after_step=self.trainer.step)
        self.seen = self.run.read_times()
        if self.seen:
            self.spent_before = self.seen[-1][1]
        self.looks = tuple(self._open_looks())
        self.started = monotonic()
        try:
            step = self.trainer.step
            self._look(step)
            if step and self.is_due(self.plan.eval_every_steps) and not self._evaluated(step):
                self._evaluate()
            if self.trainer.step < self.plan.steps and not self._patience_is_over():
                train(self.trainer, until=self._last_possible(), after_step=self._after_step)
        finally:
            self.board.close()
            for look in self.looks:
                look.close()
        if self.stop.signal_name is not None:
            return self.stop.signal_name
        return "finished" if self.trainer.step >= self.plan.steps else "patience"

    def finished(self, reason: str) -> Finished:
        """The result of the run after `go`, which gave this reason."""
        latest, data = self.run.latest(), self.settings.data
        train, pairs = self.opened.prepared.train, data.rows == "pairs"
        held_out = self.opened.prepared.valid or train
        return Finished(
            out=self.run.path,
            step=self.trainer.step,
            steps=self.plan.steps,
            reason=reason,
            checkpoint=None if latest is None else latest.directory,
            best=self.run.best() or latest,
            objective=self.trainer.objective.name,
            opening=find_source(held_out, self.opened.tokenizer)
            if pairs
            else find_opening(train, self.opened.tokenizer),
            columns=(str(data.source), data.field) if pairs else None,
            draft_of=self.opened.task.draft_of,
        )

    def _open_valid_rows(self) -> Loader | None:
        """The validation rows, made as those of training are; None when there is no such text."""
        valid = self.opened.prepared.valid
        if valid is None or self.plan.eval_windows == 0:
            return None
        return self.opened.loader(valid, self.plan.config.context_length)

    def _open_looks(self) -> Iterator[Look]:
        """Open the probes and snapshots of this run."""
        if self.settings.probe.texts:
            yield Probes(
                self.run.path,
                self.trainer.model,
                self.opened.tokenizer,
                self.settings.probe,
                start=self.trainer.step,
                steps=self.plan.steps,
                estimated_seconds=self.plan.estimated_seconds,
                recorder=self.recorder,
            )
        yield Snapshots(
            self.run,
            self.trainer,
            self.plan.config,
            self.opened.tokenizer,
            self.info,
            steps=self.plan.steps,
            max_bytes=self.settings.saving.snapshot_bytes,
            recorder=self.recorder,
        )

    def _look(self, step: int) -> None:
        for look in self.looks:
            look.look(step, monotonic() - self.started)

    def _last_possible(self) -> int:
        """The most steps that the run can have, however much time is left."""
        return max(self.plan.steps, self.plan.most_steps or 0)

    def _keep_to_the_time(self, step: int) -> None:
        """Apply the length recorded for this step, or let the clock change it."""
        if self.budget is not None and not self.lengths.is_settled(step):
            found = self.budget.judge(self.seen, self.lengths.at(step))
            if found is not None:
                line = self.lengths.change(step, *found)
                if line.new < line.old:
                    message = f"the run is shortened from {line.old} to {counted(line.new, 'step')}: {line.reason}"
                else:
                    message = f"the run is lengthened from {line.old} to {counted(line.new, 'step')}: {line.reason}"
                self.recorder.record(Event(name="training.length", message=message, data=dataclasses.asdict(line)))
        self._set_length(self.lengths.at(step))

    def _set_length(self, steps: int) -> None:
        if steps != self.plan.steps:
            self.plan = dataclasses.replace(self.plan, steps=steps)
            self.trainer.pace = dataclasses.replace(self.trainer.pace, steps=steps)
            for look in self.looks:
                look.resize(steps)

    def is_due(self, every_steps: int) -> bool:
        """Whether an action that is due every `every_steps` steps, and at the end, is due now."""
        step = self.trainer.step
        return step % every_steps == 0 or step == self.plan.steps

    def _after_step(self, report: StepReport) -> bool:
        self._measure(report)
        self._keep_to_the_time(report.step)
        stopping = self.stop.signal_name is not None
        due = self.is_due(self.plan.eval_every_steps)
        if stopping or due or self.is_due(self.plan.save_every_steps):
            self.save()
        self._look(report.step)
        if due and not stopping:
            self._evaluate()
        ended = report.step >= self.plan.steps
        return not stopping and not ended and not (due and self._patience_is_over())

    def _measure(self, report: StepReport) -> None:
        """Write one metric line, and report it as an event."""
        self.tokens_here += report.tokens
        self.updates_here += 1
        here = monotonic() - self.started
        seconds = round(self.spent_before + here, 3)
        told = {name: value for name, value in dataclasses.asdict(report).items() if value is not None}
        row = {"kind": "train", **told, "skipped": len(self.trainer.skipped)}
        row |= {"seconds": seconds, "tokens_per_second": round(self.tokens_here / max(here, 1e-9), 1)}
        self._write(row)
        self.seen.append((report.step, seconds))
        left = (self.plan.steps - report.step) * here / self.updates_here  # updates may be of many lengths
        data = {
            **row,
            "steps": self.plan.steps,
            "eta_seconds": left,
            "memory_bytes": psutil.Process().memory_info().rss,
        }
        message = f"step {report.step}/{self.plan.steps}  loss {report.loss:.4f}"
        self.recorder.record(Event(name="training.progress", message=message, data=data))

    def save(self) -> None:
        """Write a checkpoint of this step, then delete checkpoints that need not be kept."""
        trainer = self.trainer
        weights = trainer.arena.saved_weights(trainer.model)
        state: dict[str, Json] = {
            "step": trainer.step,
            "updates": trainer.optimizer.updates,
            "skipped": [*trainer.skipped],
            "fingerprint": dict(self.fingerprint),
        }
        directory = self.run.save(
            trainer.step,
            config=self.plan.config,
            weights=weights,
            tokenizer=self.opened.tokenizer,
            info=self.info,
            training=TrainingFiles(tensors=trainer.optimizer.tensors(), state=state),
            recorder=self.about_saving,
        )
        self.recorder.record(
            Event(
                name="training.saved", message=f"saved {directory}", data={"step": trainer.step, "path": str(directory)}
            )
        )
        saving = self.settings.saving
        best = best_evaluation(self.run.read_metrics()) if saving.keep_best else None
        protect = () if best is None else (best["step"],)
        self.run.prune(saving.keep_last, saving.keep_every, protect=protect, recorder=self.recorder)

    def _evaluate(self) -> None:
        measured = self.evaluate()
        if measured is None:
            return
        scores = {} if self.exam is None else self.exam(self.trainer.model, self.opened.tokenizer)
        exam = {f"{EXAM}{part}": score for part, score in scores.items()}
        named = {} if isinstance(measured, Likelihood) else {OBJECTIVE: self.trainer.objective.name}
        row = {"kind": "eval", "step": self.trainer.step, **named, **measured.to_dict(), **exam}
        self._write(row)
        if isinstance(measured, Likelihood):
            message = (
                f"step {self.trainer.step}: validation loss {measured.loss:.4f}, perplexity {measured.perplexity:.2f},"
                f" {measured.bits_per_byte:.4f} bits per byte"
            )
        else:
            figures = ", ".join(f"{name} {value:.4f}" for name, value in measured.means.items())
            message = (
                f"step {self.trainer.step}: validation loss of the objective {self.trainer.objective.name}"
                f" {measured.loss:.4f}, {figures}"
            )
        if scores:
            message += "; right answers: " + ", ".join(f"{part} {score:.0%}" for part, score in scores.items())
        self.recorder.record(Event(name="training.evaluated", message=message, data=row))

    def evaluate(self) -> MeasuredLoss | None:
        """The validation loss on the plan's share of the validation text; None when there is no such text.

        Of an objective whose loss is the likelihood of the text, a `Likelihood`: the bytes of a share are estimated from
        its share of all predicted tokens.
        """
        valid = self.opened.prepared.valid
        if valid is None or self.valid_rows is None:
            return None
        steps = self.valid_rows.in_order(rows=EVAL_ROWS, max_rows=self.plan.eval_windows)
        measured = measure_loss(self.trainer.model, steps, objective=self.trainer.objective)
        if not self.trainer.objective.is_likelihood:
            return measured
        targets = valid.num_tokens - valid.num_documents  # nothing predicts a <bos>
        num_bytes = max(1, round(valid.num_bytes * measured.num_tokens / targets))
        return Likelihood(**shallow(measured), num_bytes=num_bytes)

    def _write(self, row: Mapping[str, object]) -> None:
        self.run.append_metrics(row)
        self.board.add(row)

    def _evaluated(self, step: int) -> bool:
        return any(row["step"] == step for row in evaluations(self.run.read_metrics()))

    def _patience_is_over(self) -> bool:
        """Early stopping: whether the last `patience` evaluations brought no better loss."""
        patience = self.settings.evaluation.patience
        return patience is not None and evaluations_since_best(self.run.read_metrics()) >= patience


def _time_budget(plan: RunPlan, settings: TrainSettings) -> TimeBudget | None:
    if plan.budget_seconds is None:
        return None
    return TimeBudget(
        seconds=plan.budget_seconds,
        most_steps=plan.most_steps or plan.steps,
        cooldown_share=settings.schedule.cooldown_share,
    )
