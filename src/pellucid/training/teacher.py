"""The teacher of a draft: the finished model that the draft will guess for, and the text that it was trained on.

    pellucid train --draft-of RUN --out DRAFT         the tokens that RUN keeps, read again
    pellucid train TEXT --draft-of MODEL --out DRAFT  another text, or where the tokens are gone

A draft has its teacher's tokenizer, a small shape of its family (`planning.draft`), and learns its probabilities
(`data.objectives.distilled`). What is taken over is not asked again: settings that would contradict it are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from pellucid.data.objectives.distilled import DistilledObjective
from pellucid.data.objectives.settings import CausalSettings
from pellucid.data.prepare import PREPARED, Prepared, open_again
from pellucid.data.settings import DataSettings
from pellucid.errors import InputError, ResumeError, SettingsError, TrainingError
from pellucid.evaluate.asked_model import AskedModel
from pellucid.evaluate.objective import check_can_learn
from pellucid.events import NULL, Event, Recorder
from pellucid.planning.config import ModelConfig
from pellucid.planning.draft import derive_draft
from pellucid.planning.flops import count_flops
from pellucid.planning.params import count_parameters
from pellucid.planning.scaling import Derived
from pellucid.settings import DEFAULT, Layer, Resolved, flatten, nested, plain, resolve, shallow
from pellucid.store.checkpoint import Checkpoint, ancestor_of, load_model
from pellucid.store.directory import describe
from pellucid.store.open import open_checkpoint
from pellucid.store.run import RUN, Run, is_run
from pellucid.tokens.tokenizer import Tokenizer
from pellucid.training.plan import overrides
from pellucid.training.settings import TrainSettings
from pellucid.untrusted import Json, Table

DRAFT_OF = "draft_of"  # in run.json and pellucid.json: which model a draft guesses for
TAKEN_OVER = ("tokenizer.", "model.", "objective.")  # groups of settings that the model decides …
SIZES = (  # … but for these of its shape
    "n_layers",
    "n_heads",
    "n_kv_heads",
    "head_dim",
    "d_model",
    "d_ff",
    "tied_head",
    "context_length",
    "dropout",
    "init",
)


@dataclass(frozen=True, kw_only=True)
class Teacher:
    """A finished model, and the shape of a draft of it."""

    checkpoint: Checkpoint
    tokenizer: Tokenizer
    shape: Derived  # of the draft

    @property
    def flops(self) -> int:
        """What it costs to ask it about a token of a row."""
        return count_flops(self.checkpoint.config, context_length=self.shape.config.context_length).forward

    def identity(self) -> dict[str, Json]:
        """Which model this is: its directory, the hash of its weights, its step."""
        return ancestor_of(self.checkpoint)

    def objective(self, device: torch.device, dtype: torch.dtype) -> DistilledObjective:
        """What the draft learns: this model's probabilities."""
        model = load_model(self.checkpoint, device=device, dtype=dtype).eval()
        return DistilledObjective(teacher=AskedModel(model=model.requires_grad_(False)))


def read_teacher(path: Path, settings: TrainSettings, *, recorder: Recorder = NULL) -> Teacher:
    """The model that a draft is trained for.

    Raises SettingsError for one that does not write, or for sizes that make no draft of it, TrainingError for one
    without a tokenizer, and what opening a model raises.
    """
    checkpoint = open_checkpoint(path, recorder=recorder)
    where = str(checkpoint.directory)
    if not checkpoint.config.head.tokens:
        raise SettingsError(
            "a draft guesses tokens, and this model scores none", where=where, hint="give a model that writes"
        )
    try:
        check_can_learn(CausalSettings(), checkpoint.config)
    except SettingsError as error:
        raise SettingsError(
            "a draft guesses the next token, and this model does not predict it from those before it alone",
            found=error.found,
            where=where,
            hint="give a causal model of one text",
        ) from error
    if checkpoint.tokenizer is None:
        raise TrainingError("the model to guess for has no tokenizer", where=where)
    shape = _shape_of(checkpoint.config, settings)
    teacher = Teacher(checkpoint=checkpoint, tokenizer=checkpoint.tokenizer, shape=shape)
    small, large = (count_parameters(config).total for config in (shape.config, checkpoint.config))
    message = (
        f"a draft of {small:,} parameters, {small / large:.1%} of the {large:,} that it guesses for; it learns what that"
        " model finds likely"
    )
    recorder.record(Event(name="training.draft", message=message, data={"parameters": small, "of": large}))
    return teacher


