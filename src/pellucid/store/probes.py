"""Probes of a run: what its model predicts on the same few texts at many training steps, one small file for each step.

    RUN/probes/step-000300.plens      an envelope: {"format": 1, "step": 300, "texts": [{"text", "ids"}…]} and arrays

Of text number t (T tokens) a file holds

    t.logits    [V]            scores of the next token after the whole text
    t.surprise  [T - 1]        -ln p of each true next token, in nats
    t.guess     [T]            the likeliest next token after each position
    t.norms     [L + 1, T]     length of the residual stream where it begins and after each block
    t.weights   [L, H, T, T]   attention, a byte a value
    t.embed     [T, D]         the tokens' rows of the embedding

These are records for looking at, not checkpoints: nothing can be continued from them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pellucid.errors import CorruptFileError
from pellucid.files import explained, replace_file, sweep
from pellucid.store.envelope import Envelope, Quantized, decode, encode

PROBES = "probes"
FORMAT = 1
NAME = re.compile(r"step-(\d{6,})\.plens")


@dataclass(frozen=True, kw_only=True)
class SavedProbe:
    """The file of one step."""

    step: int
    path: Path

    @property
    def num_bytes(self) -> int:
        return self.path.stat().st_size


def list_probes(run: Path) -> list[SavedProbe]:
    """The probes of a run, oldest first."""
    folder = Path(run) / PROBES
    named = [(NAME.fullmatch(entry.name), entry) for entry in (folder.iterdir() if folder.is_dir() else ())]
    return sorted((SavedProbe(step=int(match[1]), path=path) for match, path in named if match), key=lambda p: p.step)


def pack_probe(step: int, texts: list[dict[str, Any]], arrays: Mapping[str, np.ndarray | Quantized]) -> bytes:
    """The contents of one step's file."""
    return encode(Envelope({"format": FORMAT, "step": step, "texts": texts}, arrays))


def save_probe(run: Path, step: int, data: bytes) -> None:
    """Write the file of one step, at once or not at all."""
    path = Path(run) / PROBES / f"step-{step:06d}.plens"
    with explained(path, len(data)):
        path.parent.mkdir(exist_ok=True)
    replace_file(path, data)


def load_probe(saved: SavedProbe) -> Envelope:
    """One step's probe. Raises CorruptFileError for a file that is damaged or of a later format."""
    probe = decode(saved.path.read_bytes(), where=str(saved.path))
    if not isinstance(probe.value, dict) or probe.value.get("format") != FORMAT:
        raise CorruptFileError("this probe is not of the format read here", where=str(saved.path))
    return probe


def forget_probes(run: Path, *, after_step: int) -> None:
    """Remove the probes of later steps: training goes on from `after_step` and will look again."""
    folder = Path(run) / PROBES
    if folder.is_dir():
        sweep(folder)
    for saved in list_probes(run):
        if saved.step > after_step:
            saved.path.unlink()
