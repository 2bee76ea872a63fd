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
from pellucid.planning.parts.attention import (
    AttentionCore,
    describe_core,
    describe_cross,
    describe_output,
    describe_projections,
)
from pellucid.planning.parts.description import STREAM, Activation, CostLine, Group, Part, Start, TensorPlan
from pellucid.planning.parts.embedding import (
    describe_embedding,
    describe_embedding_norm,
    describe_head,
    describe_segments,
    describe_transform,
)
from pellucid.planning.parts.feed_forward import describe_experts, describe_feed_forward
from pellucid.planning.parts.norm import describe_norm
from pellucid.planning.parts.pooler import describe_pooler
from pellucid.planning.parts.position import describe_position
from pellucid.planning.parts.streams import PATH, asked_steps, describe_distances, describe_question

MASK = CostLine(name="dropout_masks", formula="compute_bytes x d_model")
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A model's parts: those before the blocks, those of each block, those after."""

    first: tuple[Part, ...]
    encoder: tuple[tuple[Part, ...], ...]  # the blocks of an encoder beside the decoder; () where there is none
    encoded: tuple[Part, ...]  # what stands around them: its table of positions, the norm behind its last block
    blocks: tuple[tuple[Part, ...], ...]
    last: tuple[Part, ...]
    num_streams: int = 1  # that pass through the blocks

    @property
    def kinds(self) -> tuple[tuple[Part, ...], ...]:
        """The blocks that differ from each other, each once: in most models there is one kind."""
        return tuple(dict.fromkeys(self.blocks))

    def kept(self) -> Iterator[tuple[CostLine, str]]:
        """What autograd keeps for each token, and how often (`n_layers`), those of the blocks first."""
        lines = ([line for part in block for line in part.kept] * self.num_streams for block in self.blocks)
        in_blocks = count_in_blocks(lines)
        in_encoder = count_in_blocks(
            ([line for part in block for line in part.kept] for block in self.encoder), ENCODER
        )
        outside = Counter(line for part in (*self.first, *self.encoded, *self.last) for line in part.kept)
        for line in dict.fromkeys((*in_blocks, *in_encoder, *outside)):
            counts = [in_blocks.get(line, ""), in_encoder.get(line, ""), str(outside[line]) if outside[line] else ""]
            found = [count for count in counts if count]
            yield line, f"({' + '.join(found)})" if len(found) > 1 else found[0]


ENCODER = "n_encoder_layers"


def count_in_blocks(blocks: Iterable[Iterable[T]], symbol: str = "n_layers") -> dict[T, str]:
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
        found[thing] = {0: total, 1: symbol}.get(some, f"{some} x {symbol}")
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
            *((describe_question(),) if config.streams else ()),
            describe_embedding_norm(config.embedding, config.norm),
            Part(kept=masks, steps=(Activation(name="input", axes=STREAM, meaning="what the first block reads"),)),
        ),
        encoder=tuple(_block(config, layer, core) for layer in range(config.encoder.n_layers))
        if config.encoder
        else (),
        encoded=_encoded(config),
        blocks=tuple(_block(config, layer, core, cross=config.encoder is not None) for layer in range(config.n_layers)),
        last=(
            *((describe_norm(config.norm, "final_norm"),) if config.norm.last else ()),
            describe_pooler(config.pooler, config.norm),
            describe_transform(config.head, config.norm),
            describe_head(config.head, tied=config.tied_head),
        ),
        num_streams=2 if config.streams else 1,
    )


def _encoded(config: ModelConfig) -> tuple[Part, ...]:
    """What stands around the blocks of an encoder, if there is one."""
    if config.encoder is None:
        return ()
    relative = (describe_position(config.position),) if config.position.kind == "relative" else ()
    return (*relative, *((describe_norm(config.norm, "final_norm"),) if config.norm.last else ()))


