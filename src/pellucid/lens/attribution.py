"""Attribution: how much each input token, and each part that writes to the residual stream, adds to a prediction.

    gradient x input       x · ∂f/∂x                  a linear approximation: exact where f is linear, rough elsewhere
    integrated gradients   (x - b) · ∫₀¹ ∂f/∂x(b + α(x - b)) dα        adds up to f(x) - f(b)
    contributions          f = Σ parts (what each adds to the last position's residual stream) · direction

`f` is a `Target`: log p of a token, or its lead over another. `x` are the embeddings of the text's tokens. The integral
is computed by Gauss-Legendre quadrature; its error against f(x) - f(b) is reported as the gap. For the contributions
(direct logit attribution) the divisor of the last norm is held constant, so the last layer is linear and the sum exact.
They do *not* say what a part would do if another were missing (see `interventions` for that).

Axes: B batch · T positions · D width · L layers · H query heads · K head width.
Source: Sundararajan et al. 2017 (integrated gradients); Shrikumar et al. 2016 (gradient x input); Elhage et al. 2021
(direct contributions to the logits).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from pellucid.errors import RequestError
from pellucid.lens.interventions import Target, afford, row
from pellucid.model.context import Context
from pellucid.model.decoder import Decoder
from pellucid.model.device import inference
from pellucid.model.norm import present
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


def gradient_x_input(model: Decoder, ids: Sequence[int], target: Target) -> Shares:
    """Gradient x input: each token's embedding times the gradient of the target there, summed over the width."""
    x_BTD = _embedding(model, ids)
    value_B, gradient_BTD = _gradient(model, x_BTD, ids, target)
    return Shares(scores_T=(x_BTD * gradient_BTD)[0].sum(-1), value=value_B.item())


def integrated_gradients(
    model: Decoder, ids: Sequence[int], target: Target, *, baseline: Baseline = "mean", steps: int = 64
) -> Shares:
    """Integrated gradients: the mean gradient on the line from a baseline to the embeddings, times their difference.

    `baseline` is a row for every position: the mean of the embedding table, or zeros. At zero a model that normalises
    its input is not smooth, so the integral is less exact there; the gap shows it.
    """
    if not 1 <= steps <= 512:
        raise RequestError("steps must lie between 1 and 512", found=str(steps), hint="64 is often enough")
    afford(model, 3 * steps * len(ids))  # backwards costs about twice the way forwards
    x_BTD = _embedding(model, ids)
    rest_BTD = (
        torch.zeros_like(x_BTD) if baseline == "zero" else model.embed.weight.detach().float().mean(0).expand_as(x_BTD)
    )
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
        _, gradient_BTD = _gradient(model, rest_BTD + alpha_B11 * (x_BTD - rest_BTD), ids, target)
        mean_BTD += (weight_B11 * gradient_BTD).sum(0, keepdim=True)
    scores_T = ((x_BTD - rest_BTD) * mean_BTD)[0].sum(-1)
    value, empty = (_value(model, x, ids, target) for x in (x_BTD, rest_BTD))
    return Shares(scores_T=scores_T, value=value, difference=value - empty, gap=value - empty - scores_T.sum().item())


def _embedding(model: Decoder, ids: Sequence[int]) -> Tensor:
    return model.embed.weight.detach()[row(model, ids)].float()


def _gradient(model: Decoder, x_BTD: Tensor, ids: Sequence[int], target: Target) -> tuple[Tensor, Tensor]:
    """The target of each row, [B], and its gradient at the embeddings, [B, T, D]."""
    with torch.enable_grad():
        x_BTD = x_BTD.detach().requires_grad_(True)
        value_B = _read(model, x_BTD, ids, target)
        (gradient_BTD,) = torch.autograd.grad(value_B.sum(), x_BTD)
    return value_B.detach(), gradient_BTD


def _value(model: Decoder, x_BTD: Tensor, ids: Sequence[int], target: Target) -> float:
    with torch.no_grad():
        return _read(model, x_BTD, ids, target).item()


def _read(model: Decoder, x_BTD: Tensor, ids: Sequence[int], target: Target) -> Tensor:
    """The target when these rows replace the embeddings of the text."""

    def embed(name: str, own_BTD: Tensor) -> Tensor:
        return x_BTD.to(own_BTD.dtype) if name == "embed" else own_BTD

    ids_BT = row(model, ids).expand(x_BTD.size(0), -1)
    return target.read(model(ids_BT, Context(tap=embed), last_only=True).logits_BTV[:, -1].float())


@dataclass(frozen=True, kw_only=True)
class Contributions:
    """What each part adds to the target's logit (or to its lead) at the last position, and the total."""

    parts: dict[str, float]  # "embed", "position", "blocks.0.attention", "blocks.0.mlp", …, "final_norm" (its bias)
    heads_LH: Tensor  # the attention parts again, by head (biases left out)
    total: float  # the logit itself, or the lead, as the model gave it

    @property
    def gap(self) -> float:
        """The total minus the sum of the parts: rounding errors only."""
        return self.total - sum(self.parts.values())


def contributions(model: Decoder, ids: Sequence[int], target: Target) -> Contributions:
    """Direct logit attribution: each sub-layer's output, projected through the last norm and the head on the target."""
    with inference():
        taps = record(model, row(model, ids), last_only=True)
    logits_V = taps["logits"][0, -1]
    head_VD = model.head_weight.detach()
    logit, direction_D = (_lead(x, target) for x in (logits_V, head_VD))
    stream_D = taps[f"blocks.{model.config.n_layers - 1}.output"][0, -1].double()
    through_D, constant = _through_norm(model, stream_D, direction_D)

    def seen(x_BTD: Tensor) -> float:
        return float(x_BTD[0, -1].double() @ through_D)

    embedded, placed = taps["embed"], taps["input"]
    parts = {"embed": seen(embedded), "position": seen(placed.double() - embedded.double())}
    heads = []
    for index, block in enumerate(model.blocks):
        parts[f"blocks.{index}.attention"] = seen(taps[f"blocks.{index}.attention.output"])
        parts[f"blocks.{index}.mlp"] = seen(taps[f"blocks.{index}.mlp.output"])
        read_N = block.attention.output.weight.detach().double().T @ through_D
        mix_BHTK = taps[f"blocks.{index}.attention.mix"]
        heads.append((mix_BHTK[0, :, -1].double() * read_N.view(model.config.n_heads, -1)).sum(-1))
    parts["final_norm"] = constant
    return Contributions(parts=parts, heads_LH=torch.stack(heads), total=float(logit))


def _lead(x_VN: Tensor, target: Target) -> Tensor:
    """A token's row, or the difference of the two tokens' rows."""
    row_N = x_VN[target.id].double()
    return row_N if target.against is None else row_N - x_VN[target.against].double()


def _through_norm(model: Decoder, stream_D: Tensor, direction_D: Tensor) -> tuple[Tensor, float]:
    """The direction to project the stream on when the norm's divisor is constant, and the share of the norm's bias."""
    norm, eps = present(model.final_norm), model.config.norm.eps
    scaled_D = norm.weight.detach().double() * direction_D
    if model.config.norm.kind == "rms":
        return scaled_D / (stream_D.square().mean() + eps).sqrt(), 0.0
    bias = getattr(norm, "bias", None)
    constant = 0.0 if bias is None else float(bias.detach().double() @ direction_D)
    # LayerNorm subtracts the mean first; subtracting it from the direction instead gives the same product.
    return (scaled_D - scaled_D.mean()) / (stream_D.var(unbiased=False) + eps).sqrt(), constant
