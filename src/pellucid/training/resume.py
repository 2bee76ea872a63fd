"""Check whether a run may be resumed with the settings that were just given, and name the differences if not."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from pellucid.data.settings import BEFORE as DATA_BEFORE
from pellucid.errors import ResumeError
from pellucid.events import Event, Recorder
from pellucid.settings import DEFAULT, Layer, Resolved, flatten, nested, plain, resolve
from pellucid.tokens.settings import BEFORE as TOKENIZER_BEFORE
from pellucid.training.settings import ModelSettings, TrainSettings

# Section -> the settings that were added to it, at the value by which earlier runs behaved.
BEFORE: Mapping[str, Mapping[str, Any]] = {"data": DATA_BEFORE, "tokenizer": TOKENIZER_BEFORE}

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
        keys = {name: f"{section}.{name}" for name in before}
        old = {name: value for name, value in before.items() if stored.get(keys[name], value) == value}
        kept = {name: old[name] for name in old if sources.get(keys[name], DEFAULT) == DEFAULT}
        part = dataclasses.replace(getattr(settings, section), **kept)
        settings = dataclasses.replace(settings, **{section: part})
        sources |= {keys[name]: "run.json" for name in kept}
    return Resolved(settings, sources)


def check_same_run(stored: Mapping[str, Any], asked: Mapping[str, Any], *, extend: bool, where: str) -> None:
    """Raise ResumeError listing every setting that differs from the run's own; `extend` allows another length.

    >>> old = _before()
    >>> check_same_run({"seed": 1}, {"seed": 2, **old}, extend=False, where="runs/book")
    Traceback (most recent call last):
    ...
    pellucid.errors.ResumeError: this directory holds a run with other settings
      found: seed: 1 there, 2 now
      where: runs/book
      try:   repeat the command that made it, or choose another directory
    """
    stored = _before() | _as_named_today(stored)
    ignored = MAY_DIFFER + (LENGTH if extend else ())
    different = [
        f"{key}: {stored.get(key)} there, {asked.get(key)} now"
        for key in sorted({*stored, *asked})
        if stored.get(key) != asked.get(key) and key not in ignored
    ]
    if not different:
        return
    only_length = all(line.split(":")[0] in LENGTH for line in different)
    raise ResumeError(
        "this directory holds a run with other settings",
        found="; ".join(different),
        where=where,
        hint="add --extend to lengthen the run"
        if only_length
        else "repeat the command that made it, or choose another directory",
    )


def _before() -> dict[str, Any]:
    return {f"{section}.{name}": value for section, before in BEFORE.items() for name, value in before.items()}


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
