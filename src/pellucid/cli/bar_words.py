"""The words of a picture: Chinese where a font on this computer has Chinese letters, else English."""

from __future__ import annotations

from collections.abc import Sequence

from pellucid.cli.common import Terminal
from pellucid.events import Event


def drawable(english: Sequence[str], translated: Sequence[str]) -> Sequence[str]:
    """The translated words if they can be drawn; else the English ones, with a warning."""
    from pellucid.drawing.bars import can_write

    if can_write("".join(translated)):
        return translated
    message = "the picture is in English: no font on this computer has Chinese letters"
    Terminal().record(Event(name="cli.picture_english", message=message, level="warning"))
    return english
