"""Attention cores (scaled dot products): each position mixes the values of the positions whose keys match its query.

    weights = softmax(q · kᵀ / √K + bias)        y = weights · v

Some models multiply by another number than 1/√K, or bend the scores: c · tanh(score / c), which stays below c (`Scoring`).

`bias` is 0 where a position may look and -∞ where it may not; a `Mask` says which. Once per pass a core turns the mask
into what it needs (`lower`), and every block uses the result. Three cores compute the same:

    ExplicitCore  one line per symbol; it shows its scores and weights to the tap
    BatchedCore   two batched products: the fastest for short contexts on a CPU
    SdpaCore      torch's fused kernel: never stores the T x S weights, so long contexts fit

A core has no state: all blocks of all models share it. Query heads may outnumber key/value heads (grouped heads):
R = H / G query heads share each.

Axes: B batch · H query heads · G key/value heads · R = H/G · T new positions · S all positions · K head width.
Source: Vaswani et al. 2017 eq. 1; Ainslie et al. 2023 (grouped heads).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from pellucid.model.mask import Causal, Everything, Mask, simplify
from pellucid.model.rows import Rows
from pellucid.model.tap import Tap, no_tap
from pellucid.planning.config import ModelConfig
from pellucid.planning.memory import core_on_cpu
from pellucid.planning.parts.attention import AttentionCore


@dataclass(frozen=True, kw_only=True, eq=False)
class LoweredMask:
    """A mask in the form that one core needs for one pass."""

    bias: Tensor | None = None  # added to the scores, in the layout of that core's scores; None: nothing is hidden
    is_causal: bool = False  # the kernel hides later positions by itself
    blind_B1T1: Tensor | None = None  # where a position may see nothing at all; None: nowhere

    @property
    def is_shared(self) -> bool:
        """Whether there is a bias that is the same for all heads, as the fused kernel takes it."""
        return self.bias is not None and (self.bias.ndim == 2 or self.bias.size(1) == 1)

    def silence(self, y_BHTK: Tensor) -> Tensor:
        """The output, with zeros for every position that may see nothing."""
        return y_BHTK if self.blind_B1T1 is None else y_BHTK.masked_fill(self.blind_B1T1, 0.0)


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """How products of queries and keys become scores.

    >>> Scoring(scale=0.5, softcap=2.0).bend(torch.tensor([0.0, 1e9])).tolist()
    [0.0, 2.0]
    """

    scale: float
    softcap: float | None = None

    @classmethod
    def of(cls, config: ModelConfig) -> Scoring:
        """That of a model."""
        axes = config.attention
        return cls(scale=1 / math.sqrt(config.head_dim) if axes.scale is None else axes.scale, softcap=axes.softcap)

    def bend(self, scores: Tensor) -> Tensor:
        """Scores kept between minus and plus the soft cap; the same scores where there is none."""
        return scores if self.softcap is None else self.softcap * (scores / self.softcap).tanh()


class Core(Protocol):
    """One way to compute attention."""

    def lower(
        self,
        mask: Mask,
        rows: Rows,
        *,
        n_heads: int,
        n_kv_heads: int,
        dtype: torch.dtype,
        added_BHTS: Tensor | None = None,
    ) -> LoweredMask:
        """The mask in the form that this core needs, computed once for all blocks of a pass.

        `added_BHTS`: what is added to every score besides, for the distance.
        """
        ...

    def __call__(
        self,
        q_BHTK: Tensor,
        k_BGSK: Tensor,
        v_BGSK: Tensor,
        mask: LoweredMask,
        *,
        scoring: Scoring,
        dropout: float = 0.0,
        tap: Tap = no_tap,
    ) -> Tensor:
        """Gather the values, [B, H, T, K]; `dropout` is the share of weights that are dropped."""
        ...


def lower_to_bias(mask: Mask, rows: Rows, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
    """The bias, 0 or -∞, [B or 1, T, S]; and which places may see nothing (None: none), [B or 1, 1, T, 1].

    Softmax is not defined for a row of -∞ alone. So such a place sees everything here, and is set to zero afterwards.

    >>> lower_to_bias(Causal(), Rows.of(torch.zeros(1, 2), starts=[1]), torch.float32)
    (tensor([[[0., 0., -inf],
             [0., 0., 0.]]]), None)
    """
    allowed_BTS = mask.allowed_BTS(rows.places_BT()[..., None], torch.arange(rows.num_all, device=rows.device))
    blind_B1T1 = None
    if not mask.sees_itself:
        blind_BT1 = ~allowed_BTS.any(-1, keepdim=True)
        allowed_BTS, blind_B1T1 = allowed_BTS | blind_BT1, blind_BT1[:, None]
    empty_BTS = torch.zeros(allowed_BTS.shape, device=rows.device, dtype=dtype)
    return empty_BTS.masked_fill(~allowed_BTS, -math.inf), blind_B1T1


@dataclass(frozen=True)
class ExplicitCore:
    """The readable core, and the only one that can show its scores and weights.

    >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])[None, None]
    >>> ExplicitCore()(x, x, x, LoweredMask(), scoring=Scoring(scale=2**-0.5))[0, 0].round(decimals=3).tolist()[2]
    [0.7519999742507935, 0.7519999742507935]
    """

    def lower(
        self,
        mask: Mask,
        rows: Rows,
        *,
        n_heads: int,
        n_kv_heads: int,
        dtype: torch.dtype,
        added_BHTS: Tensor | None = None,
    ) -> LoweredMask:
        mask = simplify(mask, rows)
        if isinstance(mask, Everything) and added_BHTS is None:
            return LoweredMask()
        bias_BTS, blind_B1T1 = lower_to_bias(mask, rows, dtype)
        return LoweredMask(bias=_with(added_BHTS, bias_BTS[:, None]), blind_B1T1=blind_B1T1)

    def __call__(
        self,
        q_BHTK: Tensor,
        k_BGSK: Tensor,
        v_BGSK: Tensor,
        mask: LoweredMask,
        *,
        scoring: Scoring,
        dropout: float = 0.0,
        tap: Tap = no_tap,
    ) -> Tensor:
        repeats = q_BHTK.size(1) // k_BGSK.size(1)
        k_BHSK = k_BGSK.repeat_interleave(repeats, dim=1)
        v_BHSK = v_BGSK.repeat_interleave(repeats, dim=1)
        scores_BHTS = scoring.bend(q_BHTK @ k_BHSK.mT * scoring.scale)
        if mask.bias is not None:
            scores_BHTS = scores_BHTS + mask.bias.to(scores_BHTS.dtype)
        scores_BHTS = tap("scores", scores_BHTS)
        weights_BHTS = tap("weights", scores_BHTS.softmax(-1))
        return mask.silence(_drop(weights_BHTS, dropout) @ v_BHSK)


@dataclass(frozen=True)
class BatchedCore:
    """Two batched products; query heads that share a key head are stacked as rows, so that no key is copied."""

    def lower(
        self,
        mask: Mask,
        rows: Rows,
        *,
        n_heads: int,
        n_kv_heads: int,
        dtype: torch.dtype,
        added_BHTS: Tensor | None = None,
    ) -> LoweredMask:
        mask = simplify(mask, rows)
        if isinstance(mask, Everything) and added_BHTS is None:
            return LoweredMask()
        bias_BTS, blind_B1T1 = lower_to_bias(mask, rows, dtype)
        G, R = n_kv_heads, n_heads // n_kv_heads
        if len(bias_BTS) == 1 and added_BHTS is None:
            return LoweredMask(bias=bias_BTS[0].repeat(R, 1), blind_B1T1=blind_B1T1)
        bias_BHTS = _with(added_BHTS, bias_BTS[:, None]).expand(rows.num_rows, n_heads, -1, -1)
        T, S = bias_BHTS.shape[2:]
        return LoweredMask(bias=bias_BHTS.reshape(rows.num_rows * G, R * T, S), blind_B1T1=blind_B1T1)

    def __call__(
        self,
        q_BHTK: Tensor,
        k_BGSK: Tensor,
        v_BGSK: Tensor,
        mask: LoweredMask,
        *,
        scoring: Scoring,
        dropout: float = 0.0,
        tap: Tap = no_tap,
    ) -> Tensor:
        B, H, T, K = q_BHTK.shape
        G, S = k_BGSK.shape[1:3]
        R = H // G
        # Contiguous copies cost one pass each; products over strided heads cost several.
        q_NRK = q_BHTK.reshape(B * G, R * T, K)
        k_NKS = k_BGSK.reshape(B * G, S, K).mT
        v_NSK = v_BGSK.reshape(B * G, S, K)
        if mask.bias is not None and scoring.softcap is None:
            scores_NRS = torch.baddbmm(mask.bias.to(q_NRK.dtype), q_NRK, k_NKS, alpha=scoring.scale)
        else:
            scores_NRS = scoring.bend(torch.bmm(q_NRK, k_NKS) * scoring.scale)
            scores_NRS = scores_NRS if mask.bias is None else scores_NRS + mask.bias.to(q_NRK.dtype)
        weights_NRS = _drop(scores_NRS.softmax(-1), dropout)
        return mask.silence(torch.bmm(weights_NRS, v_NSK).view(B, H, T, K))


@dataclass(frozen=True)
class SdpaCore:
    """torch's fused kernel, `scaled_dot_product_attention`."""

    def lower(
        self,
        mask: Mask,
        rows: Rows,
        *,
        n_heads: int,
        n_kv_heads: int,
        dtype: torch.dtype,
        added_BHTS: Tensor | None = None,
    ) -> LoweredMask:
        mask = simplify(mask, rows)
        if isinstance(mask, Everything) and added_BHTS is None:
            return LoweredMask()
        if (
            isinstance(mask, Causal) and rows.start == 0 and added_BHTS is None
        ):  # torch's own causal mask is for whole rows only
            return LoweredMask(is_causal=True)
        bias_BTS, blind_B1T1 = lower_to_bias(mask, rows, dtype)
        if len(bias_BTS) == 1 and added_BHTS is None:
            return LoweredMask(bias=bias_BTS[0], blind_B1T1=blind_B1T1)
        return LoweredMask(bias=_with(added_BHTS, bias_BTS[:, None]), blind_B1T1=blind_B1T1)

    def __call__(
        self,
        q_BHTK: Tensor,
        k_BGSK: Tensor,
        v_BGSK: Tensor,
        mask: LoweredMask,
        *,
        scoring: Scoring,
        dropout: float = 0.0,
        tap: Tap = no_tap,
    ) -> Tensor:
        assert scoring.softcap is None, "the fused kernel cannot bend scores: `choose_core` gives another one"
        if q_BHTK.is_cuda and q_BHTK.size(1) != k_BGSK.size(1) and mask.is_shared:
            return mask.silence(attend_in_groups(q_BHTK, k_BGSK, v_BGSK, mask, scoring=scoring, dropout=dropout))
        y_BHTK = F.scaled_dot_product_attention(
            q_BHTK,
            k_BGSK,
            v_BGSK,
            attn_mask=None if mask.bias is None else mask.bias.to(q_BHTK.dtype),
            is_causal=mask.is_causal,
            dropout_p=dropout,
            scale=scoring.scale,
            enable_gqa=q_BHTK.size(1) != k_BGSK.size(1),
        )
        return mask.silence(y_BHTK)


