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
Placement = Literal["before", "after", "around"]
LAYER_KEEPS = "compute_bytes x (2 x d_model + 2)"  # its input, its output, two statistics
# What autograd keeps for each token. rms: its input and the normed input in float32, the scaled output, one root.
KEEPS: Mapping[NormKind, str] = MappingProxyType(
    {"layer": LAYER_KEEPS, "layer_no_bias": LAYER_KEEPS, "rms": "((8 + compute_bytes) x d_model + 4)"}
)


@dataclass(frozen=True, kw_only=True)
class NormConfig(Named):
    """Normalisation: its formula, and where in a block it stands.

    A branch is attention or the feed-forward. `before`: x + f(norm(x)), and one norm behind the last block. `after`:
    norm(x + f(x)), as the original Transformer has it. `around`: x + norm(f(norm(x))), and one behind the last block.
    """

    kind: NormKind = setting("rms", "what is computed: layer, layer_no_bias or rms")
    eps: float = setting(1e-6, "added to the variance before the root", low=0, high=1)
    placement: Placement = setting(
        "before", "where the norms of a branch stand: before it, after the sum, or around it"
    )
    one_plus: bool = setting(False, "scales are 1 + weight, so that weights of 0 change nothing")
    first: bool = setting(True, "the first block has a norm before its attention")

    def __post_init__(self) -> None:
        if not math.isfinite(self.eps):
            raise ModelError("what is added to the variance must be a finite number", found=f"eps={self.eps}")
        if self.one_plus and self.kind != "rms":
            raise ModelError("only an RMS norm has scales of 1 + weight", found=f"norm={self.kind}")
        if not self.first and self.placement != "before":
            raise ModelError("only a norm before the branch can be left out", found=f"placement={self.placement}")

    @property
    def last(self) -> bool:
        """Whether there is a norm behind the last block: where a block ends with one there is none."""
        return self.placement != "after"


def describe_norm(norm: NormConfig, name: str) -> Part:
    """The norm of that name over the width of the residual stream.

    >>> [tensor.name for tensor in describe_norm(NormConfig(kind="layer"), "final_norm").tensors]
    ['final_norm.weight', 'final_norm.bias']
    """
    tensors = [vector(f"{name}.weight", name, "d_model", start="zero" if norm.one_plus else "one")]
    if norm.kind == "layer":
        tensors.append(vector(f"{name}.bias", name, "d_model", start="zero"))
    return Part(
        tensors=tuple(tensors),
        kept=(CostLine(name="norms", formula=KEEPS[norm.kind]),),
        steps=(Activation(name=name, axes=STREAM, meaning="the stream after this norm"),),
    )
