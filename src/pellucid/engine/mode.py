"""A model as it is used, not trained: no dropout, no gradients, and afterwards as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def inference(model: nn.Module) -> Iterator[None]:
    """Run a block with every part of `model` in evaluation mode and without gradients, then restore each part's mode.

    Do not hold it across a `yield` to a caller, who would inherit it.
    """
    training = [part for part in model.modules() if part.training]
    try:
        for part in training:
            part.training = False
        with torch.inference_mode():
            yield
    finally:
        for part in training:
            part.training = True
        # Weights that autocast cast in here carry no gradient; a caller's later training step must not reuse them.
        torch.clear_autocast_cache()
