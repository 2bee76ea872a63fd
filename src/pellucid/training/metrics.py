"""The metrics of a run. They are JSON lines; TensorBoard, when asked for, receives a copy of them.

    {"kind": "train", "step": 12, "loss": 3.1, …}     one line per update
    {…, "expert_tokens": [[31, 33], [40, 24]], "dropped_share": 0.0}     of a mixture: by block, real tokens sent to each expert
    {"kind": "eval", "step": 50, "loss": 2.9, "bits_per_byte": 1.7, …}     one line per evaluation

Two fields depend on the wall clock: `seconds` (of training so far, in all processes) and `tokens_per_second` (of this
process). All others repeat to the bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pellucid.errors import MissingExtraError, install

WALL_CLOCK = ("seconds", "tokens_per_second")
NOT_PLOTTED = ("kind", "step")


class Board:
    """Copies metric lines to TensorBoard's event files."""

    def __init__(self, directory: Path, *, after_step: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise MissingExtraError(
                "TensorBoard is not installed", found=str(error), hint=install("tensorboard")
            ) from error
        self.writer = SummaryWriter(str(directory), purge_step=after_step + 1)

    def add(self, row: Mapping[str, Any]) -> None:
        """Copy one metric line."""
        for key, value in row.items():
            if key not in NOT_PLOTTED and isinstance(value, (int, float)):
                self.writer.add_scalar(f"{row['kind']}/{key}", value, row["step"])

    def close(self) -> None:
        self.writer.close()


class NoBoard:
    """Copies nothing."""

    def add(self, row: Mapping[str, Any]) -> None:
        pass

    def close(self) -> None:
        pass


def without_wall_clock(row: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a line that repeat to the bit: all but those of the wall clock."""
    return {key: value for key, value in row.items() if key not in WALL_CLOCK}
