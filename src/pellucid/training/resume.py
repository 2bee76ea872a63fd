"""Check whether a run may be resumed with the settings that were just given, and name the differences if not."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from pellucid.data.objectives.settings import BEFORE as OBJECTIVE_BEFORE
from pellucid.data.settings import BEFORE as DATA_BEFORE
from pellucid.data.settings import ONCE_DEFAULT
from pellucid.errors import ResumeError
from pellucid.events import Event, Recorder
from pellucid.planning.config import ModelConfig
from pellucid.settings import DEFAULT, Layer, Resolved, flatten, nested, plain, resolve
from pellucid.tokens.settings import BEFORE as TOKENIZER_BEFORE
from pellucid.training.settings import ModelSettings, TrainSettings
from pellucid.untrusted import Json, Table

# Section -> the settings that were added to it, at the value by which earlier runs behaved.
BEFORE: Mapping[str, Mapping[str, Any]] = {
    "data": DATA_BEFORE,
    "objective": OBJECTIVE_BEFORE,
    "tokenizer": TOKENIZER_BEFORE,
}
ONCE: Mapping[str, Mapping[str, Any]] = {"data": ONCE_DEFAULT}  # and those whose default was another once

# Settings that change where and how fast a run computes, or what it keeps, but not what it learns.
MAY_DIFFER = (
    "device",
    "threads",
    "precision",
    "compile",
    "deterministic",
    "tensorboard",
    "saving.keep_last",
    "saving.keep_every",
    "saving.keep_best",
    "saving.snapshot_bytes",
    "probe.texts",
    "probe.every_steps",
    "probe.seconds_share",
    "probe.max_bytes",
)
LENGTH = ("steps", "epochs", "minutes")


def as_begun(resolved: Resolved[TrainSettings], stored: Mapping[str, Any]) -> Resolved[TrainSettings]:
    """The settings for resuming a run. A setting that did not exist when the run began takes its old behaviour.

    `stored` are the run's own settings. A value that a person sets is kept, and then counts as a difference.
    """
    settings, sources = resolved.settings, dict(resolved.sources)
    for section, before in BEFORE.items():
        old = {name: value for name, value in before.items() if stored.get(f"{section}.{name}", value) == value}
        once = ONCE.get(section, {})
        old |= {name: value for name, value in once.items() if stored.get(f"{section}.{name}") == value}
        kept = {name: old[name] for name in old if sources.get(f"{section}.{name}", DEFAULT) == DEFAULT}
        settings = dataclasses.replace(settings, **{section: dataclasses.replace(getattr(settings, section), **kept)})
        sources |= {f"{section}.{name}": "run.json" for name in kept}
    return Resolved(settings, sources)


def check_same_run(
    stored: Mapping[str, Any], asked: Mapping[str, Any], plan: Mapping[str, Json], *, extend: bool, where: str
) -> None:
    """Raise ResumeError listing every setting that differs from the run's own; `extend` allows another length.

    A setting that the run left open may be given the value that its plan chose.

    >>> old = _before()
    >>> check_same_run({"seed": 1}, {"seed": 2, **old}, {}, extend=False, where="runs/book")
    Traceback (most recent call last):
    ...
    pellucid.errors.ResumeError: this directory holds a run with other settings
      found: seed: 1 there, 2 now
      where: runs/book
      try:   repeat the command that made it, or choose another directory
    """
    stored = _before() | _as_named_today(stored)
    ignored = MAY_DIFFER + (LENGTH if extend else ())
    keys = [key for key in sorted({*stored, *asked}) if stored.get(key) != asked.get(key) and key not in ignored]
    if any(stored.get(key) is None for key in keys):
        chosen = _chosen(Table(plan, "run.json", "the plan"))
        keys = [key for key in keys if stored.get(key) is not None or asked[key] != chosen.get(key)]
    if not keys:
        return
    different = [f"{key}: {_said(stored.get(key))} there, {_said(asked.get(key))} now" for key in keys]
    only_length = all(key in LENGTH for key in keys)
    raise ResumeError(
        "this directory holds a run with other settings",
        found="; ".join(different),
        where=where,
        hint="add --extend to lengthen the run"
        if only_length
        else "repeat the command that made it, or choose another directory",
    )


def _said(value: Any) -> Any:
    """A setting's value as a person sets it."""
    return "none" if value is None else value


def _before() -> dict[str, Any]:
    return {f"{section}.{name}": value for section, before in BEFORE.items() for name, value in before.items()}


def _chosen(plan: Table) -> dict[str, Json]:
    """The values that the plan of a run chose for settings, under the names of the settings."""
    config = resolve(ModelConfig, Layer("run.json", plan.table("config"))).settings
    rows = plan.whole("rows")
    chosen = {f"model.{key}": plain(value) for key, value in flatten(config)} | {
        "tokenizer.vocab_size": config.vocab_size,
        "batch.rows": rows,
        "batch.tokens": rows * (plan.whole("row_length", None) or config.context_length),
        "batch.micro_rows": plan.whole("micro_rows"),
        "evaluation.every_steps": plan.whole("eval_every_steps"),
        "saving.every_steps": plan.whole("save_every_steps"),
    }
    by_clock = plan.number("budget_seconds", None) is not None
    return chosen if by_clock else chosen | {"steps": plan.whole("steps")}


def _as_named_today(stored: Mapping[str, Any]) -> dict[str, Any]:
    """A run's own settings, with its model settings in today's groups."""
    start = "model."
    model = {key.removeprefix(start): value for key, value in stored.items() if key.startswith(start)}
    others = {key: value for key, value in stored.items() if not key.startswith(start)}
    asked = resolve(ModelSettings, Layer("run.json", nested(model))).settings
    return others | {f"{start}{key}": plain(value) for key, value in flatten(asked)}


def check_same_machine(
    stored: Mapping[str, str], now: Mapping[str, str], *, require_exact: bool, recorder: Recorder
) -> None:
    """Report how this machine differs from the one that made the checkpoint; bits may then differ too.

    Raises ResumeError when `require_exact`.
    """
    different = [
        f"{key}: {stored.get(key)} then, {now.get(key)} now"
        for key in sorted({*stored, *now})
        if stored.get(key) != now.get(key)
    ]
    if not different:
        return
    if require_exact:
        raise ResumeError(
            "this run cannot go on to the bit here",
            found="; ".join(different),
            hint="continue on the same set-up, or without --require-exact",
        )
    message = f"going on under another set-up, so the bits may differ from an uninterrupted run: {'; '.join(different)}"
    recorder.record(
        Event(name="training.other_fingerprint", message=message, data={"different": different}, level="warning")
    )
