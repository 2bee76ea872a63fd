"""Choosing in several rows at once: each as its own sampler would alone.

A row that lies on an accelerator is chosen from there, as far as that is sure to be the sampler's choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pellucid.engine.sampling.sampler import Choice, Sampler


class HeldRow(Protocol):
    """A row of logits that lies elsewhere, and is fetched when NumPy reads it."""

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """The row in float32, [V]."""
        ...

    def choose_among(self, asked: Sequence[RowAsk]) -> list[Choice | None]:
        """Choose where the rows lie, from those that lie where this one does; None where the sampler must decide."""
        ...


AnyRow: TypeAlias = "NDArray[np.float32] | HeldRow"


@dataclass(frozen=True, slots=True)
class RowAsk:
    """A row of logits, and what its text asks to be chosen from it."""

    sampler: Sampler
    logits_V: AnyRow
    ids: Sequence[int]
    num_prompt: int
    keep_rows: bool = False


def choose_rows(asked: Sequence[RowAsk]) -> list[Choice | Exception]:
    """The choice of each row; an error is that of its own row alone."""
    found: list[Choice | Exception] = []
    held = next((ask.logits_V for ask in asked if not isinstance(ask.logits_V, np.ndarray)), None)
    chosen = [None] * len(asked) if held is None else held.choose_among(asked)
    for ask, choice in zip(asked, chosen, strict=True):
        if choice is not None:
            found.append(choice)
            continue
        try:
            logits_V = np.asarray(ask.logits_V)
            found.append(ask.sampler.choose(logits_V, ask.ids, ask.num_prompt, keep_rows=ask.keep_rows))
        except Exception as error:  # a caller's own stage may raise anything
            found.append(error)
    return found
