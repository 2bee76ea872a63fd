"""Open a run of any recipe: its directory, its tokenizer, and its text as tokens; all that comes before the first step.

    task -> directory (new, or one that this task may resume) -> parent -> tokenizer -> objective -> tokens on disk

A run has one directory. The same task on the same directory resumes the run; another task is refused with the
differences. Everything derived is written into run.json the first time and read from there afterwards. The recipe then
makes the plan, the trainer and the session that takes the steps.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import TypeVar

from torch import Tensor

from pellucid.counts import counted
from pellucid.data.loader import NUM_MARKS, DocumentLoader, Loader, LoaderWithOthers, PairLoader, Pool, build_loader
from pellucid.data.objectives.build import AnyObjective, build_objective, settle_objective
from pellucid.data.objectives.settings import ObjectiveSettings, read_objective
from pellucid.data.open_set import open_as_set
from pellucid.data.prepare import Prepared, identify, prepare
from pellucid.data.shards import TokenShards
from pellucid.data.source import Source
from pellucid.errors import ResumeError, SettingsError, TrainingError
from pellucid.evaluate.objective import OBJECTIVE, check_can_learn
from pellucid.events import Event, Recorder
from pellucid.model.build import build
from pellucid.model.decoder import Decoder
from pellucid.model.device import choose_device
from pellucid.planning.config import ModelConfig
from pellucid.planning.scaling import Derived
from pellucid.settings import Resolved, given, plain, to_dict
from pellucid.store.checkpoint import Checkpoint, lineage_after, load_checkpoint, load_model
from pellucid.store.run import RUN, Run, is_run, resolve_checkpoint
from pellucid.tokens.choose import train_tokenizer
from pellucid.tokens.tokenizer import Tokenizer
from pellucid.training.other_text import check_same_text
from pellucid.training.plan import Given, check_settings
from pellucid.training.resume import as_begun, check_same_run
from pellucid.training.set_up import SetUp
from pellucid.training.settings import TrainSettings
from pellucid.training.teacher import (
    DRAFT_OF,
    Teacher,
    check_draft,
    check_same_teacher,
    find_tokens,
    read_again,
    read_teacher,
)
from pellucid.untrusted import Json


@dataclass(frozen=True, kw_only=True)
class RunTask:
    """What to train: a text, a directory, settings, and how to treat a run that is already there."""

    text: Path | str | None  # None: the tokens that the run of `draft_of` keeps
    out: Path
    resolved: Resolved[TrainSettings]
    start_from: Path | None = None  # weights and tokenizer of another run, checkpoint or Hugging Face directory
    draft_of: Path | None = None  # the run or model that a small one is to guess for
    extend: bool = False  # a finished run may be given another length
    verify: bool = False  # read all prepared tokens again and compare them with their hashes
    require_exact: bool = False  # refuse to go on where the bits may differ
    began: float = field(default_factory=lambda: monotonic())  # from when on the minutes of a time budget count

    @property
    def settings(self) -> TrainSettings:
        return self.resolved.settings

    def told(self) -> dict[str, Json]:
        """All settings as they are written into run.json."""
        told = {key: plain(value) for key, value, _ in self.resolved.rows()}
        named = {"from": self.start_from, DRAFT_OF: self.draft_of}
        return told | {name: str(path) if path else None for name, path in named.items()}


TaskT = TypeVar("TaskT", bound=RunTask)


@dataclass(frozen=True, kw_only=True)
class OpenRun:
    """An open run: everything that its plan, its trainer and its session read."""

    task: RunTask
    recipe: str
    run: Run
    set_up: SetUp
    parent: Checkpoint | None  # the model to start from; None: train from scratch
    teacher: Teacher | None  # the model that a draft learns from; None: it is no draft
    tokenizer: Tokenizer
    asked: ObjectiveSettings  # what the objective asks, with nothing left open
    objective: AnyObjective
    prepared: Prepared
    recorder: Recorder

    @property
    def settings(self) -> TrainSettings:
        return self.task.settings

    def info(self) -> Mapping[str, Json]:
        """The origin that is written into every checkpoint: recipe, objective, lineage of parents, identity of the data."""
        lineage: list[Json] = [] if self.parent is None else lineage_after(self.parent)
        data: dict[str, Json] = dict(self.prepared.identity)
        made: dict[str, Json] = {
            "recipe": self.recipe,
            OBJECTIVE: to_dict(self.asked),
            "lineage": lineage,
            "data": data,
        }
        return made if self.teacher is None else made | {DRAFT_OF: self.teacher.identity()}

    @property
    def given(self) -> Given | None:
        """The shape that the plan has not to choose: a draft's, or that of the model to start from."""
        if self.teacher is not None:
            return Given(shape=self.teacher.shape, beside=self.teacher.flops)
        if self.parent is None:
            return None
        config = self.parent.config
        return Given(shape=Derived(depth=config.n_layers, config=config, reasons=()))

    def build_model(self, config: ModelConfig) -> Decoder:
        """Build the planned model: new, or with its parent's weights."""
        if self.parent is None:
            model = build(config, seed=self.settings.seed, device=self.set_up.device)
        else:
            model = load_model(self.parent, device=self.set_up.device)
        model.reserve_positions(config.context_length)
        return model

    def loader(self, shards: TokenShards, context_length: int, *, pool: Pool | None = None) -> Loader:
        """The loader of training or validation rows, of the kind that the settings ask for."""
        return build_loader(
            shards,
            rows=self.settings.data.rows,
            context_length=context_length,
            seed=self.settings.seed,
            pool=pool,
            with_others=self.objective.with_others,
        )

    def train_rows(self, context_length: int, *, rows: int) -> Loader:
        """The loader of training rows, `rows` to an update; with one document a row, the padding is reported."""
        pool = Pool.of(rows, self.settings.batch.pool)
        loader = self.loader(self.prepared.train, context_length, pool=pool)
        if isinstance(loader, DocumentLoader):
            self.recorder.record(_describe_rows(loader))
        if isinstance(loader, LoaderWithOthers):
            message = f"beside its text a row holds {NUM_MARKS} marks; in half of the rows the second part is another document's"
            self.recorder.record(Event(name="data.others", message=message, data={"marks": NUM_MARKS}))
        return loader

    def name_rows(self, first_token_B: Tensor) -> list[str]:
        """The origins of the documents in which these training rows begin."""
        train = self.prepared.train
        return [train.document(train.document_at(token)).origin for token in first_token_B.tolist()]


