"""Snapshots of a run: the model as it was at steps 0, 1, 2, 4, 8 …, kept to be looked at.

    RUN/snapshots/step-000004/      a Hugging Face directory in bf16: config, weights, tokenizer; no training state

Nothing can be continued from them, and a run that goes on does not read them. Everything else that takes a model takes
one of these too: `pellucid generate RUN/snapshots/step-000004`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from pellucid.files import remove_directory, sweep
from pellucid.planning.config import ModelConfig
from pellucid.store.checkpoint import save_checkpoint
from pellucid.store.saved import SavedStep, list_saved, name_step
from pellucid.tokens.tokenizer import Tokenizer
from pellucid.untrusted import Json

SNAPSHOTS = "snapshots"


def list_snapshots(run: Path) -> list[SavedStep]:
    """The snapshots of a run, oldest first."""
    return list_saved(Path(run) / SNAPSHOTS)


def save_snapshot(
    run: Path,
    step: int,
    *,
    config: ModelConfig,
    weights: Mapping[str, Tensor],
    tokenizer: Tokenizer | None,
    info: Mapping[str, Json],
) -> SavedStep:
    """Write the snapshot of one step, at once or not at all. Raises NoSpaceError when the disk is full."""
    saved = SavedStep(step=step, directory=Path(run) / SNAPSHOTS / name_step(step))
    small = {name: weight.detach().to(torch.bfloat16) for name, weight in weights.items()}
    save_checkpoint(saved.directory, config=config, weights=small, tokenizer=tokenizer, info={**info, "step": step})
    return saved


def remove_snapshot(saved: SavedStep) -> None:
    """Delete one snapshot."""
    remove_directory(saved.directory)


def forget_snapshots(run: Path, *, after_step: int) -> None:
    """Remove the snapshots of later steps: training goes on from `after_step` and will take them again."""
    folder = Path(run) / SNAPSHOTS
    if folder.is_dir():
        sweep(folder)
    for saved in list_snapshots(run):
        if saved.step > after_step:
            remove_snapshot(saved)
