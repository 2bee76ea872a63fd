"""A sampler stage (logits processor): a name, and a pure function of one row of logits and of the ids before it.

    row [V], history  ->  row [V]          a token that a stage removes gets the logit -∞

To steer a generation (a grammar, a classifier, a lesson), write a stage and give it to `Sampler` as `extra`. A stage
may cache things for speed, but its result must depend on its arguments alone, because sequences are cut back, forked
and asked about twice.

Axes: V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class History:
    """The ids before the token to be chosen, of which the first `num_prompt` were given."""

    ids: Sequence[int]
    num_prompt: int


class Stage(Protocol):
    """One step between the model's logits and the draw."""

    @property
    def name(self) -> str:
        """As it is printed, with its numbers: "top-p 0.9"."""
        ...

    def apply(self, logits_V: NDArray[np.float32], history: History) -> NDArray[np.float32]:
        """A new row, or the same one when nothing changes; never written in place."""
        ...


@dataclass(frozen=True)
class FunctionStage:
    """A stage made of a function."""

    name: str
    apply: Callable[[NDArray[np.float32], History], NDArray[np.float32]]