def _describe_rows(loader: DocumentLoader) -> Event:
    data = {
        "rows": loader.num_rows_per_epoch,
        "positions": loader.row_length,
        "padding_share": loader.padding_share,
        "cut": loader.num_cut,
    }
    held = "one pair" if isinstance(loader, PairLoader) else "one document"
    message = (
        f"{held} to a row: {counted(loader.num_rows_per_epoch, 'row')} of {counted(loader.row_length, 'position')}"
        f"{'' if loader.pool is None else ' or fewer, sorted by length'}, {loader.padding_share:.0%} of them padding"
    )
    if loader.num_cut:
        message += f"; longer than a row, and going on in rows of their own: {counted(loader.num_cut, 'document')}"
    return Event(name="data.rows", message=message, data=data)


def open_text(task: TaskT, recorder: Recorder) -> tuple[TaskT, Source | None]:
    """Open the text of a run; also return the task, with its settings as they were understood when the run began.

    The text of a new run is read once before its directory is made: a text that cannot be read leaves nothing behind. A
    draft may have none of its own, but its model's tokens.

    Raises SettingsError for settings or a directory that cannot make a run, InputError (and its kinds) for the text,
    ResumeError for a directory that holds a run on another text.
    """
    if task.draft_of is not None:
        check_draft(task.resolved, has_text=task.text is not None, start_from=task.start_from)
        read_teacher(task.draft_of, task.settings)
    check_settings(task.settings)  # before any text is read
    choose_device(task.settings.device)
    _check_place(task)
    task = _as_begun_there(task)
    if task.text is None:
        assert task.draft_of is not None, "without a text there is a run to take it from"
        find_tokens(task.draft_of)
        return task, None
    source = open_as_set(task.text, task.settings.data, recorder=recorder)
    check_same_text(task.out, source)
    if not is_run(task.out):
        _ = source.survey  # kept: the tokenizer and the split need it
    return task, source


def open_directory(task: RunTask, recipe: str) -> Run:
    """The run in this directory: a new one, or the existing one when this task may resume it."""
    told = task.told()
    sources: dict[str, Json] = {key: source for key, _, source in task.resolved.rows()}
    if not is_run(task.out):
        return Run.create(task.out, {"recipe": recipe, "settings": told, "sources": sources})
    run = Run.open(task.out)
    if run.identity.get("recipe") != recipe:
        raise ResumeError(
            "this directory holds another kind of run",
            found=str(run.identity.get("recipe")),
            where=str(task.out),
            hint="choose another directory",
        )
    if "plan" in run.identity:
        check_same_run(run.part("settings"), told, run.part("plan"), extend=task.extend, where=str(task.out))
    else:  # the run was refused or interrupted before it had a plan: nothing there can contradict other settings yet
        run.update_identity({**run.identity, "settings": told, "sources": sources})
        run.forget_tokenizer()
    return run


def open_run(task: RunTask, run: Run, source: Source | None, set_up: SetUp, recorder: Recorder) -> OpenRun:
    """Make the run's tokenizer and tokens, or open those that its directory already has."""
    start, draft_of = task.start_from, task.draft_of
    parent = _read_parent(start, task.settings, recorder) if start else None
    teacher = read_teacher(draft_of, task.settings, recorder=recorder) if draft_of else None
    if teacher is not None:
        check_same_teacher(run, teacher)
    given = parent or (teacher.checkpoint if teacher else None)
    tokenizer = _ready_tokenizer(run, source, task.settings, given, recorder)
    asked = _settled_objective(run, task.settings, recorder)
    objective = build_objective(asked, tokenizer)  # before the text is encoded: the tokenizer may lack what it needs
    if teacher is not None:
        objective = teacher.objective(set_up.device, set_up.dtype)
    prepared = _ready_tokens(task, run, source, tokenizer, recorder)
    return OpenRun(
        task=task,
        recipe=str(run.identity["recipe"]),
        run=run,
        set_up=set_up,
        parent=parent,
        teacher=teacher,
        tokenizer=tokenizer,
        asked=asked,
        objective=objective,
        prepared=prepared,
        recorder=recorder,
    )


