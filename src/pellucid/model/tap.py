"""Taps (hooks on activations): a function that is given every tensor of a forward pass by name, and may replace it.

    tap(name, x) -> x        returns the same x: nothing changes;  returns another tensor: the pass goes on with that

A tap is part of the `Context` of one pass. The model does not store it, so two passes at the same time do not mix.
Names and shapes of the tensors are listed in `planning.layout`.
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
    """The tensor without its gradient, safe from later changes of the model."""
    return x.detach().clone() if name == "position" else x.detach()  # positions are rows of the table itself


def no_tap(name: str, x: Tensor) -> Tensor:
    """The tap that keeps and changes nothing."""
    return x


def within(tap: Tap, path: str) -> Tap:
    """The tap for the parts inside `path`: it puts `path` before the names that they give.

    >>> import torch
    >>> within(lambda name, x: name, "blocks.0.mlp")("up", torch.ones(1))
    'blocks.0.mlp.up'
    """
    return tap if tap is no_tap else lambda name, x: tap(f"{path}.{name}", x)
