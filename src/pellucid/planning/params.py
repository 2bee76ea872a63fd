"""How many numbers a model learns, part by part, before it is built.

One table lists every learned tensor: its name in the built model, the part it is counted under, and its axes by name
(`query: d_attention x d_model`). The shapes, the counts and the printed formulas are all read from it. What is counted
is everything a gradient reaches, each tensor once: a tied head adds nothing. It is *not* the "non-embedding" count of
scaling-law papers; `non_embedding` gives that.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pellucid.planning.config import ModelConfig
from pellucid.planning.formula import Account, Term, sizes, term

EMBEDDINGS = ("token_embedding", "position_embedding")


@dataclass(frozen=True, kw_only=True)
class TensorPlan:
    """One learned tensor: its name inside the model or block, the part it counts under, its axes by name."""

    name: str
    part: str
    axes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class ParameterCount(Account):
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
    if config.tied_head:
        terms.append(Term(name="head", formula="the token embedding, transposed", figures="tied", value=0))
    return ParameterCount(terms=tuple(terms))


def parameter_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """The shape of every learned tensor, under the name the built model gives it.

    >>> from pellucid.planning.presets import preset
    >>> parameter_shapes(preset("qwen3-0.6b"))["blocks.0.attention.key.weight"]
    (1024, 1024)
    """
    symbols = sizes(config)
    tensors = [*_first_tensors(config)]
    for layer in range(config.n_layers):
        for tensor in _block_tensors(config):
            tensors.append(TensorPlan(name=f"blocks.{layer}.{tensor.name}", part=tensor.part, axes=tensor.axes))
    tensors += _last_tensors(config)
    return {tensor.name: tuple(symbols[axis] for axis in tensor.axes) for tensor in tensors}


def block_matrices(config: ModelConfig) -> list[tuple[str, str]]:
    """(part, formula) of each weight matrix of one block: where the arithmetic happens, and what Muon trains.

    >>> from pellucid.planning.presets import preset
    >>> block_matrices(preset("gpt2"))[0]
    ('query', 'd_attention x d_model')
    """
    return [(t.part, " x ".join(t.axes)) for t in _block_tensors(config) if len(t.axes) == 2]


def _formulas(config: ModelConfig) -> Iterator[tuple[str, str]]:
    """(part, formula), tensors of one part added up: `(d_attention x d_model + d_attention) x n_layers`."""
    groups = [(_first_tensors(config), False), (_block_tensors(config), True), (_last_tensors(config), False)]
    for tensors, per_block in groups:
        products: dict[str, list[str]] = {}
        for tensor in tensors:
            products.setdefault(tensor.part, []).append(" x ".join(tensor.axes))
        for part, summands in products.items():
            formula = " + ".join(summands)
            bracketed = f"({formula})" if len(summands) > 1 else formula
            yield part, f"{bracketed} x n_layers" if per_block else formula


def _first_tensors(config: ModelConfig) -> Iterator[TensorPlan]:
    yield TensorPlan(name="embed.weight", part="token_embedding", axes=("vocab_size", "d_model"))
    if config.position.kind == "learned":
        yield TensorPlan(name="position.weight", part="position_embedding", axes=("context_length", "d_model"))


def _block_tensors(config: ModelConfig) -> Iterator[TensorPlan]:
    """The tensors of one block, in the order in which a token meets them."""
    yield from _norm(config, "attention_norm")
    for part, width in (("query", "d_attention"), ("key", "d_kv"), ("value", "d_kv")):
        yield from _linear(f"attention.{part}", part, width, "d_model", bias=config.attention.qkv_bias)
    if config.attention.qk_norm:
        yield TensorPlan(name="attention.query_norm.weight", part="qk_norms", axes=("head_dim",))
        yield TensorPlan(name="attention.key_norm.weight", part="qk_norms", axes=("head_dim",))
    yield from _linear("attention.output", "output", "d_model", "d_attention", bias=config.attention.output_bias)
    yield from _norm(config, "mlp_norm")
    if config.feed_forward.gated:
        yield from _linear("mlp.gate", "mlp_gate", "d_ff", "d_model", bias=config.feed_forward.bias)
    yield from _linear("mlp.up", "mlp_up", "d_ff", "d_model", bias=config.feed_forward.bias)
    yield from _linear("mlp.down", "mlp_down", "d_model", "d_ff", bias=config.feed_forward.bias)


def _last_tensors(config: ModelConfig) -> Iterator[TensorPlan]:
    yield from _norm(config, "final_norm")
    if not config.tied_head:
        yield TensorPlan(name="head.weight", part="head", axes=("vocab_size", "d_model"))


def _norm(config: ModelConfig, name: str) -> Iterator[TensorPlan]:
    yield TensorPlan(name=f"{name}.weight", part=name, axes=("d_model",))
    if config.norm.kind == "layer":
        yield TensorPlan(name=f"{name}.bias", part=name, axes=("d_model",))


def _linear(name: str, part: str, d_out: str, d_in: str, *, bias: bool) -> Iterator[TensorPlan]:
    yield TensorPlan(name=f"{name}.weight", part=part, axes=(d_out, d_in))
    if bias:
        yield TensorPlan(name=f"{name}.bias", part=part, axes=(d_out,))
