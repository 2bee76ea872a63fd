"""Parameter counts: how many numbers a model learns, part by part, before it is built.

Each part of a model (`parts/`) lists its learned tensors: the name in the built model, the part it is counted under, and
its axes by name (`query: d_attention x d_model`). The shapes, the counts and the printed formulas are read from there. What is counted
is everything a gradient reaches, each tensor once: a tied head adds nothing. It is *not* the "non-embedding" count of
scaling-law papers; `non_embedding` gives that.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from pellucid.planning.config import ModelConfig
from pellucid.planning.formula import Breakdown, Term, sizes, term
from pellucid.planning.layout import ENCODER, count_in_blocks, lay_out, tensor_plans
from pellucid.planning.parts.description import Part, TensorPlan

EMBEDDINGS = ("token_embedding", "position_embedding", "segment_embedding")


@dataclass(frozen=True, kw_only=True)
class ParameterCount(Breakdown):
    """Parameters by part; parts inside the blocks are summed over all blocks.

    >>> from pellucid.planning.presets import preset
    >>> count = count_parameters(preset("gpt3"))
    >>> count["token_embedding"], count["position_embedding"], count.total
    (617558016, 25165824, 174604259328)
    """

    unit: str = "parameters"

    @property
    def non_embedding(self) -> int:
        """Parameters outside the token and position embeddings (a head of its own counts as outside)."""
        return self.total - sum(term.value for term in self.terms if term.name in EMBEDDINGS)


def count_parameters(config: ModelConfig) -> ParameterCount:
    """Count the parameters of a model by part, each with its formula.

    >>> from pellucid.planning.presets import preset
    >>> count_parameters(preset("gpt2")).terms[0].formula
    'vocab_size x d_model'
    """
    symbols = sizes(config)
    terms = [term(part, formula, symbols) for part, formula in _formulas(config)]
    if config.tied_head and config.head.tokens:
        terms.append(Term(name="head", formula="the token embedding, transposed", figures="tied", value=0))
    return ParameterCount(terms=tuple(terms))


def count_met(config: ModelConfig) -> int:
    """How many parameters one token meets: all but the experts that it is not sent to.

    >>> from pellucid.planning.presets import preset
    >>> f"{count_met(preset('mixtral-8x7b')):,}", count_met(preset("gpt2")) == count_parameters(preset("gpt2")).total
    ('12,879,925,248', True)
    """
    symbols = sizes(config)
    return sum(math.prod(symbols[axis] for axis in met_axes(tensor)) for tensor in tensor_plans(config))


def met_axes(tensor: TensorPlan) -> tuple[str, ...]:
    """The axes of what one token meets of a tensor: of the experts of a mixture those that it is sent to."""
    return tensor.met if "n_active" in tensor.met else tensor.axes


def parameter_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """The shape of every learned tensor, under the name the built model gives it.

    >>> from pellucid.planning.presets import preset
    >>> parameter_shapes(preset("qwen3-0.6b"))["blocks.0.attention.key.weight"]
    (1024, 1024)
    """
    symbols = sizes(config)
    return {tensor.name: tuple(symbols[axis] for axis in tensor.axes) for tensor in tensor_plans(config)}


def block_matrices(config: ModelConfig) -> list[tuple[str, str]]:
    """(part, formula) of each weight matrix of all blocks: where the arithmetic happens, and what Muon trains.

    >>> from pellucid.planning.presets import preset
    >>> matrices = block_matrices(preset("gpt2"))
    >>> matrices[0], len(matrices)
    (('query', 'd_attention x d_model'), 72)
    """
    layout = lay_out(config)
    tensors = (tensor for block in (*layout.encoder, *layout.blocks) for part in block for tensor in part.tensors)
    return [(tensor.part, " x ".join(tensor.axes)) for tensor in tensors if tensor.group == "matrix"]


def _formulas(config: ModelConfig) -> Iterator[tuple[str, str]]:
    """(part, formula), tensors of one part added up: `(d_attention x d_model + d_attention) x n_layers`."""
    layout = lay_out(config)
    yield from _sums(layout.first)
    for (name, formula), times in count_in_blocks(map(_sums, layout.blocks)).items():
        yield name, f"({formula}) x {times}" if " + " in formula else f"{formula} x {times}"
    for (name, formula), times in count_in_blocks(map(_sums, layout.encoder), ENCODER).items():
        yield f"encoder_{name}", f"({formula}) x {times}" if " + " in formula else f"{formula} x {times}"
    yield from ((f"encoder_{name}", formula) for name, formula in _sums(layout.encoded))
    yield from _sums(layout.last)


def _sums(parts: tuple[Part, ...]) -> Iterator[tuple[str, str]]:
    """(part, formula) of some parts, tensors of one part added up."""
    products: dict[str, list[str]] = {}
    for tensor in (tensor for part in parts for tensor in part.tensors):
        products.setdefault(tensor.part, []).append(" x ".join(tensor.axes))
    for name, summands in products.items():
        yield name, " + ".join(summands)
