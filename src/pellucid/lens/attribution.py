"""Attribution: how much each input token, and each part that writes to the residual stream, adds to a prediction.

    gradient x input       x · ∂f/∂x                  a linear approximation: exact where f is linear, rough elsewhere
    integrated gradients   (x - b) · ∫₀¹ ∂f/∂x(b + α(x - b)) dα        adds up to f(x) - f(b)
    contributions          f = Σ parts (what each adds to the last position's residual stream) · direction

`f` is a `Target`: log p of a token, or its lead over another. `x` are the embeddings of the text's tokens. The integral
is computed by Gauss-Legendre quadrature; its error against f(x) - f(b) is reported as the gap. (It is large
where a token goes to other experts along the line: there f leaps.) For the contributions (direct logit attribution) all that
bends the way out is held as it was (`way_out`), so the way is linear and the sum exact. Contributions do *not* say what a part
would do if another were missing (see `interventions` for that).

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
from torch import Tensor

from pellucid.errors import RequestError
from pellucid.lens.interventions import Target, afford, asked_of, row
from pellucid.lens.way_out import Walk, WayOut, norm_steps
from pellucid.model.context import Context
from pellucid.model.decoder import Decoder
from pellucid.model.device import inference
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

    # "embed", "position", "blocks.0.attention", "blocks.0.mlp", …; then biases alone: "final_norm", "transform", "head"
    parts: dict[str, float]
    heads_LH: Tensor  # the attention parts again, by head (biases left out)
    total: float  # the logit itself, or the lead, as the model gave it

    @property
    def gap(self) -> float:
        """The total minus the sum of the parts: rounding errors only."""
        return self.total - sum(self.parts.values())


def contributions(model: Decoder, ids: Sequence[int], target: Target, *, reads: Model | None = None) -> Contributions:
    """Direct logit attribution: each sub-layer's output on its way to the target's score (`way_out`).

    `reads` is the model as it is asked, as above.
    """
    asked = reads or model
    with inference():
        taps = record(asked, row(model, ids), last_only=True)
        hidden = asked_of(asked)
        place = len(ids) - 1 if hidden is None else hidden
        way = WayOut(model, lambda name: taps[name][0, place].double().cpu())
        parts, heads_LH = _parts(way, taps, place, *_direction(way, target))
    logits_V = taps["logits"][0, -1 if hidden is None else hidden].double()
    total = logits_V[target.id] - (0.0 if target.against is None else logits_V[target.against])
    return Contributions(parts=parts, heads_LH=heads_LH, total=float(total))


def _direction(way: WayOut, target: Target) -> tuple[Tensor, float]:
    """What the stream is projected on before the head, and the share of the head's bias: of a token, or of its lead."""
    row_D, bias = way.row(target.id)
    if target.against is None:
        return row_D, bias
    other_D, other_bias = way.row(target.against)
    return row_D - other_D, bias - other_bias


def _parts(
    way: WayOut, taps: Mapping[str, Tensor], place: int, direction_D: Tensor, bias: float
) -> tuple[dict[str, float], Tensor]:
    """What each part adds, in the order of computation, and each head of a layer's own attention, [L, H]."""
    model, walk = way.model, Walk(direction_D)
    transform = walk.back(way.before_head)
    norms = walk.back(way.last)
    found: list[tuple[str, float]] = []
    heads: list[Tensor] = []
    for layer, branch in reversed(way.branches):
        path = f"blocks.{layer}.{branch}"
        own, joint = way.steps(layer, branch)
        norms += walk.back(joint)
        aside = walk.aside()
        biases = aside.back(own)
        found.append((path, float(way.at(f"{path}.output") @ aside.direction_D) + biases))
        if branch == "attention":
            mix_HK = taps[f"{path}.mix"][0, :, place].double().cpu()
            read_N = model.blocks[layer].attention.output.weight.detach().double().cpu().T @ aside.direction_D
            heads.append((mix_HK * read_N.view(len(mix_HK), -1)).sum(-1))
    added = [name for name in ("embed", "position", "segment") if name in taps]  # before the first block
    norms += walk.back(norm_steps(model.embed_norm, torch.stack([way.at(name) for name in added]).sum(0)))
    found += [(name, float(way.at(name) @ walk.direction_D)) for name in reversed(added)]
    parts = {"embed": 0.0, "position": 0.0, **dict(reversed(found)), "final_norm": norms}
    parts |= {"transform": transform} if way.before_head else {}
    parts |= {"head": bias} if model.head.bias is not None else {}
    return parts, torch.stack(heads[::-1])
