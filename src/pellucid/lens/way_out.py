"""The way out of the residual stream: from what a part writes at a place to the scores that the head gives there.

    norm                    x  ->  (x - mean) · weight / divisor       the divisor as it was in the pass
    layer before the head   x  ->  gates · (W x)                       gates = activation(z) / z, as they were
    soft cap                s  ->  bend · s                            bend = cap(s) / s, as it was

With these held every step is linear (a bias is counted for itself), so parts that add up to the stream add up to the score:
exactly. What a part would do if the pass were another is another question (`interventions`).

The way is walked from either end: `carry` takes what a part wrote to the scores of all tokens, `Walk` takes the head's row
of one token back past every part. Where norms stand behind the sums or the branches, it leads through those as well.

Axes: D width · N parts · V vocabulary. Computed in float64, the product with the whole table in float32.
Source: Elhage et al. 2021 (direct contributions to the logits, with the last norm's divisor held).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn

from pellucid.model.block import JOIN, Block
from pellucid.model.decoder import Decoder
from pellucid.model.head import Transform
from pellucid.model.norm import RmsNorm, present

Branch = Literal["attention", "cross", "mlp"]
ORDER: tuple[Branch, ...] = get_args(Branch)  # of the branches of a block
At: TypeAlias = "Callable[[str], Tensor]"  # the name of a tensor -> what the pass had there at the place, float64 [D]


@dataclass(frozen=True, kw_only=True, eq=False)
class NormStep:
    """A norm whose divisor is held."""

    weight_D: Tensor
    bias_D: Tensor | None
    divisor: float
    centred: bool  # the mean is subtracted first

    def forward(self, x_ND: Tensor) -> Tensor:
        x_ND = x_ND - x_ND.mean(-1, keepdim=True) if self.centred else x_ND
        return x_ND * self.weight_D / self.divisor

    def back(self, direction_D: Tensor) -> Tensor:
        """The direction before the norm: subtracting its mean gives the same product as subtracting that of `x`."""
        scaled_D = direction_D * self.weight_D / self.divisor
        return scaled_D - scaled_D.mean() if self.centred else scaled_D


@dataclass(frozen=True, kw_only=True, eq=False)
class GatedStep:
    """The product and the activation of the layer before the head, whose gates are held."""

    weight_DD: Tensor
    bias_D: Tensor | None  # times the gates
    gates_D: Tensor

    def forward(self, x_ND: Tensor) -> Tensor:
        return (x_ND @ self.weight_DD.T) * self.gates_D

    def back(self, direction_D: Tensor) -> Tensor:
        return (direction_D * self.gates_D) @ self.weight_DD


Step: TypeAlias = NormStep | GatedStep


class WayOut:
    """The way out at one place of one pass."""

    def __init__(self, model: Decoder, at: At) -> None:
        """`at`: what the pass had at that place, by the names of `planning.layout`."""
        self.model, self.at = model, at
        self.branches = [
            (layer, branch)
            for layer, block in enumerate(model.blocks)
            for branch in ORDER
            if branch != "cross" or block.cross is not None
        ]
        self.stream_D = at(f"blocks.{len(model.blocks) - 1}.output")
        self.last = norm_steps(model.final_norm, self.stream_D)  # behind the last block
        self.before_head = transform_steps(model, affine(self.last, self.stream_D))
        self.read_D = affine(self.before_head, affine(self.last, self.stream_D))  # what the head reads

    def carry(self, layer: int, branch: Branch, written_ND: Tensor) -> Tensor:
        """What parts of a branch's output add to the score of each token, [N, V] float32."""
        place = self.branches.index((layer, branch))
        joint = [step for one in self.branches[place:] for step in self.steps(*one)[1]]
        steps = [*self.steps(layer, branch)[0], *joint, *self.last, *self.before_head]
        read_ND = through(steps, written_ND.double())
        scores_NV = (read_ND * self.model.head.scale).float() @ self.model.head_weight.detach().float().cpu().T
        return scores_NV * self.bends_V

    def steps(self, layer: int, branch: Branch) -> tuple[list[Step], list[Step]]:
        """The steps that what a branch writes takes alone, and those that the whole stream takes behind its sum."""
        block, output = self.model.blocks[layer], f"blocks.{layer}.{branch}.output"
        norm = getattr(block, f"{branch}_output_norm")
        if block.join is JOIN["around"]:
            return norm_steps(norm, self.at(output)), []
        if block.join is JOIN["after"]:
            return [], norm_steps(norm, self.at(self._entered(block, layer, branch)) + self.at(output))
        return [], []

    def branch_size(self, layer: int, branch: Branch) -> float | None:
        """What the norm behind a branch divides what it wrote by; None where there is no such norm."""
        norms = [step for step in self.steps(layer, branch)[0] if isinstance(step, NormStep)]
        return norms[0].divisor if norms else None

    @property
    def size(self) -> float:
        """What the last norm on the way divides by; 1 where there is none."""
        steps = [*self.steps(*self.branches[-1])[1], *self.last, *self.before_head]
        return next((step.divisor for step in reversed(steps) if isinstance(step, NormStep)), 1.0)

    @cached_property
    def bends_V(self) -> Tensor:
        """What the soft cap multiplied each score with, float32 [V]; one 1 without a cap."""
        if isinstance(self.model.cap, nn.Identity):
            return torch.ones(1)
        weight_VD = self.model.head_weight.detach().float().cpu()
        return self.bends(weight_VD @ (self.read_D * self.model.head.scale).float(), slice(None)).float()

    def bends(self, products: Tensor, tokens: int | slice) -> Tensor:
        """The bends of some tokens, from the products of the head's rows with what it reads."""
        bias_V = self.model.head.bias
        scores = products if bias_V is None else products + bias_V.detach()[tokens].to(products)
        bent = self.model.cap(scores)
        return torch.where(scores == 0, torch.ones_like(scores), bent / scores)

    def row(self, token: int) -> tuple[Tensor, float]:
        """The direction on which what the head reads is projected for a token's score, and the share of the head's bias."""
        row_D = self.model.head_weight.detach()[token].double().cpu() * self.model.head.scale
        bend = self.bends(row_D @ self.read_D, token)
        bias_V = self.model.head.bias
        return row_D * bend, 0.0 if bias_V is None else float(bias_V.detach()[token].double() * bend)

    def _entered(self, block: Block, layer: int, branch: Branch) -> str:
        """The name of the stream that a branch is added to."""
        if branch == "attention":
            return "input" if layer == 0 else f"blocks.{layer - 1}.output"
        return f"blocks.{layer}.{'looked' if branch == 'mlp' and block.cross is not None else 'middle'}"


