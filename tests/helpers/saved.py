"""What a model of transformers would write, under the names of its files."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file


def gradients_as_saved(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Its gradients under the names of its files: in memory, experts lie stacked, gate upon up."""
    twin = copy.deepcopy(model)
    for parameter, original in zip(twin.parameters(), model.parameters(), strict=True):
        parameter.data = torch.zeros_like(original) if original.grad is None else original.grad
    with tempfile.TemporaryDirectory() as folder:
        twin.save_pretrained(folder)
        return load_file(Path(folder) / "model.safetensors")
