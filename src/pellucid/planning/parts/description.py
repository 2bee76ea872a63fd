"""The description of one part of a model: written once, read by everything that must know the part without building it.

    tensors    names, axes, which group of the optimizer trains them, how they start
    products   multiplications beside those of its matrices
    kept       what autograd keeps of it from the forward pass until the backward pass has used it
    steps      the tensors that it shows, in the order of computation: the taps of the built model (`model.recording`), the
               arrays of a trace, the walk of `--explain`; a name means the same tensor in all of them

Counts, FLOPs, memory, initialisation, the optimizer's groups, the walk of shapes and the lens's recording are read from
here. Axes are words (`d_ff`): a shape, a count and a printed formula come from the same ones. No torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

Group = Literal["matrix", "embedding", "tied", "head", "vector"]  # of the optimizer: each has a rate of its own
Start = Literal[
    "zero",  # biases
    "one",  # scales of a norm
    "table",  # rows that are looked up
    "read",  # a projection out of the residual stream
    "query",  # the one of the queries, which begins smaller where scores are not divided by the root of the head's width
    "key",  # the one of the keys, which may begin like that of the queries
    "write",  # a projection into the residual stream
    "head",  # an output head of its own
]


@dataclass(frozen=True, kw_only=True)
class TensorPlan:
    """One learned tensor: its name inside the model or block, the part it counts under, its axes by name."""

    name: str
    part: str
    axes: tuple[str, ...]
    group: Group
    start: Start
    met: tuple[str, ...] = ()  # the axes of what one token is multiplied with, where that is not all of it

    def within(self, path: str) -> TensorPlan:
        """The same tensor of one block, whose path comes before its name."""
        return replace(self, name=path + self.name)


@dataclass(frozen=True, kw_only=True)
class CostLine:
    """Something that each token costs: a name, and the formula for one token and one place where the part stands."""

    name: str
    formula: str


@dataclass(frozen=True, kw_only=True)
class Activation:
    """A tensor on the way: its name, what it is, and its axes beside the batch.

    `new` positions are read, `all` are attended to, `last` are scored; `source` are read by an encoder, `asked` by
    a stream of queries.
    """

    name: str
    axes: tuple[str, ...]
    meaning: str

    def of_source(self) -> Activation:
        """The same tensor in an encoder, which reads the whole source at once."""
        return replace(self, axes=tuple("source" if axis in ("new", "all") else axis for axis in self.axes))

    def of_query(self) -> Activation:
        """The same tensor in a stream of queries, one for each place that is asked for."""
        return replace(self, axes=tuple("asked" if axis == "new" else axis for axis in self.axes))

    def within(self, path: str) -> Activation:
        """The same tensor of one block, whose path comes before its name."""
        return replace(self, name=path + self.name)


@dataclass(frozen=True, kw_only=True)
class Part:
    """Everything that is known of a part without building it."""

    tensors: tuple[TensorPlan, ...] = ()
    products: tuple[CostLine, ...] = ()  # FLOPs for one token; `seen` is how many positions it sees on average
    kept: tuple[CostLine, ...] = ()  # bytes for one token
    steps: tuple[Activation, ...] = ()

    def multiplications(self) -> Iterator[CostLine]:
        """What each token is multiplied with: the matrices, then the products beside them."""
        for tensor in self.tensors:
            if tensor.group == "matrix":
                yield CostLine(name=tensor.part, formula=" x ".join(tensor.met or tensor.axes))
        yield from self.products


STREAM = ("new", "d_model")


def matrix(name: str, part: str, d_out: str, d_in: str, *, bias: bool, start: Start = "read") -> tuple[TensorPlan, ...]:
    """A projection from `d_in` numbers to `d_out`.

    >>> [tensor.name for tensor in matrix("mlp.up", "mlp_up", "d_ff", "d_model", bias=True)]
    ['mlp.up.weight', 'mlp.up.bias']
    """
    weight = TensorPlan(name=f"{name}.weight", part=part, axes=(d_out, d_in), group="matrix", start=start)
    return (weight, vector(f"{name}.bias", part, d_out, start="zero")) if bias else (weight,)


def vector(name: str, part: str, axis: str, *, start: Start) -> TensorPlan:
    """A bias or a scale."""
    return TensorPlan(name=name, part=part, axes=(axis,), group="vector", start=start)
