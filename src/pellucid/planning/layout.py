"""The layout of a model: its parts in the order in which they are computed, known from the `ModelConfig` alone.

Parameter counts, FLOPs, memory, initialisation, optimizer groups and the lens all read the parts from here. No torch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from pellucid.planning.config import ModelConfig
from pellucid.planning.parts.attention import AttentionCore, describe_core, describe_output, describe_projections
from pellucid.planning.parts.description import STREAM, Activation, CostLine, Group, Part, TensorPlan
from pellucid.planning.parts.embedding import describe_embedding, describe_head
from pellucid.planning.parts.feed_forward import describe_feed_forward
from pellucid.planning.parts.norm import describe_norm
from pellucid.planning.parts.position import describe_position

MASK = CostLine(name="dropout_masks", formula="compute_bytes x d_model")


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A model's parts: those before the blocks, those of every block, those after."""

    first: tuple[Part, ...]
    block: tuple[Part, ...]
    last: tuple[Part, ...]

    def kept(self) -> Iterator[tuple[CostLine, str]]:
        """What autograd keeps for each token, and how often (`n_layers`), those of the blocks first."""
        in_block = Counter(line for part in self.block for line in part.kept)
        outside = Counter(line for part in (*self.first, *self.last) for line in part.kept)
        for line in dict.fromkeys((*in_block, *outside)):
            blocks = {0: "", 1: "n_layers"}.get(in_block[line], f"{in_block[line]} x n_layers")
            others = str(outside[line]) if outside[line] else ""
            yield line, f"({blocks} + {others})" if blocks and others else blocks or others


@lru_cache(maxsize=256)
def lay_out(config: ModelConfig, core: AttentionCore = "fused") -> Layout:
    """The parts of a model; only what the attention core keeps for the backward pass depends on which core it is.

    >>> [tensor.name for part in lay_out(ModelConfig()).block for tensor in part.tensors][:3]
    ['attention_norm.weight', 'attention.query.weight', 'attention.key.weight']
    """
    masks = (MASK,) if config.dropout else ()
    return Layout(
        first=(
            describe_embedding(tied=config.tied_head),
            describe_position(config.position),
            Part(kept=masks, steps=(Activation(name="input", axes=STREAM, meaning="what the first block reads"),)),
        ),
        block=(
            describe_norm(config.norm, "attention_norm"),
            describe_projections(config.attention, config.position),
            describe_core(core, dropout=bool(config.dropout)),
            describe_output(config.attention),
            describe_norm(config.norm, "mlp_norm"),
            describe_feed_forward(config.feed_forward),
            # Both branches are added to the stream, each through its dropout.
            Part(kept=masks * 2, steps=(Activation(name="output", axes=STREAM, meaning="the stream after the block"),)),
        ),
        last=(describe_norm(config.norm, "final_norm"), describe_head(tied=config.tied_head)),
    )


def tensor_plans(config: ModelConfig) -> Iterator[TensorPlan]:
    """Every learned tensor under the name that the built model gives it, in its order."""
    from_parts = lay_out(config)
    yield from _tensors(from_parts.first)
    for layer in range(config.n_layers):
        for tensor in _tensors(from_parts.block):
            yield tensor.within(f"blocks.{layer}.")
    yield from _tensors(from_parts.last)


def optimizer_groups(config: ModelConfig) -> dict[str, Group]:
    """Which group of the optimizer trains each learned tensor, by the name that the built model gives it.

    >>> optimizer_groups(ModelConfig())["blocks.0.attention.query.weight"]
    'matrix'
    """
    return {tensor.name: tensor.group for tensor in tensor_plans(config)}


def _tensors(parts: tuple[Part, ...]) -> Iterator[TensorPlan]:
    return (tensor for part in parts for tensor in part.tensors)


def steps(config: ModelConfig) -> Iterator[Activation]:
    """Every tensor that the built model shows on the way from ids to scores, in the order of computation.

    >>> [step.name for step in steps(ModelConfig(n_layers=1))][:4]
    ['embed', 'input', 'blocks.0.attention_norm', 'blocks.0.attention.query']
    """
    from_parts = lay_out(config)
    yield from _steps(from_parts.first)
    for layer in range(config.n_layers):
        for step in _steps(from_parts.block):
            yield step.within(f"blocks.{layer}.")
    yield from _steps(from_parts.last)


def _steps(parts: tuple[Part, ...]) -> Iterator[Activation]:
    return (step for part in parts for step in part.steps)