def attend_in_groups(
    q_BHTK: Tensor, k_BGSK: Tensor, v_BGSK: Tensor, mask: LoweredMask, *, scoring: Scoring, dropout: float = 0.0
) -> Tensor:
    """The fused kernel where query heads share keys and a bias hides places: those of a group are stacked as rows.

    On CUDA the kernels that take a bias know no groups: torch would copy each key R times, in float32.
    """
    assert mask.bias is not None, "without one the kernels know groups"
    B, H, T, K = q_BHTK.shape
    G = k_BGSK.size(1)
    stacked = (1,) * (mask.bias.ndim - 2) + (H // G, 1)
    y_BGNK = F.scaled_dot_product_attention(
        q_BHTK.reshape(B, G, -1, K),
        k_BGSK,
        v_BGSK,
        attn_mask=mask.bias.to(q_BHTK.dtype).repeat(stacked),
        dropout_p=dropout,
        scale=scoring.scale,
    )
    return y_BGNK.reshape(B, H, T, K)


@dataclass(frozen=True, kw_only=True)
class CoreChoice:
    """The fastest core for a model: on a CPU as `core_on_cpu` says, else torch's fused kernel.

    The fused kernel cannot bend scores: models with a soft cap have the batched one everywhere.
    """

    on_cpu: Mapping[tuple[bool, bool], Core]  # by whether numbers have 32 bits or more, and whether the model learns
    elsewhere: Core

    @classmethod
    def of(cls, config: ModelConfig) -> CoreChoice:
        """All choices of a model, made once: a pass only looks one up."""
        named: Mapping[AttentionCore, Core] = {"batched": BatchedCore(), "fused": SdpaCore()}
        on_cpu = {
            (wide, learns): named[core_on_cpu(config, "float32" if wide else "bfloat16", learns=learns)]
            for wide in (False, True)
            for learns in (False, True)
        }
        return cls(on_cpu=on_cpu, elsewhere=named["fused" if config.attention.softcap is None else "batched"])

    def __call__(self, device: torch.device, dtype: torch.dtype, *, learns: bool) -> Core:
        if device.type not in ("cpu", "meta"):
            return self.elsewhere
        return self.on_cpu[dtype in (torch.float32, torch.float64), learns]


def _drop(weights: Tensor, share: float) -> Tensor:
    return F.dropout(weights, share) if share else weights


def _with(added_BHTS: Tensor | None, bias_B1TS: Tensor) -> Tensor:
    """The bias of the mask, with what is added for the distance."""
    return bias_B1TS if added_BHTS is None else bias_B1TS + added_BHTS
