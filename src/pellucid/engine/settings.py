"""How the next token is chosen: every knob of the sampler in one frozen dataclass. No torch.

The defaults change nothing: a plain `generate` samples from the model's own distribution. Ranges are checked whenever
the dataclass is made, so that code and command line meet the same errors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from pellucid.errors import SamplingError
from pellucid.settings import setting

Weights = Literal["auto", "fp32", "bf16", "int8", "int4"]


@dataclass(frozen=True, kw_only=True)
class EngineSettings:
    """How a model is run: what reads its weights, and in which number format."""

    kernels: Literal["auto", "on", "off"] = setting(
        "auto", "compiled loops on a CPU; auto falls back to torch and says so, on makes that an error"
    )
    weights: Weights = setting("auto", "number format of the weights while generating (auto: as they were loaded)")
    exact: bool = setting(True, "the same bits whatever else runs; off may use whatever is fastest")


@dataclass(frozen=True, kw_only=True)
class SamplingSettings:
    """The knobs of one generation; the stages act in the order temperature, top-k, top-p.

    >>> SamplingSettings(temperature=0.8, top_k=40).greedy
    False
    >>> SamplingSettings(top_p=0)
    Traceback (most recent call last):
    ...
    pellucid.errors.SamplingError: top_p must lie above 0 and not above 1
      found: 0
      try:   1 turns it off
    """

    temperature: float = setting(
        1.0, "divides the logits: below 1 sharpens, above 1 flattens, 0 always takes the likeliest"
    )
    top_k: int | None = setting(None, "keep only this many of the likeliest tokens (none: all)")
    top_p: float = setting(1.0, "keep the fewest likeliest tokens whose probabilities reach this sum (1: all)")
    max_new_tokens: int | None = setting(
        None, "stop after this many tokens (none: at <eos> or when the context is full)"
    )
    seed: int | None = setting(None, "the number all draws come from (none: drawn and reported)")
    stop: tuple[str, ...] = setting((), "texts that end the generation; they are not part of the answer")

    def __post_init__(self) -> None:
        if not (self.temperature >= 0 and math.isfinite(self.temperature)):  # written so that NaN fails too
            raise SamplingError(
                "temperature must be a finite number, 0 or more",
                found=str(self.temperature),
                hint="1 leaves the model as it is",
            )
        if not 0 < self.top_p <= 1:
            raise SamplingError("top_p must lie above 0 and not above 1", found=str(self.top_p), hint="1 turns it off")
        for name, low in (("top_k", 1), ("max_new_tokens", 1), ("seed", 0)):
            value = getattr(self, name)
            if value is not None and value < low:
                raise SamplingError(
                    f"{name} must be {low} or more", found=str(value), hint="leave it out to turn it off"
                )
        if isinstance(self.stop, str) or "" in self.stop:
            raise SamplingError(
                "stop must be a tuple of texts, none of them empty", found=repr(self.stop), hint='for example ("\\n",)'
            )

    @property
    def greedy(self) -> bool:
        """Whether the likeliest token is taken without a draw."""
        return self.temperature == 0
