"""The settings of a lesson that trains a model. No torch here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pellucid.settings import setting


@dataclass(frozen=True, kw_only=True)
class LessonSettings:
    """How a trial is run; the lessons of pure arithmetic need no settings."""

    seed: int = setting(1337, "the number all randomness is drawn from", low=0)
    quick: bool = setting(False, "a few steps of a smaller model: shows that it runs, not what it shows")
    text: Path | None = setting(
        None, "a text to train on instead of the microworld (lessons sampling, residual and token-worth)"
    )
    device: str = setting("cpu", "where the models are trained")
