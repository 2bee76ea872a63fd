"""Attention: the only layer in which positions exchange information.

    q, k, v = x Wq, x Wk, x Wv        split into heads, (normed), (rotated by position)
    y = core(q, k, v) Wo

In self-attention all three come from the same stream. In cross-attention keys and values come from what an encoder made of
another text, the source; they are computed once, and nothing turns them.

The mask, the key-value cache and the rotation by position are the same for all blocks: the `Pass` brings them.

Axes: B batch · T new positions · S all positions · D width · H query heads · G key/value heads · K head width.
Source: Vaswani et al. 2017 §3.2; Henry et al. 2020 (query-key norm).
"""

from __future__ import annotations

import dataclasses

from torch import Tensor, nn

from pellucid.model.context import Pass
from pellucid.model.core import Scoring
from pellucid.model.norm import RmsNorm, build_norm
from pellucid.model.tap import within
from pellucid.planning.config import ModelConfig


class Attention(nn.Module):
    """Multi-head attention: each head compares queries with keys of its own, and mixes the values by the result."""

    def __init__(self, config: ModelConfig, layer: int, *, path: str = "blocks") -> None:
        super().__init__()
        self.path = f"{path}.{layer}"
        self.layer, self.head_dim, self.dropout_share = layer, config.head_dim, config.dropout
        self.window, self.rotary = config.window_at(layer), config.rotation_at(layer)
        self.query = nn.Linear(config.d_model, config.d_attention, bias=config.attention.qkv_bias)
        self.key = nn.Linear(config.d_model, config.d_kv, bias=config.attention.qkv_bias)
        self.value = nn.Linear(config.d_model, config.d_kv, bias=config.attention.qkv_bias)
        self.output = nn.Linear(config.d_attention, config.d_model, bias=config.attention.output_bias)
        self.query_norm = build_head_norm(config)
        self.key_norm = build_head_norm(config)
        self.scoring = Scoring.of(config)

    def forward(self, x_BTD: Tensor, this_pass: Pass) -> Tensor:
        tap = within(this_pass.tap, f"{self.path}.attention")
        q_BHTK = tap("query", self.query_norm(self.split_heads(self.query(x_BTD))))
        k_BGTK = tap("key", self.key_norm(self.split_heads(self.key(x_BTD))))
        v_BGTK = tap("value", self.split_heads(self.value(x_BTD)))
        q_BHTK, k_BGTK = this_pass.turns[self.rotary](q_BHTK, k_BGTK, tap)
        cache, mask = this_pass.cache, this_pass.masks[self.window]
        k_BGSK, v_BGSK = (k_BGTK, v_BGTK) if cache is None else cache.update(self.layer, k_BGTK, v_BGTK, this_pass.rows)
        dropout = self.dropout_share if this_pass.training else 0.0
        y_BHTK = this_pass.core(q_BHTK, k_BGSK, v_BGSK, mask, scoring=self.scoring, dropout=dropout, tap=tap)
        y_BHTK = tap("mix", y_BHTK)
        return tap("output", self.output(y_BHTK.transpose(1, 2).flatten(2)))

    @property
    def head_norms(self) -> tuple[RmsNorm, ...]:
        """The norms of queries and keys, where there are any."""
        return tuple(norm for norm in (self.query_norm, self.key_norm) if isinstance(norm, RmsNorm))

    def split_heads(self, x_BTN: Tensor) -> Tensor:
        """[B, T, heads x K] -> [B, heads, T, K]."""
        return x_BTN.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)


class CrossAttention(Attention):
    """Attention of a decoder to the encoder's output: queries of its own stream, keys and values of the source."""

    def forward(self, x_BTD: Tensor, this_pass: Pass) -> Tensor:
        tap, memory = within(this_pass.tap, f"{self.path}.cross"), this_pass.memory
        assert memory is not None, "the decoder refuses a pass without one"
        q_BHTK = tap("query", self.query_norm(self.split_heads(self.query(x_BTD))))
        k_BGSK, v_BGSK = memory.keys_and_values(self.layer, self.read_source)
        tap("key", k_BGSK), tap("value", v_BGSK)
        dropout = self.dropout_share if this_pass.training else 0.0
        y_BHTK = this_pass.core(
            q_BHTK, k_BGSK, v_BGSK, this_pass.source_mask, scoring=self.scoring, dropout=dropout, tap=tap
        )
        return tap("output", self.output(tap("mix", y_BHTK).transpose(1, 2).flatten(2)))

    def read_source(self, source_BSD: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of the source, [B, G, S, K] each."""
        return self.key_norm(self.split_heads(self.key(source_BSD))), self.split_heads(self.value(source_BSD))


def build_head_norm(config: ModelConfig) -> nn.Module:
    """The norm over one query or key head: an RMS norm, or nothing."""
    if not config.attention.qk_norm:
        return nn.Identity()
    return build_norm(dataclasses.replace(config.norm, kind="rms"), config.head_dim)
