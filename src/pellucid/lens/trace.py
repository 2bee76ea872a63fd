"""A trace: every number between a text and the next token, by name.

    header   what was traced: the model and its axes, the text, its tokens as chips, the names and shapes of the arrays,
             and the checks that were made
    arrays   name -> float32 numbers, such as `blocks.3.attention.weights` [H, T, T]

The arrays of a trace that was just recorded are computed layer by layer when they are first asked for; those of a file
are in the file. A trace is about one row of tokens and one model: it is not the account of sampling (`engine.trace`).

Axes: T positions · D width · H query heads · G key/value heads · K head width · F feed-forward width · V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pellucid.errors import InputError, RequestError
from pellucid.settings import nearest
from pellucid.store.envelope import arrays_of, decode

SCHEMA = 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Trace:
    """What was traced (`header`) and its numbers (`arrays`); made by `record_trace` or `load_trace`."""

    header: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray]

    def __getitem__(self, name: str) -> np.ndarray:
        """One array by name. Raises RequestError for a name that the trace does not have."""
        if name not in self.arrays:
            raise RequestError(
                f"the trace has no array {name!r}",
                where="header.arrays lists them",
                hint=nearest(name, list(self.arrays)),
            )
        return self.arrays[name]

    @property
    def ids(self) -> tuple[int, ...]:
        """The traced tokens."""
        return tuple(chip["id"] for chip in self.header["tokens"])

    @property
    def axes(self) -> Mapping[str, Any]:
        """The shape of the model."""
        return self.header["model"]["axes"]

    def __repr__(self) -> str:
        return f"Trace({self.header['model']['name']!r}, {len(self.ids)} tokens, {len(self.arrays)} arrays)"


def load_trace(path: Path | str) -> Trace:
    """Read a trace that was saved as .plens. Raises InputError when there is no such file, CorruptFileError for others."""
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError("the trace cannot be read", found=str(error), where=str(path)) from error
    envelope = decode(data, where=str(path))
    return Trace(header=envelope.value, arrays=dict(arrays_of(envelope)))
