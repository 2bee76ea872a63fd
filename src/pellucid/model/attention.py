"""Attention: the only place where positions exchange anything.

    q, k, v = x Wq, x Wk, x Wv        split into heads, (normed), (turned to their positions)
    y = core(q, k, v) Wo

Axes: B batch · T new positions · S all positions · D width · H query heads · G key/value heads · K head width.
Source: Vaswani et al. 2017 §3.2; Henry et al. 2020 (query-key norm).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pellucid.model.cache import KVCache
from pellucid.model.core import build_core
from pellucid.model.norm import RmsNorm
from pellucid.model.position import AnyRotation
from pellucid.planning.config import ModelConfig


class Attention(nn.Module):
    """Multi-head attention: each head compares queries with keys of its own, and mixes the values by the result."""

    def __init__(self, config: ModelConfig, layer: int, device: torch.device | str) -> None:
        super().__init__()
        self.layer, self.head_dim, self.causal = layer, config.head_dim, config.causal
        self.query = nn.Linear(config.d_model, config.d_attention, bias=config.attention.qkv_bias)
        self.key = nn.Linear(config.d_model, config.d_kv, bias=config.attention.qkv_bias)
        self.value = nn.Linear(config.d_model, config.d_kv, bias=config.attention.qkv_bias)
        self.output = nn.Linear(config.d_attention, config.d_model, bias=config.attention.output_bias)
        self.query_norm = RmsNorm(config.head_dim, config.norm.eps) if config.attention.qk_norm else nn.Identity()
        self.key_norm = RmsNorm(config.head_dim, config.norm.eps) if config.attention.qk_norm else nn.Identity()
        self.window = config.window_at(layer)
        self.core = build_core(config.context_length, dropout=config.dropout, device=device, window=self.window)

    def forward(self, x_BTD: Tensor, rotation: AnyRotation, offset: int, cache: KVCache | None) -> Tensor:
        q_BHTK = self.query_norm(self.split_heads(self.query(x_BTD)))
        k_BGTK = self.key_norm(self.split_heads(self.key(x_BTD)))
        v_BGTK = self.split_heads(self.value(x_BTD))
        q_BHTK, k_BGTK = rotation(q_BHTK, k_BGTK, offset)
        k_BGSK, v_BGSK = (k_BGTK, v_BGTK) if cache is None else cache.update(self.layer, k_BGTK, v_BGTK)
        # A single new position is the last one: without a window it may see all positions, and no mask is needed.
        masked = self.causal and (x_BTD.size(1) > 1 or self.window is not None)
        y_BHTK = self.core(q_BHTK, k_BGSK, v_BGSK, causal=masked)
        return self.output(y_BHTK.transpose(1, 2).flatten(2))

    @property
    def head_norms(self) -> tuple[RmsNorm, ...]:
        """The norms of queries and keys, where there are any."""
        return tuple(norm for norm in (self.query_norm, self.key_norm) if isinstance(norm, RmsNorm))

    def split_heads(self, x_BTN: Tensor) -> Tensor:
        """[B, T, heads x K] -> [B, heads, T, K]."""
        return x_BTN.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
