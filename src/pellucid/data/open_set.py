"""Open a text as a run's settings say: documents, or pairs of texts from two columns."""

from __future__ import annotations

from pathlib import Path

from pellucid.data.pairs import as_pairs
from pellucid.data.settings import DataSettings
from pellucid.data.source import Source, open_source
from pellucid.events import NULL, Recorder


def open_as_set(
    location: Path | str, settings: DataSettings, *, recorder: Recorder = NULL, needs_weights: bool = True
) -> Source:
    """Open a source as a run's settings say; a validation text needs no weights."""
    source = open_source(
        location,
        field=settings.field,
        errors=settings.errors,
        encoding=settings.encoding,
        newlines=settings.newlines,
        folders=settings.folders,
        weights=settings.weights,
        needs_weights=needs_weights,
        in_columns=settings.source is not None,
        recorder=recorder,
    )
    return source if settings.source is None else as_pairs(source, settings.source, settings.field)
