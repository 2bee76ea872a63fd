"""FLOPs per token (floating-point operations), part by part.

A matrix of `out x in` costs `2 x out x in` FLOPs per token (a multiplication and an addition for each weight).
Attention adds two products with everything a position may see: its scores `q · k`, and the sum of values by weight.
A causal position sees on average `(context_length + 1) / 2` positions, itself included. Training costs three times the
forward pass: the backward pass has two products (one for inputs, one for weights) where the forward has one.

The embedding is a look-up and costs nothing; the head is counted, tied or not. *Not* counted is what is small beside
the products: norms, softmax, rotations, the nonlinearity, biases, the optimizer (`muon_flops` counts Muon apart); nor what a core multiplies only to
mask it away, nor what is computed once for a row (a pooler). Of two streams the second is counted as if every place were
asked for (`asked_…`), where training asks for a part. The shorthand "6 x parameters x tokens" is close when the context
is short beside the width.

Source: Kaplan et al. 2020 §2.1; Chowdhery et al. 2022 appendix B (which counts a full, not a causal, context).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from pellucid.planning.config import ModelConfig
from pellucid.planning.formula import Breakdown, sizes, term
from pellucid.planning.layout import ENCODER, count_in_blocks, lay_out
from pellucid.planning.params import block_matrices
from pellucid.planning.parts.streams import SHARED

TRAINING_FACTOR = 3
NEWTON_SCHULZ_STEPS = 5  # of Muon's iteration at each update


@dataclass(frozen=True, kw_only=True)
class FlopCount(Breakdown):
    """FLOPs of one forward pass, per token, averaged over a full row of `context_length` tokens."""

    unit: str = "FLOPs per token"
    context_length: int

    @property
    def forward(self) -> int:
        """FLOPs per token of a forward pass."""
        return self.total

    @property
    def training(self) -> int:
        """FLOPs per token of training: the forward and the backward pass."""
        return TRAINING_FACTOR * self.total

    def to_dict(self) -> dict[str, object]:
        """The account for machines, with its training figure."""
        return super().to_dict() | {"context_length": self.context_length, "training": self.training}


def count_flops(config: ModelConfig, *, context_length: int | None = None) -> FlopCount:
    """FLOPs per token by part, for rows of `context_length` tokens (None: as long as the model allows).

    >>> from pellucid.planning.presets import preset
    >>> count = count_flops(preset("gpt2"))
    >>> count["attention_scores"], count["head"], count.training
    (9446400, 77194752, 797870592)
    """
    symbols = sizes(config, context_length)
    seen = "(context_length + 1) / 2" if config.causal else "context_length"
    layout = lay_out(config)
    blocks = ([line for part in block for line in part.multiplications()] for block in layout.blocks)
    lines = [(line, f"x {times}") for line, times in count_in_blocks(blocks).items()]
    encoder = ([line for part in block for line in part.multiplications()] for block in layout.encoder)
    lines += [
        (replace(line, name=f"encoder_{line.name}"), f"x {times}")
        for line, times in count_in_blocks(encoder, ENCODER).items()
    ]
    if config.streams is not None:
        lines += [(replace(line, name=f"asked_{line.name}"), times) for line, times in lines if line.name not in SHARED]
    lines += [(line, "") for part in layout.last for line in part.multiplications()]
    seen_by = {
        name: "context_length" if name.startswith("encoder_") else seen for name in (line.name for line, _ in lines)
    }
    formulas = [
        (line.name, f"2 x {line.formula.replace('seen', seen_by[line.name])} {times}".rstrip()) for line, times in lines
    ]
    terms = [term(name, formula, symbols) for name, formula in formulas]
    return FlopCount(terms=tuple(terms), context_length=symbols["context_length"])


def muon_flops(config: ModelConfig) -> int:
    """FLOPs of one update by Muon: five times three products for each matrix of the blocks, whatever the update has read.

    An m x n matrix, m the shorter side: its Gram matrix (2 m² n), that one's square (2 m³), and their product with it (2 m² n).

    >>> from pellucid.planning.presets import preset
    >>> muon_flops(preset("gpt2")) / (1024 * count_flops(preset("gpt2")).training) > 1  # more than a row of text costs
    True
    """
    symbols = sizes(config, None)
    shapes = [[symbols[axis] for axis in formula.split(" x ")] for _, formula in block_matrices(config)]
    sides = [(math.prod(shape[:-2]), *sorted(shape[-2:])) for shape in shapes]  # how many lie stacked, and their sides
    return sum(count * NEWTON_SCHULZ_STEPS * (4 * m * m * n + 2 * m**3) for count, m, n in sides)
