"""The two types that all parts of the lens share: `At` (what a question is about) and `Answer` (its result)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pellucid.errors import RequestError
from pellucid.store.envelope import Envelope, Quantized, to_8_bits

Answer = Envelope  # value: JSON; arrays: name -> numbers

Precision = Literal["exact", "byte"]


@dataclass(frozen=True, kw_only=True)
class At:
    """The subject of a question: a node of the tree of tokens, under one checkpoint of the run."""

    node: int = 0
    checkpoint: int | None = None  # a step of the run; None: the one that was opened
    precision: Precision = "exact"

    @classmethod
    def of(cls, value: object) -> At:
        """Read the `at` of a question: {"node": 3, "checkpoint": null, "precision": "byte"}, all fields optional."""
        if not isinstance(value, dict) or not set(value) <= {"node", "checkpoint", "precision"}:
            raise RequestError("`at` is not a place", found=repr(value)[:80], hint='for example {"node": 0}')
        at = cls(**value)
        whole = [at.node] if at.checkpoint is None else [at.node, at.checkpoint]
        if any(type(number) is not int for number in whole) or at.precision not in ("exact", "byte"):
            raise RequestError("`at` is not a place", found=repr(value)[:80], hint='for example {"node": 0}')
        return at

    def pack(self, array: NDArray[np.float32]) -> NDArray[np.float32] | Quantized:
        """Encode an array in the precision that the question asks for: exact, or one byte a value."""
        return to_8_bits(array) if self.precision == "byte" else array
