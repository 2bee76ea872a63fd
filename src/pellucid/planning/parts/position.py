"""The description of position encodings: their kinds, axes and parameters."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from pellucid.errors import ModelError
from pellucid.planning.parts.description import STREAM, Activation, Part, TensorPlan
from pellucid.settings import Named, setting

MOST_POSITIONS, MOST_NUMBER, MOST_FIRST, MOST_BUCKETS = (
    1 << 24,
    1e15,
    1 << 10,
    1 << 12,
)  # beyond these no model is known


@dataclass(frozen=True, kw_only=True)
class Unscaled(Named):
    """Rotary wavelengths as they were."""

    kind: Literal["none"] = "none"


@dataclass(frozen=True, kw_only=True)
class LinearScaling(Named):
    """Every wavelength is stretched by the same factor (position interpolation)."""

    kind: Literal["linear"] = "linear"
    factor: float = setting(1.0, "how many times longer the stretched wavelengths are", low=1, high=MOST_NUMBER)


@dataclass(frozen=True, kw_only=True)
class BlendedScaling(Named):
    """Long wavelengths are stretched, short ones are not, those between in part: what llama3 and YaRN share."""

    kind: str
    factor: float = setting(1.0, "how many times longer the stretched wavelengths are", low=1, high=MOST_NUMBER)
    low_frequency: float = setting(
        1.0, "turns within original_context below which all is stretched", low=0, high=MOST_NUMBER
    )
    high_frequency: float = setting(4.0, "turns above which nothing is", low=0, high=MOST_NUMBER)
    original_context: int = setting(8192, "the context length before stretching, in tokens", low=1, high=MOST_POSITIONS)

    def __post_init__(self) -> None:
        low, high = self.low_frequency, self.high_frequency
        if high <= low:
            raise ModelError("high_frequency must be above low_frequency", found=f"{low}, {high}")


@dataclass(frozen=True, kw_only=True)
class Llama3Scaling(BlendedScaling):
    """The blend runs evenly over the number of turns."""

    kind: Literal["llama3"] = "llama3"


@dataclass(frozen=True, kw_only=True)
class YarnScaling(BlendedScaling):
    """YaRN: the blend runs evenly over the pairs; queries and keys are also multiplied by a factor."""

    kind: Literal["yarn"] = "yarn"
    attention_factor: float = setting(
        1.0, "queries and keys are multiplied by this as they turn", low=0, high=MOST_NUMBER
    )


RopeScaling = Unscaled | LinearScaling | Llama3Scaling | YarnScaling


@dataclass(frozen=True, kw_only=True)
class NoPosition(Named):
    """No position encoding; a causal mask alone tells some of the order."""

    kind: Literal["none"] = "none"


@dataclass(frozen=True, kw_only=True)
class Learned(Named):
    """A learned vector for each place, added to the embedding (GPT-2)."""

    kind: Literal["learned"] = "learned"
    first: int = setting(
        0, "the row of the first place; rows before it are never read (RoBERTa)", low=0, high=MOST_FIRST
    )


@dataclass(frozen=True, kw_only=True)
class Sinusoidal(Named):
    """A fixed vector of sines and cosines for each place, added to the embedding."""

    kind: Literal["sinusoidal"] = "sinusoidal"
    halves: bool = setting(False, "all sines come before all cosines (Marian), and do not alternate with them")


@dataclass(frozen=True, kw_only=True)
class Rotary(Named):
    """Queries and keys are rotated by an angle that grows with the position (RoPE)."""

    kind: Literal["rotary"] = "rotary"
    theta: float = setting(10_000.0, "base of the rotary wavelengths", low=1, high=MOST_NUMBER)
    scaling: RopeScaling = setting(Unscaled(), "how rotary wavelengths were stretched for longer contexts")
    window_theta: float | None = setting(
        None,
        "another base for blocks with a sliding window, which is not stretched (none: the same)",
        low=1,
        high=MOST_NUMBER,
    )
    skipped: tuple[int, ...] = setting((), "the blocks that do not rotate, counted from 0")

    def __post_init__(self) -> None:
        if not math.isfinite(self.theta):
            raise ModelError("the base of rotary wavelengths must be a finite number", found=f"theta={self.theta}")


@dataclass(frozen=True, kw_only=True)
class Relative(Named):
    """A learned number for each head and distance, added to the scores; far distances share one (T5)."""

    kind: Literal["relative"] = "relative"
    buckets: int = setting(
        32, "numbers for each head: one for each near distance, then one for ever more", low=2, high=MOST_BUCKETS
    )
    farthest: int = setting(128, "all distances from here on share one number", low=2, high=MOST_POSITIONS)

    def __post_init__(self) -> None:
        if self.buckets % 4 or self.farthest <= self.buckets // 2:
            raise ModelError(
                "buckets of distances must be a multiple of 4, and reach beyond half their number",
                found=f"buckets={self.buckets}, farthest={self.farthest}",
            )


@dataclass(frozen=True, kw_only=True)
class RelativeSines(Named):
    """Scores also compare the query with sines and cosines of the distance (Transformer-XL, XLNet)."""

    kind: Literal["relative_sines"] = "relative_sines"
    farthest: int | None = setting(
        None, "distances beyond this count as this (none: each counts as itself)", low=1, high=MOST_POSITIONS
    )


Position = NoPosition | Learned | Sinusoidal | Rotary | Relative | RelativeSines


def describe_position(position: Position) -> Part:
    """The table of positions, if there is one; rotary positions act on queries and keys, in attention."""
    if isinstance(position, Relative):
        axes = ("position_buckets", "n_heads")
        table = TensorPlan(name="relative.weight", part="relative_positions", axes=axes, group="tied", start="table")
        return Part(tensors=(table,))
    if not isinstance(position, Learned | Sinusoidal):
        return Part()
    added = Activation(name="position", axes=STREAM, meaning="what is added for the position")
    if isinstance(position, Sinusoidal):
        return Part(steps=(added,))
    table = TensorPlan(
        name="position.weight",
        part="position_embedding",
        axes=("position_rows" if position.first else "context_length", "d_model"),
        group="tied",
        start="table",
    )
    return Part(tensors=(table,), steps=(added,))
