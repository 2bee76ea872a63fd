"""The description of normalisation: its axes, parameters, activations kept for the backward pass, and outputs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from pellucid.errors import ModelError
from pellucid.planning.parts.description import STREAM, Activation, CostLine, Part, vector
from pellucid.settings import Named, setting

NormKind = Literal["layer", "layer_no_bias", "rms"]
LAYER_KEEPS = "compute_bytes x (2 x d_model + 2)"  # its input, its output, two statistics
# What autograd keeps for each token. rms: its input and the normed input in float32, the scaled output, one root.
KEEPS: Mapping[NormKind, str] = MappingProxyType(
    {"layer": LAYER_KEEPS, "layer_no_bias": LAYER_KEEPS, "rms": "((8 + compute_bytes) x d_model + 4)"}
)


@dataclass(frozen=True, kw_only=True)
class NormConfig(Named):
    """Normalisation before attention, before the feed-forward and at the end."""

    kind: NormKind = setting("rms", "normalisation before attention, before the feed-forward and at the end")
    eps: float = setting(1e-6, "added to the variance before the root", low=0, high=1)

    def __post_init__(self) -> None:
        if not math.isfinite(self.eps):
            raise ModelError("what is added to the variance must be a finite number", found=f"eps={self.eps}")


def describe_norm(norm: NormConfig, name: str) -> Part:
    """The norm of that name over the width of the residual stream.

    >>> [tensor.name for tensor in describe_norm(NormConfig(kind="layer"), "final_norm").tensors]
    ['final_norm.weight', 'final_norm.bias']
    """
    tensors = [vector(f"{name}.weight", name, "d_model", start="one")]
    if norm.kind == "layer":
        tensors.append(vector(f"{name}.bias", name, "d_model", start="zero"))
    return Part(
        tensors=tuple(tensors),
        kept=(CostLine(name="norms", formula=KEEPS[norm.kind]),),
        steps=(Activation(name=name, axes=STREAM, meaning="the stream after this norm"),),
    )
