"""The directory of a training run: its settings, metrics and checkpoints, and the lock of its one writer.

    run.json                       settings with their sources, data, version: what makes it this run
    metrics.jsonl  events.jsonl    one line per measurement, one per decision
    lengths.jsonl                  one line per change of length that the clock brought (runs with a time budget)
    checkpoints/step-000300/       whole checkpoints
    snapshots/step-000004/         early models, to be looked at
    latest                         the name of the newest one
    .lock  .holder.json            held by the one process that writes

A checkpoint counts from the moment its directory has its name. `latest` is written after it, so that after a kill
between the two the run goes on from the one before, which gives the same numbers again.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import filelock
from torch import Tensor

from pellucid import __version__
from pellucid.errors import CorruptFileError, LockedError, ResumeError, StoreError, advised
from pellucid.events import NULL, Event, Recorder
from pellucid.files import as_bytes, explained, remove_directory, replace_file, sweep, to_json
from pellucid.planning.config import ModelConfig
from pellucid.store.checkpoint import TrainingFiles, save_checkpoint, verify_checkpoint
from pellucid.store.directory import describe, is_checkpoint
from pellucid.store.hub.fetch import fetch
from pellucid.store.hub.name import is_hub_name, parse_name
from pellucid.store.metrics import MEND_LINE, append_row, best_evaluation, drop_torn_line, keep_rows, read_rows
from pellucid.store.saved import SavedStep, list_saved, name_step
from pellucid.store.snapshots import list_snapshots
from pellucid.tokens.tokenizer import Tokenizer
from pellucid.untrusted import Json, Table, read_bytes, read_object, shown

RUN, LATEST, CHECKPOINTS, METRICS, EVENTS = "run.json", "latest", "checkpoints", "metrics.jsonl", "events.jsonl"
LENGTHS = "lengths.jsonl"
LOCK, HOLDER = ".lock", ".holder.json"
PARTS = ("settings", "sources", "plan", "data", "objective", "draft_of")  # of run.json, where they are there: objects
BEST = "best"  # RUN/best names no file: it is read from the metrics
MOST_NAME = 1_000  # bytes of `latest`


class Run:
    """One run directory; made by `Run.create` or `Run.open`. It is also a Recorder: events become lines in events.jsonl."""

    def __init__(self, path: Path, identity: Mapping[str, Json]) -> None:
        self.path, self.identity = path, identity

    @classmethod
    def create(cls, path: Path, identity: Mapping[str, Json]) -> Run:
        """A new run in a directory that holds none yet. Raises ResumeError when one is there."""
        path = Path(path)
        if is_run(path):
            raise ResumeError(
                "a run is already in this directory", where=str(path), hint="continue it, or choose another directory"
            )
        with explained(path, 0):
            (path / CHECKPOINTS).mkdir(parents=True, exist_ok=True)
        notes = {"version": __version__, "created": datetime.now(UTC).isoformat(timespec="seconds")}
        run = cls(path, {**notes, **identity})
        run.update_identity(run.identity)
        return run

    @classmethod
    def open(cls, path: Path) -> Run:
        """A run that is there. Raises StoreError when none is."""
        path = Path(path)
        if not is_run(path):
            raise StoreError("no run is in this directory", found=describe(path), where=str(path))
        run = cls(path, {})
        with run.advised():
            run.identity = read_object(path / RUN)
            table = Table(run.identity, str(path / RUN))
            for part in PARTS:
                table.table(part, {})
        return run

    def advised(self) -> AbstractContextManager[None]:
        """While the block reads run.json: errors say what can be done without it."""
        saved = self.checkpoints()
        if not saved:
            return advised("put back a whole run.json from a copy, or train in a new directory")
        model = saved[-1].directory
        return advised(f"put back a whole run.json from a copy; its model can be used without it: give {model}")

    def part(self, name: str) -> Mapping[str, Json]:
        """A part of run.json that must be there. Raises CorruptFileError when it is not."""
        with self.advised():
            return Table(self.identity, str(self.path / RUN)).table(name)

    def update_identity(self, identity: Mapping[str, Json]) -> None:
        """Write run.json anew (a run that is extended has other settings than it began with)."""
        self.identity = dict(identity)
        text = to_json(self.identity) + "\n"
        replace_file(self.path / RUN, as_bytes(text))

    def lock(self) -> AbstractContextManager[None]:
        """Be the only writer while the block runs (`lock_run`)."""
        return lock_run(self.path)

    def save(
        self,
        step: int,
        *,
        config: ModelConfig,
        weights: Mapping[str, Tensor],
        tokenizer: Tokenizer | None,
        info: Mapping[str, Json],
        training: TrainingFiles | None = None,
        recorder: Recorder = NULL,
    ) -> Path:
        """Save a checkpoint as `checkpoints/step-…` and make it the latest; returns its directory."""
        directory = self.path / CHECKPOINTS / name_step(step)
        save_checkpoint(
            directory,
            config=config,
            weights=weights,
            tokenizer=tokenizer,
            info={**info, "step": step},
            training=training,
            recorder=recorder,
        )
        replace_file(self.path / LATEST, f"{directory.name}\n".encode())
        return directory

    def save_tokenizer(self, tokenizer: Tokenizer) -> None:
        """Keep the run's tokenizer at its top; `tokenizer.json`, which `read_tokenizer` looks for, is written last."""
        for name, text in sorted(tokenizer.files().items(), reverse=True):
            replace_file(self.path / name, text.encode("utf-8"))

    def read_tokenizer(self) -> Tokenizer | None:
        """The run's tokenizer; None before it is made."""
        return Tokenizer.load(self.path) if (self.path / "tokenizer.json").is_file() else None

    def forget_tokenizer(self) -> None:
        """Remove the run's tokenizer: it was made for settings that did not come to anything."""
        (self.path / "tokenizer.json").unlink(missing_ok=True)

    def checkpoints(self) -> list[SavedStep]:
        """The complete checkpoints, oldest first."""
        return list_saved(self.path / CHECKPOINTS)

    def moments(self) -> list[SavedStep]:
        """Every model of the run that can be looked at, oldest first: checkpoints, and snapshots of other steps."""
        found = {one.step: one for one in [*list_snapshots(self.path), *self.checkpoints()]}
        return [found[step] for step in sorted(found)]

    def latest(self) -> SavedStep | None:
        """The checkpoint to go on from; None before the first one.

        Raises CorruptFileError when it is missing or damaged, naming an older one that is whole.
        """
        saved = self.checkpoints()
        name = self._latest_name()
        if name is None:
            found = saved[-1] if saved else None
        else:
            found = next((one for one in saved if one.directory.name == name), None)
            if found is None:
                raise CorruptFileError(
                    f"the latest checkpoint, {shown(name)[1:-1]}, is gone",
                    where=str(self.path),
                    hint=self._older(saved, None),
                )
        if found is not None:
            try:
                verify_checkpoint(found.directory)
            except StoreError as error:
                raise CorruptFileError(
                    f"the latest checkpoint, {found.directory.name}, is damaged: {error.what}",
                    found=error.found,
                    where=str(found.directory),
                    hint=self._older(saved, found),
                ) from error
        return found

    def best(self) -> SavedStep | None:
        """Of the checkpoints that are there, the one with the lowest validation loss; None when none was evaluated."""
        saved = {one.step: one for one in self.checkpoints()}
        best = best_evaluation(row for row in self.read_metrics() if row["step"] in saved)
        return None if best is None else saved[best["step"]]

    def meant(self) -> SavedStep | None:
        """The checkpoint that a person means by the run: the best on validation text, or the last where none was evaluated."""
        return self.best() or next(iter(reversed(self.checkpoints())), None)

    def choose(self, recorder: Recorder = NULL) -> SavedStep | None:
        """The checkpoint that a person means by the run, checked, and which it is as an event; None before the first one.

        Raises CorruptFileError when it is damaged, naming what to give instead.
        """
        best = self.best()
        if best is None:
            chosen, why = self.latest(), "the last: none was tried on validation text"
        else:
            chosen, why = best, self._why_best(best)
            try:
                verify_checkpoint(best.directory)
            except StoreError as error:
                raise CorruptFileError(
                    f"the best checkpoint, {best.directory.name}, is damaged: {error.what}",
                    found=error.found,
                    where=str(best.directory),
                    hint=f"give {self.path / LATEST} for the last one",
                ) from error
        if chosen is not None:
            message = f"{self.path.name}: the model of step {chosen.step}, {why}"
            data = {"run": str(self.path), "step": chosen.step, "best": best is not None}
            recorder.record(Event(name="store.checkpoint_chosen", message=message, data=data))
        return chosen

    def _why_best(self, best: SavedStep) -> str:
        """What a person should know of the best checkpoint that is there."""
        rows = self.read_metrics()
        true_best, kept = best_evaluation(rows), best_evaluation(row for row in rows if row["step"] == best.step)
        if true_best and kept and true_best["loss"] < kept["loss"]:
            step = true_best["step"]
            return f"the best on validation text of those kept (step {step} was better); the last: {self.path / LATEST}"
        if best.directory.name == self._latest_name():
            return "the last, and the best on validation text"
        return f"the best on validation text; the last: {self.path / LATEST}"

    def use(self, saved: SavedStep) -> None:
        """Make an older checkpoint the latest one; newer ones stay until they are written again."""
        replace_file(self.path / LATEST, f"{saved.directory.name}\n".encode())

    def prune(
        self, keep_last: int, keep_every: int | None = None, *, protect: Collection[int] = (), recorder: Recorder = NULL
    ) -> None:
        """Delete all but the newest `keep_last` checkpoints, those at multiples of `keep_every` steps, and `protect`.

        The latest is never deleted. Each deletion is an event.
        """
        saved = self.checkpoints()
        newest = {one.step for one in saved[max(0, len(saved) - keep_last) :]}
        for one in saved:
            regular = keep_every is not None and one.step % keep_every == 0
            if one.step in newest or regular or one.step in protect or one.directory.name == self._latest_name():
                continue
            remove_directory(one.directory)
            message = f"checkpoint of step {one.step} deleted (kept: the newest {keep_last})"
            recorder.record(Event(name="store.checkpoint_deleted", message=message, data={"step": one.step}))

    def append_metrics(self, row: Mapping[str, object]) -> None:
        """Add one line to metrics.jsonl."""
        append_row(self.path / METRICS, row)

    def read_metrics(self) -> list[dict[str, Any]]:
        """Every line of metrics.jsonl."""
        return read_rows(self.path / METRICS)

    def read_times(self) -> list[tuple[int, float]]:
        """(updates done, seconds of training until then) after every update that is on record."""
        rows = (Table(row, str(self.path / METRICS), "a line") for row in self.read_metrics() if row["kind"] == "train")
        with advised(MEND_LINE):
            return [(row.whole("step"), row.number("seconds", 0.0, low=0.0)) for row in rows]

    def truncate_metrics(self, after_step: int) -> None:
        """Forget what was measured after a step: training goes on from there and measures it again."""
        keep_rows(self.path / METRICS, after_step)

    def append_length(self, row: Mapping[str, object]) -> None:
        """Add one line to lengths.jsonl and force it to the disk: no step may be taken under a length that is not there."""
        append_row(self.path / LENGTHS, row, sync=True)

    def read_lengths(self) -> list[dict[str, Any]]:
        """Every line of lengths.jsonl."""
        return read_rows(self.path / LENGTHS, of_kinds=False)

    def num_steps(self) -> int | None:
        """How long the run is meant to be: as planned, or as the clock changed it; None before it has a plan."""
        lengths = self.read_lengths()
        if lengths:
            with advised(MEND_LINE):
                return Table(lengths[-1], str(self.path / LENGTHS), "the last line").whole("new")
        return Table(self.part("plan"), str(self.path / RUN)).whole("steps", None) if "plan" in self.identity else None

    def record(self, event: Event) -> None:
        """Add one line to events.jsonl."""
        row: dict[str, object] = {
            "name": event.name,
            "level": event.level,
            "message": event.message,
            "data": dict(event.data),
        }
        append_row(self.path / EVENTS, row)

    def _latest_name(self) -> str | None:
        path = self.path / LATEST
        if not path.is_file():
            return None
        try:
            return read_bytes(path, MOST_NAME).decode("utf-8").strip()
        except (OSError, ValueError) as error:
            raise CorruptFileError(
                "`latest` does not hold the name of a checkpoint", found=shown(error), where=str(path),
                hint=self._older(self.checkpoints(), None),
            ) from error  # fmt: skip

    def _older(self, saved: list[SavedStep], damaged: SavedStep | None) -> str:
        """A hint naming the newest other checkpoint that is whole."""
        for one in reversed(saved):
            if one is damaged:
                continue
            try:
                verify_checkpoint(one.directory, always=True)
            except StoreError:
                continue
            return f"{one.directory.name} is whole: to go on from it, write its name into {self.path / LATEST}"
        return "no other checkpoint of this run is whole"