def _shape_of(config: ModelConfig, settings: TrainSettings) -> Derived:
    """The derived shape of a draft, with the sizes that a person set."""
    derived, said = derive_draft(config), overrides(settings.model)
    layers = (Layer("draft", shallow(derived.config)), Layer("settings", said))
    chosen = resolve(ModelConfig, *layers).settings
    if chosen.context_length > config.context_length:
        raise SettingsError(
            "a draft cannot read more than the model that it learns from",
            found=f"model.context_length={chosen.context_length}, and that of the model is {config.context_length}",
            hint="leave model.context_length out: then it is the model's",
        )
    reasons = tuple(reason for reason in derived.reasons if reason.field not in said)
    return Derived(depth=chosen.n_layers, config=chosen, reasons=reasons)


def check_draft(resolved: Resolved[TrainSettings], *, has_text: bool, start_from: Path | None) -> None:
    """Raise SettingsError for settings that a draft takes over from its model, or cannot have."""
    if start_from is not None:
        raise SettingsError(
            "a draft is a new model: it begins with no other's weights",
            found=f"--draft-of and --from {start_from}",
            hint="leave one of them out",
        )
    told = [key for key, _, source in resolved.rows() if source not in (DEFAULT, RUN)]
    sizes = {f"model.{name}" for name in SIZES}
    if decided := [key for key in told if key.startswith(TAKEN_OVER) and key not in sizes]:
        raise SettingsError(
            "a draft has the tokenizer and the family of the model that it guesses for, and learns its probabilities",
            found=", ".join(decided),
            hint=f"leave these settings out; what can be set of its shape: {', '.join(SIZES)}",
        )
    of_text = [key for key in told if key.startswith("data.")]
    if of_text and not has_text:
        raise SettingsError(
            "a draft reads the tokens that its model was trained on, as they are",
            found=", ".join(of_text),
            hint="leave these settings out, or name the text to read, before --draft-of",
        )
    if resolved.settings.compile == "on":
        raise SettingsError(
            "the steps of a draft are not compiled: another model takes part in them",
            found="compile=on",
            hint="leave --set compile=on out",
        )


def how_it_was_read(path: Path) -> Layer:
    """How a run made rows of its text: a draft goes on with these settings, where no others are given."""
    run, usual = _run_of(path), {f"data.{key}": plain(value) for key, value in flatten(DataSettings())}
    stored: Mapping[str, Json] = {} if run is None else Run.open(run).part("settings")
    told = {key: stored[key] for key, value in usual.items() if stored.get(key, value) != value}
    if stored.get("batch.pool") is not None:
        told["batch.pool"] = stored["batch.pool"]
    return Layer(RUN, nested(told))


def read_again(
    path: Path, tokenizer: Tokenizer, settings: DataSettings, *, verify: bool, recorder: Recorder
) -> Prepared:
    """The tokens that a run was trained on. Raises what `find_tokens` does, CorruptFileError for damaged ones."""
    return open_again(find_tokens(path), tokenizer, settings, verify=verify, recorder=recorder)


def find_tokens(path: Path) -> Path:
    """Where the tokens lie that a model was trained on. Raises InputError where they are not at hand."""
    run = _run_of(path)
    if run is not None and (run / "data" / PREPARED).is_file():
        return run / "data"
    raise InputError(
        "the text that this model was trained on is not at hand",
        found="a model that belongs to no run" if run is None else describe(run / "data"),
        where=str(path if run is None else run / "data"),
        hint=f"give a text: pellucid train TEXT --draft-of {path} --out …",
    )


def _run_of(path: Path) -> Path | None:
    """The run that a path means, or in which it lies: RUN, RUN/latest, RUN/checkpoints/step-000100."""
    return next((place for place in (path, *path.parents[:2]) if is_run(place)), None)


def check_same_teacher(run: Run, teacher: Teacher) -> None:
    """Note in a new draft's run.json which model it learns from. Raises ResumeError when that of an older one changed."""
    if DRAFT_OF not in run.identity:
        run.update_identity({**run.identity, DRAFT_OF: teacher.identity()})
    known, now = (Table(one, RUN) for one in (run.part(DRAFT_OF), teacher.identity()))
    if any(known.values.get(name) != now.values.get(name) for name in ("weights_sha256", "step")):
        raise ResumeError(
            "the model that this draft learns from is not the one it began with",
            found=f"that of step {known.whole('step', None)} then, of step {now.whole('step', None)} now",
            where=str(run.path),
            hint="restore that model, or train a draft of the new one in another directory",
        )