def _block(config: ModelConfig, layer: int, core: AttentionCore, *, cross: bool = False) -> tuple[Part, ...]:
    """The parts of one block. Both branches are added to the stream, each through its dropout."""
    norm, placement = config.norm, config.norm.placement
    masks = (MASK,) if config.dropout else ()
    middle = Part(kept=masks, steps=(Activation(name="middle", axes=STREAM, meaning="the stream after attention"),))
    output = Part(kept=masks, steps=(Activation(name="output", axes=STREAM, meaning="the stream after the block"),))
    attention = (
        describe_projections(config.attention, config.rotation_at(layer)),
        *((describe_distances(),) if config.streams else ()),
        describe_core(core, config.attention, dropout=bool(config.dropout)),
        describe_output(config.attention),
    )
    has_experts = config.has_experts(layer)
    mlp = (describe_experts(config.feed_forward) if has_experts else describe_feed_forward(config.feed_forward),)
    looked = Part(
        kept=masks, steps=(Activation(name="looked", axes=STREAM, meaning="the stream after cross-attention"),)
    )
    crossed = (describe_cross(config.attention, core, dropout=bool(config.dropout)),)
    branches = [
        ("attention", attention, middle),
        *([("cross", crossed, looked)] if cross else []),
        ("mlp", mlp, output),
    ]
    parts: list[Part] = []
    for name, branch, end in branches:
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
    for path, parts in (*_encoder_parts(from_parts), *_block_parts(from_parts)):
        for tensor in _tensors(parts):
            yield tensor.within(path)
    yield from _tensors(from_parts.last)


def _encoder_parts(layout: Layout) -> Iterator[tuple[str, tuple[Part, ...]]]:
    """The parts of an encoder, each with the path of its names: its relative positions, its blocks, the norm behind them."""
    before = tuple(part for part in layout.encoded if not part.steps)
    yield "encoder.", before
    for layer, block in enumerate(layout.encoder):
        yield f"encoder.blocks.{layer}.", block
    yield "encoder.", tuple(part for part in layout.encoded if part not in before)


def _block_parts(layout: Layout) -> Iterator[tuple[str, tuple[Part, ...]]]:
    """The parts of every block, with the path of its names."""
    for layer, block in enumerate(layout.blocks):
        yield f"blocks.{layer}.", block


def optimizer_groups(config: ModelConfig) -> dict[str, Group]:
    """Which group of the optimizer trains each learned tensor, by the name that the built model gives it.

    >>> optimizer_groups(ModelConfig())["blocks.0.attention.query.weight"]
    'matrix'
    """
    return {tensor.name: tensor.group for tensor in tensor_plans(config)}


def rate_shares(config: ModelConfig) -> dict[str, float]:
    """The learned tensors that learn by a share of their group's rate, or by a multiple of it; all others are left out.

    These are queries whose scores have a scale of their own, and tables that are also a head with a scale of its own.

    >>> t5 = ModelConfig(n_layers=1, head_dim=16).revise(attention={"scale": 1.0, "qk_norm": False})
    >>> rate_shares(ModelConfig()), rate_shares(t5)
    ({}, {'blocks.0.attention.query.weight': 0.25})
    """
    shares: dict[Start, float] = {"query": config.query_share, "table": config.table_share}
    return {one.name: shares[one.start] for one in tensor_plans(config) if shares.get(one.start, 1.0) != 1.0}


def _tensors(parts: tuple[Part, ...]) -> Iterator[TensorPlan]:
    return (tensor for part in parts for tensor in part.tensors)


def steps(config: ModelConfig) -> Iterator[Activation]:
    """Every tensor that the built model shows on the way from ids to scores, in the order of computation.

    >>> [step.name for step in steps(ModelConfig(n_layers=1))][:4]
    ['embed', 'input', 'blocks.0.attention_norm', 'blocks.0.attention.query']
    """
    from_parts = lay_out(config)
    if from_parts.encoder:  # it embeds the source as the decoder does its text
        for path, parts in (("encoder.", from_parts.first), *_encoder_parts(from_parts)):
            for step in _steps(parts):
                yield step.of_source().within(path)
    yield from _steps(from_parts.first)
    for path, parts in _block_parts(from_parts):
        for step in _steps(parts):
            yield step.within(path)
    if config.streams is None:
        yield from _steps(from_parts.last)
        return
    yield Activation(name=f"{PATH}input", axes=STREAM, meaning="what every query begins with").of_query()
    for path, parts in _block_parts(from_parts):
        yield from asked_steps(parts, path)
    for step in _steps(from_parts.last):
        yield step.of_query()


def _steps(parts: tuple[Part, ...]) -> Iterator[Activation]:
    return (step for part in parts for step in part.steps)