class Walk:
    """A walk back from the head's direction; what the biases on the way add is counted for itself."""

    def __init__(self, direction_D: Tensor) -> None:
        self.direction_D, self.biases = direction_D, 0.0

    def back(self, steps: Sequence[Step]) -> float:
        """Past some steps, the last first; what their biases add."""
        added = 0.0
        for step in reversed(steps):
            added += 0.0 if step.bias_D is None else float(step.bias_D @ self.direction_D)
            self.direction_D = step.back(self.direction_D)
        return added

    def aside(self) -> Walk:
        """A walk of its own from here."""
        return Walk(self.direction_D)


def norm_steps(norm: nn.Module, entered_D: Tensor) -> list[Step]:
    """The step that a norm is, by what entered it; none where there is no norm."""
    if isinstance(norm, nn.Identity):
        return []
    found = present(norm)
    centred = not isinstance(found, RmsNorm)
    weight = found.scale() if isinstance(found, RmsNorm) else found.weight
    bias = None if isinstance(found, RmsNorm) or found.bias is None else _numbers(found.bias)
    spread_D = entered_D - entered_D.mean() if centred else entered_D
    divisor = float((spread_D.square().mean() + found.eps).sqrt())
    return [NormStep(weight_D=_numbers(weight), bias_D=bias, divisor=divisor, centred=centred)]


def transform_steps(model: Decoder, entered_D: Tensor) -> list[Step]:
    """The steps of the layer before the head; none where there is no such layer."""
    layer = model.transform
    if not isinstance(layer, Transform):
        return []
    weight_DD, bias = _numbers(layer.dense.weight), layer.dense.bias
    before_D = weight_DD @ entered_D + (0.0 if bias is None else _numbers(bias))
    after_D = layer.activation(before_D)
    gates_D = torch.where(before_D == 0, torch.zeros_like(before_D), after_D / before_D)
    gated = GatedStep(weight_DD=weight_DD, gates_D=gates_D, bias_D=None if bias is None else _numbers(bias) * gates_D)
    return [gated, *norm_steps(layer.norm, after_D)]


def through(steps: Sequence[Step], x_ND: Tensor) -> Tensor:
    """Parts past some steps, without the biases: those are nobody's."""
    for step in steps:
        x_ND = step.forward(x_ND)
    return x_ND


def affine(steps: Sequence[Step], x_D: Tensor) -> Tensor:
    """The whole stream past some steps, with the biases."""
    for step in steps:
        x_D = step.forward(x_D) + (0.0 if step.bias_D is None else step.bias_D)
    return x_D


def _numbers(parameter: Tensor) -> Tensor:
    return parameter.detach().double().cpu()
