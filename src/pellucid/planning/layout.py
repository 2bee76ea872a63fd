"""The layout of a model: its parts in the order in which they are computed, known from the `ModelConfig` alone.

Parameter counts, FLOPs, memory, initialisation, optimizer groups and the lens all read the parts from here. No torch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import TypeVar

from pellucid.planning.config import ModelConfig
from pellucid.planning.parts.attention import AttentionCore, describe_core, describe_output, describe_projections
from pellucid.planning.parts.description import STREAM, Activation, CostLine, Group, Part, TensorPlan
from pellucid.planning.parts.embedding import (
    describe_embedding,
    describe_embedding_norm,
    describe_head,
    describe_segments,
    describe_transform,
)
from pellucid.planning.parts.feed_forward import describe_experts, describe_feed_forward
from pellucid.planning.parts.norm import describe_norm
from pellucid.planning.parts.position import describe_position

MASK = CostLine(name="dropout_masks", formula="compute_bytes x d_model")
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A model's parts: those before the blocks, those of each block, those after."""

    first: tuple[Part, ...]
    blocks: tuple[tuple[Part, ...], ...]
    last: tuple[Part, ...]

    @property
    def kinds(self) -> tuple[tuple[Part, ...], ...]:
        """The blocks that differ from each other, each once: in most models there is one kind."""
        return tuple(dict.fromkeys(self.blocks))

    def kept(self) -> Iterator[tuple[CostLine, str]]:
        """What autograd keeps for each token, and how often (`n_layers`), those of the blocks first."""
        in_blocks = count_in_blocks([line for part in block for line in part.kept] for block in self.blocks)
        outside = Counter(line for part in (*self.first, *self.last) for line in part.kept)
        for line in dict.fromkeys((*in_blocks, *outside)):
            blocks, others = in_blocks.get(line, ""), str(outside[line]) if outside[line] else ""
            yield line, f"({blocks} + {others})" if blocks and others else blocks or others


def count_in_blocks(blocks: Iterable[Iterable[T]]) -> dict[T, str]:
    """How often each thing stands in all blocks together, as a factor of a formula.

    >>> count_in_blocks([["norm", "norm", "experts"], ["norm", "norm"]])
    {'norm': '2 x n_layers', 'experts': '1'}
    """
    counts = [Counter(block) for block in blocks]
    found = {}
    for thing in dict.fromkeys(chain.from_iterable(counts)):
        each = {count[thing] for count in counts}
        (some,) = each if len(each) == 1 else (0,)
        total = str(sum(count[thing] for count in counts))
        found[thing] = {0: total, 1: "n_layers"}.get(some, f"{some} x n_layers")
    return found


@lru_cache(maxsize=256)
def lay_out(config: ModelConfig, core: AttentionCore = "fused") -> Layout:
    """The parts of a model; only what the attention core keeps for the backward pass depends on which core it is.

    >>> [tensor.name for part in lay_out(ModelConfig()).blocks[0] for tensor in part.tensors][:3]
    ['attention_norm.weight', 'attention.query.weight', 'attention.key.weight']
    """
    masks = (MASK,) if config.dropout else ()
    return Layout(
        first=(
            describe_embedding(config.embedding, tied=config.tied_head),
            describe_position(config.position),
            describe_segments(config.embedding),
            describe_embedding_norm(config.embedding, config.norm),
            Part(kept=masks, steps=(Activation(name="input", axes=STREAM, meaning="what the first block reads"),)),
        ),
        blocks=tuple(_block(config, layer, core) for layer in range(config.n_layers)),
        last=(
            *((describe_norm(config.norm, "final_norm"),) if config.norm.last else ()),
            describe_transform(config.head, config.norm),
            describe_head(config.head, tied=config.tied_head),
        ),
    )


def _block(config: ModelConfig, layer: int, core: AttentionCore) -> tuple[Part, ...]:
    """The parts of one block. Both branches are added to the stream, each through its dropout."""
    norm, placement = config.norm, config.norm.placement
    masks = (MASK,) if config.dropout else ()
    middle = Part(kept=masks, steps=(Activation(name="middle", axes=STREAM, meaning="the stream after attention"),))
    output = Part(kept=masks, steps=(Activation(name="output", axes=STREAM, meaning="the stream after the block"),))
    attention = (
        describe_projections(config.attention, config.rotation_at(layer)),
        describe_core(core, config.attention, dropout=bool(config.dropout)),
        describe_output(config.attention),
    )
    has_experts = config.has_experts(layer)
    mlp = (describe_experts(config.feed_forward) if has_experts else describe_feed_forward(config.feed_forward),)
    parts: list[Part] = []
    for name, branch, end in (("attention", attention, middle), ("mlp", mlp, output)):
        before = placement != "after" and (norm.first or layer > 0 or name != "attention")
        parts += [describe_norm(norm, f"{name}_norm")] if before else []
        parts += branch
        parts += [describe_norm(norm, f"{name}_output_norm")] if placement != "before" else []
        parts += [end]
    return tuple(parts)


def tensor_plans(config: ModelConfig) -> Iterator[TensorPlan]:
    """Every learned tensor under the name that the built model gives it, in its order."""
    from_parts = lay_out(config)
    yield from _tensors(from_parts.first)
    for layer, block in enumerate(from_parts.blocks):
        for tensor in _tensors(block):
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
    for layer, block in enumerate(from_parts.blocks):
        for step in _steps(block):
            yield step.within(f"blocks.{layer}.")
    yield from _steps(from_parts.last)


def _steps(parts: tuple[Part, ...]) -> Iterator[Activation]:
    return (step for part in parts for step in part.steps)
