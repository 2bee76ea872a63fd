"""Models by name: the published shapes of GPT-2, GPT-3, Qwen3 and Llama-like models, and small ones to learn on.

Those of other families stand in `other_presets`.

A preset is only a point in the axes of `ModelConfig`; it holds no weights. The small ones fit a page (`micro`), a
minute (`tiny`, `tiny-gpt2`) or a well-known recipe (`nanogpt-char`).

Sources: Radford et al. 2019 (GPT-2), Brown et al. 2020 table 2.1 (GPT-3), Yang et al. 2025 (Qwen3), Allal et al. 2025
(SmolLM2), Zhang et al. 2024 (TinyLlama), Grattafiori et al. 2024 (Llama 3).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType

from pellucid.errors import SettingsError
from pellucid.planning.config import ModelConfig
from pellucid.planning.other_presets import OTHER_FAMILIES
from pellucid.planning.parts.attention import AttentionConfig
from pellucid.planning.parts.feed_forward import FeedForwardConfig
from pellucid.planning.parts.norm import NormConfig
from pellucid.planning.parts.position import Learned, Rotary
from pellucid.setting_values import nearest


def preset(name: str) -> ModelConfig:
    """The model shape of that name; SettingsError names the nearest one when there is none.

    >>> preset("gpt2").d_model
    768
    >>> preset("gpt4")
    Traceback (most recent call last):
    ...
    pellucid.errors.SettingsError: there is no preset 'gpt4'
      try:   did you mean 'gpt3'?
    """
    if name not in PRESETS:
        raise SettingsError(f"there is no preset {name!r}", hint=nearest(name, list(PRESETS)))
    return PRESETS[name]


def _gpt2(
    n_layers: int, n_heads: int, d_model: int, *, vocab_size: int = 50_257, context_length: int = 1024
) -> ModelConfig:
    """GPT-2's family: learned positions, LayerNorm, GELU, biases everywhere, d_ff = 4 d_model."""
    return ModelConfig(
        vocab_size=vocab_size,
        context_length=context_length,
        n_layers=n_layers,
        n_heads=n_heads,
        n_kv_heads=n_heads,
        head_dim=d_model // n_heads,
        d_model=d_model,
        d_ff=4 * d_model,
        position=Learned(),
        attention=AttentionConfig(qk_norm=False, qkv_bias=True, output_bias=True),
        feed_forward=FeedForwardConfig(kind="gelu_tanh", bias=True),
        norm=NormConfig(kind="layer", eps=1e-5),
        init="gpt2",
    )


def _gpt3(n_layers: int, n_heads: int, d_model: int) -> ModelConfig:
    """GPT-3's family: GPT-2's with 2,048 positions. Its sparse attention layers have a dense one's parameters."""
    return _gpt2(n_layers, n_heads, d_model, context_length=2048)


def _qwen3(n_layers: int, n_heads: int, n_kv_heads: int, d_model: int, d_ff: int, *, tied_head: bool) -> ModelConfig:
    return ModelConfig(
        vocab_size=151_936,
        context_length=40_960,
        n_layers=n_layers,
        n_heads=n_heads,
        n_kv_heads=n_kv_heads,
        head_dim=128,
        d_model=d_model,
        d_ff=d_ff,
        position=Rotary(theta=1_000_000.0),
        tied_head=tied_head,
    )


def _llama(
    n_layers: int, n_heads: int, n_kv_heads: int, d_model: int, d_ff: int, *, vocab_size: int, context_length: int,
    theta: float, tied_head: bool = False,
) -> ModelConfig:  # fmt: skip
    return ModelConfig(
        vocab_size=vocab_size,
        context_length=context_length,
        n_layers=n_layers,
        n_heads=n_heads,
        n_kv_heads=n_kv_heads,
        head_dim=d_model // n_heads,
        d_model=d_model,
        d_ff=d_ff,
        position=Rotary(theta=theta),
        attention=AttentionConfig(qk_norm=False),
        norm=NormConfig(eps=1e-5),
        tied_head=tied_head,
    )


_NANOGPT_CHAR = dataclasses.replace(
    _gpt2(6, 6, 384, vocab_size=65, context_length=256),
    attention=AttentionConfig(qk_norm=False),
    feed_forward=FeedForwardConfig(kind="gelu"),
    norm=NormConfig(kind="layer_no_bias", eps=1e-5),
    dropout=0.2,
)

PRESETS: Mapping[str, ModelConfig] = MappingProxyType(
    {
        "micro": ModelConfig(
            vocab_size=258, context_length=32, n_layers=2, n_heads=2, n_kv_heads=1, head_dim=8, d_model=16, d_ff=32
        ),
        "tiny": ModelConfig(
            vocab_size=2048, context_length=256, n_layers=4, n_heads=8, n_kv_heads=8, head_dim=32, d_model=256, d_ff=672
        ),
        "tiny-gpt2": _gpt2(4, 4, 128, vocab_size=2048, context_length=256),
        "nanogpt-char": _NANOGPT_CHAR,
        "gpt2": _gpt2(12, 12, 768),
        "gpt2-medium": _gpt2(24, 16, 1024),
        "gpt2-large": _gpt2(36, 20, 1280),
        "gpt2-xl": _gpt2(48, 25, 1600),
        "gpt3-small": _gpt3(12, 12, 768),
        "gpt3-medium": _gpt3(24, 16, 1024),
        "gpt3-large": _gpt3(24, 16, 1536),
        # The paper prints 24 heads of 128 for this width of 2,048; only 16 of them give its 1.3 billion parameters.
        "gpt3-xl": _gpt3(24, 16, 2048),
        "gpt3-2.7b": _gpt3(32, 32, 2560),
        "gpt3-6.7b": _gpt3(32, 32, 4096),
        # The paper prints a width of 5,140, which 40 heads of 128 do not fill; 5,120 is the width that they do.
        "gpt3-13b": _gpt3(40, 40, 5120),
        "gpt3": _gpt3(96, 96, 12_288),
        "qwen3-0.6b": _qwen3(28, 16, 8, 1024, 3072, tied_head=True),
        "qwen3-1.7b": _qwen3(28, 16, 8, 2048, 6144, tied_head=True),
        "qwen3-4b": _qwen3(36, 32, 8, 2560, 9728, tied_head=True),
        "qwen3-8b": _qwen3(36, 32, 8, 4096, 12_288, tied_head=False),
        "qwen3-14b": _qwen3(40, 40, 8, 5120, 17_408, tied_head=False),
        "qwen3-32b": _qwen3(64, 64, 8, 5120, 25_600, tied_head=False),
        "smollm2-135m": _llama(
            30, 9, 3, 576, 1536, vocab_size=49_152, context_length=8192, theta=100_000.0, tied_head=True
        ),
        "tinyllama-1.1b": _llama(22, 32, 4, 2048, 5632, vocab_size=32_000, context_length=2048, theta=10_000.0),
        "llama3-8b": _llama(32, 32, 8, 4096, 14_336, vocab_size=128_256, context_length=8192, theta=500_000.0),
        **OTHER_FAMILIES,
    }
)