@contextmanager
def lock_run(path: Path) -> Iterator[None]:
    """Be the only writer of a directory while the block runs; what a killed writer left behind is cleared away first.

    Nothing of a run may be touched before this is held, not even to begin it; the directory is made if need be. Raises
    LockedError at once, naming the holder, when another process writes here.
    """
    lock = filelock.FileLock(path / LOCK)
    with explained(path / LOCK, 0):
        path.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            raise LockedError(
                "another process is writing to this run",
                found=_holder(path),
                where=str(path),
                hint="wait for it to end, or stop it",
            ) from None
    try:
        holder = {"pid": os.getpid(), "host": socket.gethostname()}
        replace_file(path / HOLDER, json.dumps(holder).encode("utf-8"))
        for directory in (path, path / CHECKPOINTS):
            if directory.is_dir():
                sweep(directory)
        for name in (METRICS, EVENTS, LENGTHS):
            drop_torn_line(path / name)
        yield
    finally:
        lock.release()


def _holder(path: Path) -> str:
    try:
        holder = read_object(path / HOLDER)
    except StoreError:  # it holds the lock but has not written its name yet
        return "a process that has not given its name yet"
    return f"process {shown(holder.get('pid'))} on {shown(holder.get('host'))}"


def is_run(path: Path) -> bool:
    """Whether a directory holds a run."""
    return (Path(path) / RUN).is_file()


