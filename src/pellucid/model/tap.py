"""A window in every wall: a function that is shown every tensor on its way through a model, and may replace it.

    tap(name, x) -> x        returns what it was given: it listens;  returns something else: that goes on instead

It travels in the `Context` of one pass, so the model knows nothing of it and two passes at once do not hear each
other. Names and shapes of what is shown are listed in `planning.layout`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from torch import Tensor

Tap: TypeAlias = Callable[[str, Tensor], Tensor]


class Taps(dict[str, Tensor]):
    """A tap that keeps every tensor it is shown, by name, without its gradient.

    >>> import torch
    >>> taps = Taps()
    >>> taps("embed", torch.ones(2)).tolist(), list(taps)
    ([1.0, 1.0], ['embed'])
    """

    def __call__(self, name: str, x: Tensor) -> Tensor:
        self[name] = kept(name, x)
        return x


def kept(name: str, x: Tensor) -> Tensor:
    """What was shown, without its gradient, such that nothing done to the model later can change it."""
    return x.detach().clone() if name == "position" else x.detach()  # positions are rows of the table itself


def no_tap(name: str, x: Tensor) -> Tensor:
    """Nobody listens."""
    return x
