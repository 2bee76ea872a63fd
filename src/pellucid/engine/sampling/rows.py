"""Choosing in several rows at once: each as its own sampler would alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pellucid.engine.sampling.sampler import Choice, Sampler


@dataclass(frozen=True, slots=True)
class RowAsk:
    """A row of logits, and what its text asks to be chosen from it."""

    sampler: Sampler
    logits_V: NDArray[np.float32]
    ids: Sequence[int]
    num_prompt: int
    keep_rows: bool = False


def choose_rows(asked: Sequence[RowAsk]) -> list[Choice | Exception]:
    """The choice of each row; an error is that of its own row alone."""
    found: list[Choice | Exception] = []
    for ask in asked:
        try:
            found.append(ask.sampler.choose(ask.logits_V, ask.ids, ask.num_prompt, keep_rows=ask.keep_rows))
        except Exception as error:  # a caller's own stage may raise anything
            found.append(error)
    return found
