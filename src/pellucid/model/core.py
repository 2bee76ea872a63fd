"""The heart of attention: each position gathers the values of the positions whose keys match its query.

    weights = softmax(q · kᵀ / √K + bias)        y = weights · v

`bias` is 0 where a position may look and -∞ where it may not (`causal`: at later positions). Three cores compute the same:

    ExplicitCore  one line per symbol; its `scores` and `weights` are modules, so that a recording can read them
    BatchedCore   two batched products: the fastest for contexts of a few hundred tokens on a CPU
    SdpaCore      torch's fused kernel: never stores the T x S weights, so long contexts fit

Query heads may outnumber key/value heads (grouped heads): R = H / G query heads share each.

Axes: B batch · H query heads · G key/value heads · R = H/G · T new positions · S all positions · K head width.
Source: Vaswani et al. 2017 eq. 1; Ainslie et al. 2023 (grouped heads).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pellucid.planning.memory import BATCHED_CONTEXT_LIMIT


def causal_bias(
    num_new: int, num_all: int, device: torch.device, dtype: torch.dtype, window: int | None = None
) -> Tensor:
    """-∞ above the diagonal: the new positions are the last `num_new` of `num_all`, and none sees a later one.

    With a `window` none sees further back than that many positions, its own the last of them.

    >>> causal_bias(2, 3, torch.device("cpu"), torch.float32)
    tensor([[0., 0., -inf],
            [0., 0., 0.]])
    """
    bias_TS = torch.full((num_new, num_all), -math.inf, device=device, dtype=dtype)
    later_TS = bias_TS.triu(num_all - num_new + 1)
    return later_TS if window is None else later_TS + bias_TS.tril(num_all - num_new - window)


class ExplicitCore(nn.Module):
    """The readable one, and the instrument through which scores and weights are seen.

    >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])[None, None]
    >>> ExplicitCore()(x, x, x, causal=False)[0, 0].round(decimals=3).tolist()[2]
    [0.7519999742507935, 0.7519999742507935]
    """

    def __init__(self, *, dropout: float = 0.0, window: int | None = None) -> None:
        super().__init__()
        self.window = window
        self.scores, self.weights = nn.Identity(), nn.Identity()
        self.dropout = nn.Dropout(dropout)

    def forward(self, q_BHTK: Tensor, k_BGSK: Tensor, v_BGSK: Tensor, *, causal: bool) -> Tensor:
        repeats = q_BHTK.size(1) // k_BGSK.size(1)
        k_BHSK = k_BGSK.repeat_interleave(repeats, dim=1)
        v_BHSK = v_BGSK.repeat_interleave(repeats, dim=1)
        scores_BHTS = q_BHTK @ k_BHSK.mT / math.sqrt(q_BHTK.size(-1))
        if causal:
            T, S = scores_BHTS.shape[-2:]
            bias_TS = causal_bias(T, S, q_BHTK.device, q_BHTK.dtype, self.window)
            scores_BHTS = scores_BHTS + bias_TS
        weights_BHTS = self.weights(self.scores(scores_BHTS).softmax(-1))
        return self.dropout(weights_BHTS) @ v_BHSK


class BatchedCore(nn.Module):
    """Two batched products; the heads that share a key are folded into its rows, so that no key is copied."""

    def __init__(self, *, dropout: float = 0.0, window: int | None = None) -> None:
        super().__init__()
        self.window = window
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()

    def forward(self, q_BHTK: Tensor, k_BGSK: Tensor, v_BGSK: Tensor, *, causal: bool) -> Tensor:
        B, H, T, K = q_BHTK.shape
        G, S = k_BGSK.shape[1:3]
        R = H // G
        # Contiguous copies cost one pass each; products over strided heads cost several.
        q_NRK = q_BHTK.reshape(B * G, R * T, K)
        k_NKS = k_BGSK.reshape(B * G, S, K).mT
        v_NSK = v_BGSK.reshape(B * G, S, K)
        scale = 1 / math.sqrt(K)
        if causal:
            bias_TS = causal_bias(T, S, q_BHTK.device, q_BHTK.dtype, self.window)
            scores_NRS = torch.baddbmm(bias_TS.repeat(R, 1), q_NRK, k_NKS, alpha=scale)
        else:
            scores_NRS = torch.bmm(q_NRK, k_NKS) * scale
        weights_NRS = self.dropout(scores_NRS.softmax(-1))
        return torch.bmm(weights_NRS, v_NSK).view(B, H, T, K)


class SdpaCore(nn.Module):
    """torch's fused attention."""

    def __init__(self, *, dropout: float = 0.0, window: int | None = None) -> None:
        super().__init__()
        self.dropout, self.window = dropout, window

    def forward(self, q_BHTK: Tensor, k_BGSK: Tensor, v_BGSK: Tensor, *, causal: bool) -> Tensor:
        T, S = q_BHTK.size(2), k_BGSK.size(2)
        # torch's own causal mask is for whole rows only, and knows no window.
        part = causal and (T != S or self.window is not None)
        return F.scaled_dot_product_attention(
            q_BHTK,
            k_BGSK,
            v_BGSK,
            attn_mask=causal_bias(T, S, q_BHTK.device, q_BHTK.dtype, self.window) if part else None,
            is_causal=causal and not part,
            dropout_p=self.dropout if self.training else 0.0,
            enable_gqa=q_BHTK.size(1) != k_BGSK.size(1),
        )


def build_core(
    context_length: int, *, dropout: float, device: torch.device | str, window: int | None = None
) -> nn.Module:
    """The fastest core for the place: batched products for short contexts on a CPU, else torch's fused kernel."""
    on_cpu = torch.device(device).type in ("cpu", "meta")
    short = context_length <= BATCHED_CONTEXT_LIMIT
    return (BatchedCore if on_cpu and short else SdpaCore)(dropout=dropout, window=window)
