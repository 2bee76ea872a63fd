"""Attribution: how much each input token, and each part that writes to the residual stream, adds to a prediction.

    gradient x input       x · ∂f/∂x                  a linear approximation: exact where f is linear, rough elsewhere
    integrated gradients   (x - b) · ∫₀¹ ∂f/∂x(b + α(x - b)) dα        adds up to f(x) - f(b)
    contributions          f = Σ parts (what each adds to the last position's residual stream) · direction

`f` is a `Target`: log p of a token, or its lead over another. `x` are the embeddings of the text's tokens. The integral
is computed by Gauss-Legendre quadrature; its error against f(x) - f(b) is reported as the gap. (It is large
where a token goes to other experts along the line: there f leaps.) For the contributions
(direct logit attribution) the divisors of the norms on the way are held constant, so the way is linear and the sum exact.
Mostly there is one norm on it, behind the last block. Where norms stand behind branches, or behind the sums, the way from a
part to the head leads through those as well. Contributions do *not* say what a part would do if another were missing (see `interventions` for that).

Axes: B batch · T positions · D width · L layers · H query heads · K head width.
Source: Sundararajan et al. 2017 (integrated gradients); Shrikumar et al. 2016 (gradient x input); Elhage et al. 2021
(direct contributions to the logits).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from pellucid.errors import RequestError
from pellucid.lens.interventions import Target, afford, asked_of, row
from pellucid.model.attention import Attention
from pellucid.model.block import JOIN, Block
from pellucid.model.context import Context
from pellucid.model.decoder import Decoder
from pellucid.model.device import inference
from pellucid.model.norm import RmsNorm, present
from pellucid.model.protocol import Model
from pellucid.model.recording import record

Baseline = Literal["mean", "zero"]
ROWS_AT_ONCE = 2048  # positions that one backward pass holds


@dataclass(frozen=True, kw_only=True)
class Shares:
    """The contribution of each token to the prediction, in nats; `gap` is `difference` minus their sum."""

    scores_T: Tensor
    value: float  # f(x)
    difference: float | None = None  # f(x) - f(baseline), where there is a baseline
    gap: float | None = None


def gradient_x_input(model: Decoder, ids: Sequence[int], target: Target, *, reads: Model | None = None) -> Shares:
    """Gradient x input: each token's embedding times the gradient of the target there, summed over the width.

    `reads` is the model as it is asked (`reader`), where it reads a source or predicts another place than the last.
    """
    x_BTD = _embedding(model, ids)
    value_B, gradient_BTD = _gradient(reads or model, x_BTD, ids, target)
    return Shares(scores_T=(x_BTD * gradient_BTD)[0].sum(-1), value=value_B.item())


def integrated_gradients(
    model: Decoder,
    ids: Sequence[int],
    target: Target,
    *,
    baseline: Baseline = "mean",
    steps: int = 64,
    reads: Model | None = None,
) -> Shares:
    """Integrated gradients: the mean gradient on the line from a baseline to the embeddings, times their difference.

    `reads` is the model as it is asked, as above. `baseline` is a row for every position: the mean of the embedding table, or zeros. At zero a model that normalises
    its input is not smooth, so the integral is less exact there; the gap shows it.
    """
    if not 1 <= steps <= 512:
        raise RequestError("steps must lie between 1 and 512", found=str(steps), hint="64 is often enough")
    afford(model, 3 * steps * len(ids))  # backwards costs about twice the way forwards
    x_BTD, asked = _embedding(model, ids), reads or model
    mean_D = model.embed.weight.detach().float().mean(0) * model.embed_scale
    rest_BTD = torch.zeros_like(x_BTD) if baseline == "zero" else mean_D.expand_as(x_BTD)
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    mean_BTD = torch.zeros_like(x_BTD)
    chunk = max(1, ROWS_AT_ONCE // len(ids))
    for start in range(0, steps, chunk):
        alpha_B11 = torch.tensor((nodes[start : start + chunk] + 1) / 2, dtype=torch.float32, device=x_BTD.device)[
            :, None, None
        ]
        weight_B11 = torch.tensor(weights[start : start + chunk] / 2, dtype=torch.float32, device=x_BTD.device)[
            :, None, None
        ]
        _, gradient_BTD = _gradient(asked, rest_BTD + alpha_B11 * (x_BTD - rest_BTD), ids, target)
        mean_BTD += (weight_B11 * gradient_BTD).sum(0, keepdim=True)
    scores_T = ((x_BTD - rest_BTD) * mean_BTD)[0].sum(-1)
    value, empty = (_value(asked, x, ids, target) for x in (x_BTD, rest_BTD))
    return Shares(scores_T=scores_T, value=value, difference=value - empty, gap=value - empty - scores_T.sum().item())


def _embedding(model: Decoder, ids: Sequence[int]) -> Tensor:
    return model.embed.weight.detach()[row(model, ids)].float() * model.embed_scale


def _gradient(model: Model, x_BTD: Tensor, ids: Sequence[int], target: Target) -> tuple[Tensor, Tensor]:
    """The target of each row, [B], and its gradient at the embeddings, [B, T, D]."""
    with torch.enable_grad():
        x_BTD = x_BTD.detach().requires_grad_(True)
        value_B = _read(model, x_BTD, ids, target)
        (gradient_BTD,) = torch.autograd.grad(value_B.sum(), x_BTD)
    return value_B.detach(), gradient_BTD


def _value(model: Model, x_BTD: Tensor, ids: Sequence[int], target: Target) -> float:
    with torch.no_grad():
        return _read(model, x_BTD, ids, target).item()


def _read(model: Model, x_BTD: Tensor, ids: Sequence[int], target: Target) -> Tensor:
    """The target when these rows replace the embeddings of the text."""

    def embed(name: str, own_BTD: Tensor) -> Tensor:
        return x_BTD.to(own_BTD.dtype) if name == "embed" else own_BTD

    ids_BT = row(model, ids).expand(x_BTD.size(0), -1)
    return target.read(model(ids_BT, Context(tap=embed), last_only=True).logits_BTV[:, -1].float())


@dataclass(frozen=True, kw_only=True)
class Contributions:
    """What each part adds to the target's logit (or to its lead) at the last position, and the total."""

    parts: dict[str, float]  # "embed", "position", "blocks.0.attention", "blocks.0.mlp", …, "final_norm" (biases)
    heads_LH: Tensor  # the attention parts again, by head (biases left out)
    total: float  # the logit itself, or the lead, as the model gave it

    @property
    def gap(self) -> float:
        """The total minus the sum of the parts: rounding errors only."""
        return self.total - sum(self.parts.values())


