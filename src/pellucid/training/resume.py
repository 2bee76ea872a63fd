"""Whether a directory's run may go on with the settings that were just given, and what differs if not."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from pellucid.data.settings import BEFORE
from pellucid.errors import ResumeError
from pellucid.events import Event, Recorder
from pellucid.settings import DEFAULT, Layer, Resolved, flatten, nested, plain, resolve
from pellucid.training.settings import ModelSettings, TrainSettings

# Settings that change where and how fast a run computes, or what it keeps, but not what it is.
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
    """The settings of a call that goes on with a run: one that is younger than the run keeps what it meant before.

    `stored` are the run's own settings. What a person sets stays as it is, and is then a difference.
    """
    old: dict[str, Any] = {name: value for name, value in BEFORE.items() if stored.get(f"data.{name}", value) == value}
    kept = {name: old[name] for name in old if resolved.sources.get(f"data.{name}", DEFAULT) == DEFAULT}
    data = dataclasses.replace(resolved.settings.data, **kept)
    sources = {**resolved.sources, **{f"data.{name}": "run.json" for name in kept}}
    return Resolved(dataclasses.replace(resolved.settings, data=data), sources)


def check_same_run(stored: Mapping[str, Any], asked: Mapping[str, Any], *, extend: bool, where: str) -> None:
    """Raise ResumeError listing every setting that differs from the run's own; `extend` allows another length.

    >>> old = {f"data.{name}": value for name, value in BEFORE.items()}
    >>> check_same_run({"seed": 1}, {"seed": 2, **old}, extend=False, where="runs/book")
    Traceback (most recent call last):
    ...
    pellucid.errors.ResumeError: this directory holds a run with other settings
      found: seed: 1 there, 2 now
      where: runs/book
      try:   repeat the command that made it, or choose another directory
    """
    stored = {f"data.{name}": value for name, value in BEFORE.items()} | _as_named_today(stored)
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


def _as_named_today(stored: Mapping[str, Any]) -> dict[str, Any]:
    """A run's own settings, those of its model in the groups in which they lie today."""
    start = "model."
    model = {key.removeprefix(start): value for key, value in stored.items() if key.startswith(start)}
    others = {key: value for key, value in stored.items() if not key.startswith(start)}
    asked = resolve(ModelSettings, Layer("run.json", nested(model))).settings
    return others | {f"{start}{key}": plain(value) for key, value in flatten(asked)}


def check_same_machine(
    stored: Mapping[str, str], now: Mapping[str, str], *, require_exact: bool, recorder: Recorder
) -> None:
    """Say what differs between the machine state a checkpoint was made under and this one; bits may then differ too.

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
