"""Formulas that are printed and computed: each quantity of a plan is one written formula, which gives its value.

A `Term` is one line of a table: a name, the formula in words (`vocab_size x d_model`), the same formula with figures
(`50,257 x 12,288`) and the value. All three come from one string, so what is printed is what was computed. A `Breakdown`
is a list of such lines and their sum. The grammar is whole numbers, names, `+ - x /` and parentheses; it is *not* an
expression language: no functions, no powers, no fractions in the result.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction

from pellucid.counts import counted
from pellucid.errors import SettingsError
from pellucid.planning.config import ModelConfig
from pellucid.planning.parts.pooler import NUM_ANSWERS
from pellucid.planning.parts.position import Learned, Relative

OPERATIONS: Mapping[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
TIMES = re.compile(r"\bx\b")
NAME = re.compile(r"\b(?!x\b)[A-Za-z_]\w*")


@dataclass(frozen=True, kw_only=True)
class Term:
    """One line of a plan: its name, its formula and its value."""

    name: str
    formula: str
    figures: str
    value: int

    def to_dict(self) -> dict[str, object]:
        """The line for machines (`--json`)."""
        return {"name": self.name, "formula": self.formula, "figures": self.figures, "value": self.value}


@dataclass(frozen=True, kw_only=True)
class Breakdown:
    """Some lines in one unit, and their sum."""

    unit: str
    terms: tuple[Term, ...]

    @property
    def total(self) -> int:
        """The sum of all lines, in `unit`."""
        return sum(term.value for term in self.terms)

    def __getitem__(self, name: str) -> int:
        """The value of the line called `name`; KeyError when there is none."""
        for term in self.terms:
            if term.name == name:
                return term.value
        raise KeyError(name)

    def to_dict(self) -> dict[str, object]:
        """The account for machines (`--json`)."""
        return {"unit": self.unit, "total": self.total, "parts": [term.to_dict() for term in self.terms]}


def term(name: str, formula: str, symbols: Mapping[str, int]) -> Term:
    """A line computed from its formula.

    >>> term("token_embedding", "vocab_size x d_model", {"vocab_size": 50_257, "d_model": 12_288})
    Term(name='token_embedding', formula='vocab_size x d_model', figures='50,257 x 12,288', value=617558016)
    """
    figures = NAME.sub(lambda match: f"{symbols[match[0]]:,}", formula)
    return Term(name=name, formula=formula, figures=figures, value=evaluate(formula, symbols))


def evaluate(formula: str, symbols: Mapping[str, int]) -> int:
    """The value of a formula, exactly; ValueError when it is not whole or not in the grammar.

    >>> evaluate("2 x d x (n + 1) / 2", {"d": 8, "n": 4})
    40
    """
    tree = ast.parse(TIMES.sub("*", formula), mode="eval")
    value = _value(tree.body, symbols)
    if value.denominator != 1:
        raise ValueError(f"{formula!r} is not a whole number: {value}")
    return value.numerator


def _value(node: ast.expr, symbols: Mapping[str, int]) -> Fraction:
    match node:
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATIONS:
            return OPERATIONS[type(op)](_value(left, symbols), _value(right, symbols))
        case ast.Name(id=name):
            return Fraction(symbols[name])
        case ast.Constant(value=int(number)) if not isinstance(number, bool):
            return Fraction(number)
    raise ValueError(f"not in the grammar of formulas: {ast.unparse(node)}")


def sizes(config: ModelConfig, context_length: int | None = None) -> dict[str, int]:
    """The symbols that formulas use for a model's shape, for rows of `context_length` tokens (None: its whole context).

    Raises SettingsError for a row that is empty or longer than the model's context.
    """
    length = config.context_length if context_length is None else context_length
    if not 1 <= length <= config.context_length:
        raise SettingsError(
            "a row must have at least one token and fit the model's context",
            found=counted(length, "token"),
            where=f"context_length={config.context_length:,}",
            hint=f"give a number from 1 to {config.context_length:,}",
        )
    names = ("vocab_size", "n_layers", "n_heads", "n_kv_heads", "head_dim", "d_model", "d_ff", "d_attention", "d_kv")
    return {name: getattr(config, name) for name in names} | {"context_length": length, **_sizes_of_parts(config)}


def _sizes_of_parts(config: ModelConfig) -> dict[str, int]:
    """The symbols of parts that only some models have."""
    experts, found = config.feed_forward.experts, dict[str, int]()
    if isinstance(config.position, Learned):
        found["position_rows"] = config.context_length + config.position.first
    if isinstance(config.position, Relative):
        found["position_buckets"] = config.position.buckets
    if config.encoder is not None:
        found["n_encoder_layers"] = config.encoder.n_layers
    if config.streams is not None:
        found |= {"same_or_other": 2, "n_held": config.streams.memory or config.context_length}
    if config.embedding.segments:
        found["n_segments"] = config.embedding.segments
    if config.pooler is not None:
        found |= {"n_answers": NUM_ANSWERS, "n_labels": len(config.pooler.labels)}
    if experts is not None:
        found |= {"n_experts": experts.count, "n_active": experts.active, "d_expert": experts.width}
    return found