def contributions(model: Decoder, ids: Sequence[int], target: Target, *, reads: Model | None = None) -> Contributions:
    """Direct logit attribution: each sub-layer's output, through the norms on its way and the head, on the target.

    `reads` is the model as it is asked, as above. The model has no layer before its head and no soft cap (`shows.SUMS`).
    """
    asked = reads or model
    with inference():
        taps = record(asked, row(model, ids), last_only=True)
    hidden = asked_of(asked)
    place = len(ids) - 1 if hidden is None else hidden
    logits_V = taps["logits"][0, -1 if hidden is None else hidden]
    way = Way(taps, place, _lead(model.head_weight.detach(), target) * model.head.scale)
    parts, heads = way.back(model)
    if model.head.bias is not None:
        parts["head"] = float(_lead(model.head.bias.detach(), target))
    return Contributions(parts=parts, heads_LH=heads, total=float(_lead(logits_V, target)))


class Way:
    """The way from the head back to the parts: the direction on which what stands at a place of the way is projected.

    Every norm that is passed turns the direction; what its bias adds is counted for itself.
    """

    def __init__(self, taps: Mapping[str, Tensor], place: int, direction_D: Tensor) -> None:
        """`direction_D`: the head's row of the target, float64."""
        self.taps, self.place, self.direction_D, self.constant = taps, place, direction_D, 0.0

    def back(self, model: Decoder) -> tuple[dict[str, float], Tensor]:
        """What each part adds, in the order of computation, and each head of a layer's own attention, [L, H]."""
        last = len(model.blocks) - 1
        self._pass(model.final_norm, self._at(f"blocks.{last}.output"))
        found: list[tuple[str, float]] = []
        heads = []
        for layer in range(last, -1, -1):
            block, path = model.blocks[layer], f"blocks.{layer}"
            found.append((f"{path}.mlp", self._branch(block, path, "mlp")))
            if block.cross is not None:
                found.append((f"{path}.cross", self._branch(block, path, "cross")))
            found.append((f"{path}.attention", self._branch(block, path, "attention")))
            heads.append(self._heads(block.attention, path))
        self._pass(model.embed_norm, torch.stack([*map(self._at, self._added())]).sum(0))
        found += [(name, self._seen(name)) for name in reversed(self._added())]
        parts = {"embed": 0.0, "position": 0.0, **dict(reversed(found)), "final_norm": self.constant}
        return parts, torch.stack(heads[::-1])

    def _added(self) -> list[str]:
        """What is added up before the first block."""
        return [name for name in ("embed", "position", "segment") if name in self.taps]

    def _branch(self, block: Block, path: str, name: str) -> float:
        """What one branch adds; afterwards the way has passed its sum."""
        before = {"attention": None, "cross": "middle", "mlp": "middle" if block.cross is None else "looked"}[name]
        norm = getattr(block, f"{name}_output_norm")
        output = f"{path}.{name}.output"
        self.through_D = self.direction_D
        if block.join is JOIN["after"]:
            entered_D = self._at(f"{path}.{before}") if before else self._input(path)
            self._pass(norm, entered_D + self._at(output))
            self.through_D = self.direction_D
        elif block.join is JOIN["around"]:
            self.through_D, constant = through_norm(norm, self._at(output), self.direction_D)
            return float(self._at(output) @ self.through_D) + constant
        return float(self._at(output) @ self.through_D)

    def _heads(self, attention: Attention, path: str) -> Tensor:
        """What the heads add, each for itself, on the way that the branch has just taken; biases are left out."""
        read_N = attention.output.weight.detach().double().T @ self.through_D
        mix_HK = self.taps[f"{path}.attention.mix"][0, :, self.place].double()
        return (mix_HK * read_N.view(len(mix_HK), -1)).sum(-1)

    def _input(self, path: str) -> Tensor:
        layer = int(path.rpartition(".")[2])
        return self._at("input" if layer == 0 else f"blocks.{layer - 1}.output")

    def _pass(self, norm: nn.Module, entered_D: Tensor) -> None:
        if not isinstance(norm, nn.Identity):
            self.direction_D, constant = through_norm(norm, entered_D, self.direction_D)
            self.constant += constant

    def _seen(self, name: str) -> float:
        return float(self._at(name) @ self.direction_D)

    def _at(self, name: str) -> Tensor:
        return self.taps[name][0, self.place].double()


def _lead(x_VN: Tensor, target: Target) -> Tensor:
    """A token's row, or the difference of the two tokens' rows."""
    row_N = x_VN[target.id].double()
    return row_N if target.against is None else row_N - x_VN[target.against].double()


def through_norm(norm: nn.Module, entered_D: Tensor, direction_D: Tensor) -> tuple[Tensor, float]:
    """The direction to project on before a norm, when its divisor is constant, and the share of the norm's bias."""
    found = present(norm)
    if isinstance(found, RmsNorm):
        scaled_D = found.scale().detach().double() * direction_D
        return scaled_D / (entered_D.square().mean() + found.eps).sqrt(), 0.0
    scaled_D = found.weight.detach().double() * direction_D
    constant = 0.0 if found.bias is None else float(found.bias.detach().double() @ direction_D)
    # LayerNorm subtracts the mean first; subtracting it from the direction instead gives the same product.
    return (scaled_D - scaled_D.mean()) / (entered_D.var(unbiased=False) + found.eps).sqrt(), constant