def resolve_checkpoint(path: Path | str, *, recorder: Recorder = NULL) -> Path:
    """The checkpoint directory that a person means: of a run its best (or `RUN/latest`), else the directory itself.

    Of a run that was never tried on validation text it is the latest. Which one was taken is an event. A name that
    begins with `hf:` is looked up, and fetched where it is not here (it may be a GGUF file). Raises StoreError saying
    what was found when it is none of them.
    """
    if is_hub_name(path):
        return fetch(parse_name(path), recorder=recorder).path
    path = Path(path)
    if path.name in (BEST, LATEST) and is_run(path.parent) and not path.is_dir():
        run = Run.open(path.parent)
        return _there(run.latest(), run) if path.name == LATEST else _best_of(run)
    if is_run(path):
        run = Run.open(path)
        return _there(run.choose(recorder), run)
    if not is_checkpoint(path):
        raise StoreError(
            "no model is here", found=describe(path), where=str(path),
            hint="give a run directory, a checkpoint, or a Hugging Face directory (config.json and model.safetensors); "
            "where a .gguf file is not read, `pellucid convert` makes a directory of it",
        )  # fmt: skip
    return path


def _best_of(run: Run) -> Path:
    best = run.best()
    if best is None:
        raise StoreError(
            "no checkpoint of this run was evaluated, so none is the best", where=str(run.path),
            hint=f"give {run.path / LATEST}, which means its latest checkpoint",
        )  # fmt: skip
    return best.directory


def _there(saved: SavedStep | None, run: Run) -> Path:
    if saved is None:
        raise StoreError("this run has not saved a checkpoint yet", where=str(run.path), hint="train it first")
    return saved.directory