def _ready_tokens(task: RunTask, run: Run, source: Source | None, tokenizer: Tokenizer, recorder: Recorder) -> Prepared:
    """The run's tokens: its own, or those that the model of a draft was trained on."""
    data, verify = task.settings.data, task.verify
    if source is None:
        assert task.draft_of is not None, "without a text there is a run to take it from"
        prepared = read_again(task.draft_of, tokenizer, data, verify=verify, recorder=recorder)
        _check_data(run, prepared.identity)
        return prepared
    _check_data(run, identify(source, tokenizer, data))
    return prepare(source, tokenizer, run.path / "data", data, verify=verify, recorder=recorder)


def _check_place(task: RunTask) -> None:
    """Refuse a run directory that is the text itself, or whose name makes a weights file impossible to open."""
    if any("\ud800" <= character <= "\udfff" for character in str(task.out)):
        raise SettingsError(
            "the name of the run's directory is not UTF-8", found=ascii(str(task.out)), hint="give it another name"
        )
    text = None if task.text in (None, "-") else Path(task.text)
    if text is not None and text.is_dir() and text.resolve() == task.out.resolve():
        raise SettingsError(
            "the run cannot lie in the folder that it is trained on",
            found=str(task.out),
            hint=f"give another directory, for example --out {task.out / 'run'}: a folder that holds a run is not read",
        )


def _as_begun_there(task: TaskT) -> TaskT:
    if not is_run(task.out):
        return task
    stored = Run.open(task.out).identity.get("settings")
    return dataclasses.replace(task, resolved=as_begun(task.resolved, stored)) if isinstance(stored, Mapping) else task


def _read_parent(start: Path, settings: TrainSettings, recorder: Recorder) -> Checkpoint:
    """The model to start from. Raises SettingsError where its shape is set anew, or does not fit what it is to learn."""
    if told := given(settings.model):
        raise SettingsError(
            "the model comes from --from: its shape cannot be set",
            found=", ".join(f"model.{name}" for name in told),
            hint="leave these settings out, or leave --from out and train a new model",
        )
    parent = load_checkpoint(resolve_checkpoint(start, recorder=recorder))
    if not parent.config.head.tokens:
        raise SettingsError(
            "this model scores no tokens, so it cannot learn from text: it gives vectors or labels",
            where=str(parent.directory),
            hint="`pellucid classify train` fits labels on its vectors; to learn from text, take a model with a head over tokens",
        )
    try:
        check_can_learn(settings.objective, parent.config)
    except SettingsError as error:
        raise SettingsError(
            error.what,
            found=error.found,
            hint="a model of --from keeps its shape: take another, or an objective that fits it (--set objective=…)",
        ) from error
    return parent


def _ready_tokenizer(
    run: Run, source: Source | None, settings: TrainSettings, parent: Checkpoint | None, recorder: Recorder
) -> Tokenizer:
    """The run's tokenizer, made once: that of the model it comes from or guesses for, or one trained on the text."""
    stored = run.read_tokenizer()
    if stored is not None:
        if parent is None or parent.tokenizer is None:
            return stored
        return stored.with_roles(stored.roles.told(parent.tokenizer.roles.claims))
    if parent is not None:
        if parent.tokenizer is None:
            raise TrainingError("the model to start from has no tokenizer", where=str(parent.directory))
        tokenizer = parent.tokenizer
    else:
        assert source is not None, "what has no text has a model"
        num_bytes = source.survey.num_bytes
        texts = (document.text for document in source.documents())
        tokenizer = train_tokenizer(texts, num_bytes, settings.tokenizer, recorder=recorder)
    run.save_tokenizer(tokenizer)
    message = f"tokenizer: {tokenizer.kind}, {tokenizer.vocab_size:,} tokens"
    recorder.record(Event(name="training.tokenizer", message=message, data={"sha256": tokenizer.sha256}))
    return tokenizer


def _settled_objective(run: Run, settings: TrainSettings, recorder: Recorder) -> ObjectiveSettings:
    """The run's objective: as it was settled when the run began, whatever is installed now."""
    if "plan" in run.identity and OBJECTIVE in run.identity:
        with run.advised():
            return read_objective(run.part(OBJECTIVE), str(run.path / RUN))
    return settle_objective(settings.objective, recorder)


def _check_data(run: Run, identity: Mapping[str, str]) -> None:
    """Raise ResumeError when the data differ from those that the run began with, if it has begun."""
    if "data" not in run.identity:
        return
    stored: Mapping[str, Json] = run.part("data")
    different = [key for key in identity if stored.get(key) != identity[key]]
    if not different:
        return
    raise ResumeError(
        "the text is not the one this run began with",
        found=f"different: {', '.join(different)}",
        where=str(run.path),
        hint="restore the text, or train in a new directory (--from this one keeps its weights)",
    )
