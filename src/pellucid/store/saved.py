"""Models of one run by their step: a folder with one directory for each."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from pellucid.store.directory import is_checkpoint

STEP_NAME = re.compile(r"step-([0-9]{6,18})")


@dataclass(frozen=True, kw_only=True)
class SavedStep:
    """One complete model of a run."""

    step: int
    directory: Path


def name_step(step: int) -> str:
    """The name of a step's directory.

    >>> name_step(300)
    'step-000300'
    """
    return f"step-{step:06d}"


def list_saved(folder: Path) -> list[SavedStep]:
    """The complete models in a folder, oldest first."""
    entries = folder.iterdir() if folder.is_dir() else ()
    named = [(STEP_NAME.fullmatch(entry.name), entry) for entry in entries]
    saved = [SavedStep(step=int(match[1]), directory=entry) for match, entry in named if match]
    return sorted((one for one in saved if is_checkpoint(one.directory)), key=lambda one: one.step)
