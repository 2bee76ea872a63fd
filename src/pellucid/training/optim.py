"""The optimizers: Muon for the matrices inside the blocks, AdamW for everything else.

AdamW scales every coordinate by its own history:

    m = β1 m + (1-β1) g      v = β2 v + (1-β2) g²      w -= rate · m̂ / (√v̂ + ε)

Muon works on a whole matrix: it makes all directions of the (momentum of the) gradient equally strong. A few steps of a
polynomial iteration push every singular value towards one:

    X = G / ‖G‖      five times: A = X Xᵀ;  X = a X + (b A + c A²) X      w -= rate · √max(1, rows/columns) · X

Matrices of one shape are updated as one stack. A parameter with more axes (experts E x D x F) is a stack itself, and
each of its matrices is updated on its own. Weight decay is decoupled, and cautious: it shrinks a weight only where the
update shrinks it too.

Source: Loshchilov & Hutter 2019 (AdamW, alg. 2); Jordan et al. 2024 (Muon); Liang et al. 2024 (cautious).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from pellucid.planning.flops import NEWTON_SCHULZ_STEPS
from pellucid.planning.parts.description import Group
from pellucid.training.arena import Arena, Stack
from pellucid.training.settings import OptimizerSettings

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # Jordan 2024: steepest slope at zero that still lands near one


@dataclass(frozen=True, kw_only=True)
class Views:
    """Parameters of one group and shape, their gradients and their optimizer state: views of flat blocks."""

    group: Group
    gradient: Tensor
    weight: Tensor
    first: Tensor  # Muon's momentum, AdamW's m
    second: Tensor | None  # AdamW's v; None where Muon needs none
    shares: Tensor | None  # of the rate, for each parameter; None where each learns by the whole


class Optimizer:
    """Updates an arena's master weights from its gradient sums; the optimizer state is in flat blocks too.

    `shares` names the parameters that learn by a share of their group's rate (`planning.layout.rate_shares`).
    """

    def __init__(
        self, arena: Arena, settings: OptimizerSettings, shares: Mapping[str, float] = MappingProxyType({})
    ) -> None:
        self.arena, self.settings, self.shares = arena, settings, shares
        self.updates = 0
        self.first = torch.zeros_like(arena.master)  # Muon's momentum, AdamW's m
        size = arena.matrix_start if settings.matrices == "muon" else len(arena.master)
        self.second = torch.zeros_like(arena.master[:size])  # AdamW's v; Muon has none
        self.views = tuple(self._views(stack) for stack in arena.stacks)

    def _views(self, stack: Stack) -> Views:
        return Views(
            group=stack.group,
            gradient=stack.view(self.arena.sums),
            weight=stack.view(self.arena.master),
            first=stack.view(self.first),
            second=stack.view(self.second) if stack.stop <= len(self.second) else None,
            shares=self._shares(stack) if self.shares.keys() & set(stack.names) else None,
        )

    def _shares(self, stack: Stack) -> Tensor:
        shares = torch.tensor([self.shares.get(name, 1.0) for name in stack.names], device=self.arena.device)
        return shares.view(-1, *[1] * len(stack.shape))

    @torch.no_grad()
    def step(self, rate_share: float) -> None:
        """Do one update; each group's learning rate is multiplied by `rate_share`, the schedule's value here."""
        self.updates += 1
        self._clip()
        for views in self.views:
            update = self._muon(views) if views.second is None else self._adamw(views, views.second)
            if views.group == "matrix":
                self._decay(views.weight, update, rate_share)
            step = update if views.shares is None else update * views.shares
            views.weight.sub_(step, alpha=self.rate(views.group) * rate_share)
        self.arena.publish()

    def rate(self, group: Group) -> float:
        """The full learning rate of a group, before the schedule."""
        return getattr(self.settings, f"{self.settings.matrices if group == 'matrix' else group}_rate")

    def _clip(self) -> None:
        if self.settings.clip_norm is not None:
            norm = torch.linalg.vector_norm(self.arena.sums)
            self.arena.sums.mul_((self.settings.clip_norm / (norm + 1e-6)).clamp(max=1.0))

    def _muon(self, views: Views) -> Tensor:
        beta, weight = self.settings.momentum, views.weight
        momentum = views.first.lerp_(views.gradient, 1 - beta)
        rows, columns = weight.shape[-2:]
        nesterov = views.gradient.lerp(momentum, beta)
        # In the format that the model computes in: bf16 is enough, and slow where the processor cannot multiply it.
        return orthogonalize(nesterov.to(self.arena.weights.dtype)).to(weight.dtype) * max(1.0, rows / columns) ** 0.5

    def _adamw(self, views: Views, second: Tensor) -> Tensor:
        beta1, beta2 = self.settings.beta1, self.settings.beta2
        m = views.first.lerp_(views.gradient, 1 - beta1)
        v = second.mul_(beta2).addcmul_(views.gradient, views.gradient, value=1 - beta2)
        scale = (v / (1 - beta2**self.updates)).sqrt_().add_(self.settings.epsilon)
        return m.div(scale).div_(1 - beta1**self.updates)

    def _decay(self, weight: Tensor, update: Tensor, rate_share: float) -> None:
        if self.settings.weight_decay:
            agrees = (update * weight) > 0
            weight.sub_(weight * agrees, alpha=self.settings.weight_decay * self.rate("matrix") * rate_share)

    def tensors(self) -> dict[str, Tensor]:
        """The optimizer state that a resume needs, by parameter name."""
        named = {f"first.{name}": view for name, view in self.arena.named(self.first)}
        return named | {f"second.{name}": view for name, view in self.arena.named(self.second)}

    def load(self, tensors: Mapping[str, Tensor], updates: int) -> None:
        """Restore a saved optimizer state."""
        for prefix, flat in (("first.", self.first), ("second.", self.second)):
            self.arena.load(
                flat, {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
            )
        self.updates = updates


def orthogonalize(stack: Tensor) -> Tensor:
    """Push all singular values of each matrix [..., rows, columns] towards one, in the number format given.

    >>> values = torch.linalg.svdvals(orthogonalize(torch.randn(1, 8, 8, generator=torch.Generator().manual_seed(0))).float())
    >>> bool(((values > 0.5) & (values < 1.5)).all())
    True
    """
    a, b, c = NEWTON_SCHULZ
    tall = stack.size(-2) > stack.size(-1)
    x = (stack.mT if tall else stack).flatten(0, -3)
    x = x / (torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = torch.bmm(x, x.mT)
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).view(stack.shape)
