"""A mixture of experts (MoE): many feed-forwards, of which a router picks a few for each token.

    shares = softmax(router(x))                         one number for every expert
    chosen = the `active` experts with the largest      (their shares may be divided by their sum)
    y = Σ share · expert(x)                             over the chosen

A token meets only its chosen experts: the model holds many weights and computes with few. No token is dropped and none
waits: an expert takes all that are sent to it. Left alone, a router sends everything to the few experts that are best at
first; `balance` is the loss that keeps all in use.

Axes: B batch · T positions · N = B x T tokens · D width · E experts · A experts that a token is sent to · F expert width.
Source: Shazeer et al. 2017 §2 (the router); Fedus et al. 2022 eq. 4-6 (the loss); Jiang et al. 2024 (Mixtral).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pellucid.model.feed_forward import build_activation
from pellucid.model.tap import Tap
from pellucid.planning.config import ModelConfig
from pellucid.planning.parts.feed_forward import Experts


class Mixture(nn.Module):
    """A router and its experts, whose matrices lie stacked: `up` is [E, F, D]."""

    def __init__(self, config: ModelConfig, axes: Experts) -> None:
        super().__init__()
        wide = (axes.count, axes.width, config.d_model)
        self.num_active, self.normalised = axes.active, axes.normalised
        self.router = nn.Linear(config.d_model, axes.count, bias=False)
        self.register_parameter("gate", nn.Parameter(torch.empty(wide)) if config.feed_forward.gated else None)
        self.up = nn.Parameter(torch.empty(wide))
        self.down = nn.Parameter(torch.empty(axes.count, config.d_model, axes.width))
        self.activation = build_activation(config.feed_forward.kind)

    gate: Tensor | None

    def forward(self, x_BTD: Tensor, tap: Tap) -> Tensor:
        at_least_float32 = torch.promote_types(x_BTD.dtype, torch.float32)
        shares_BTE = tap("router", self.router(x_BTD).softmax(-1, dtype=at_least_float32))
        shares_BTA, chosen_BTA = shares_BTE.topk(self.num_active, dim=-1)
        if self.normalised:
            shares_BTA = shares_BTA / shares_BTA.sum(-1, keepdim=True)
        chosen_BTA, shares_BTA = tap("chosen", chosen_BTA), tap("shares", shares_BTA.to(x_BTD.dtype))
        return tap("output", self.mix(x_BTD, chosen_BTA, shares_BTA))

    def mix(self, x_BTD: Tensor, chosen_BTA: Tensor, shares_BTA: Tensor) -> Tensor:
        """The sum of what the chosen experts make of each token: sorted by expert, each takes all of its tokens at once."""
        (count, num_active), D = (chosen_BTA.numel(), self.num_active), x_BTD.size(-1)
        chosen_C = chosen_BTA.flatten()
        order_C = chosen_C.argsort(stable=True)
        sent_CD = x_BTD.flatten(0, 1).index_select(0, order_C // num_active)
        num_sent = chosen_C.bincount(minlength=self.up.size(0)).tolist()
        made_CD = torch.cat(
            [expert(x_MD) for expert, x_MD in zip(self.experts(), sent_CD.split(num_sent), strict=True)]
        )
        made_CD = x_BTD.new_zeros(count, D).index_copy(0, order_C, made_CD)
        return (made_CD.view(-1, num_active, D) * shares_BTA.flatten(0, 1)[:, :, None]).sum(1).view_as(x_BTD)

    def experts(self) -> Iterator[Callable[[Tensor], Tensor]]:
        """Every expert alone: what it makes of some tokens."""
        gates = [None] * self.up.size(0) if self.gate is None else self.gate.unbind()
        for gate_FD, up_FD, down_DF in zip(gates, self.up.unbind(), self.down.unbind(), strict=True):
            yield partial(self._make, gate_FD, up_FD, down_DF)

    def _make(self, gate_FD: Tensor | None, up_FD: Tensor, down_DF: Tensor, x_MD: Tensor) -> Tensor:
        up_MF = F.linear(x_MD, up_FD)
        hidden_MF = self.activation(up_MF) if gate_FD is None else self.activation(F.linear(x_MD, gate_FD)) * up_MF
        return F.linear(hidden_MF, down_DF)


class Routing:
    """A tap that keeps what the routers of a pass decided, with its gradient."""

    def __init__(self) -> None:
        self.shares: list[Tensor] = []
        self.chosen: list[Tensor] = []

    def __call__(self, name: str, x: Tensor) -> Tensor:
        if name.endswith(".mlp.router"):
            self.shares.append(x)
        if name.endswith(".mlp.chosen"):
            self.chosen.append(x)
        return x

    def balance(self, real_BT: Tensor) -> Tensor:
        """How unevenly the experts of all blocks were used by the real tokens."""
        return balance(self.shares, self.chosen, real_BT)

    def counts_LE(self, real_BT: Tensor) -> Tensor:
        """How many real tokens each expert of each block was sent."""
        num_experts = self.shares[0].size(-1)
        sent_LBTE = torch.stack([F.one_hot(chosen_BTA, num_experts).sum(-2) for chosen_BTA in self.chosen])
        return (sent_LBTE * real_BT[..., None]).sum((1, 2))


def balance(router_BTE: Sequence[Tensor], chosen_BTA: Sequence[Tensor], real_BT: Tensor) -> Tensor:
    """How unevenly the experts of all blocks are used: 1 x `active` when evenly, up to `experts` x `active`.

    E · Σ (share of tokens sent to the expert) · (mean share that the router gave it), over tokens of all blocks.
    Only tokens that are `real` count: what fills up a batch is sent somewhere too, and says nothing about the text.

    >>> even, chosen = torch.full((1, 3, 2), 0.5), torch.tensor([[[0], [1], [1]]])
    >>> balance([even], [chosen], torch.tensor([[True, True, False]])).item()
    1.0
    """
    shares_NE = torch.cat([one.flatten(0, 1) for one in router_BTE])
    chosen_NA = torch.cat([one.flatten(0, 1) for one in chosen_BTA])
    num_experts = shares_NE.size(-1)
    # Counted by weights of 0 and 1, not picked out: how many are real may change no shape in a compiled step.
    real_N1 = torch.cat([real_BT.flatten()] * len(router_BTE)).to(shares_NE.dtype)[:, None]
    sent_NE = F.one_hot(chosen_NA, num_experts).sum(1).to(shares_NE.dtype)
    sent_E, wanted_E = ((one_NE * real_N1).sum(0) / real_N1.sum().clamp(min=1) for one_NE in (sent_NE, shares_NE))
    return num_experts * (sent_E * wanted_E).sum()
