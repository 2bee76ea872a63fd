"""Presets of families beside GPT and Llama: Gemma, mixtures of experts, encoders, and encoders beside decoders.

Sources: Jiang et al. 2023, 2024 (Mistral, Mixtral), Gemma Team 2024, 2025 (Gemma 2, Gemma 3), Bakouch et al. 2025
(SmolLM3), Devlin et al. 2019 (BERT), Liu et al. 2019 (RoBERTa), Warner et al. 2024 (ModernBERT), Vaswani et al. 2017 (the
original Transformer), Raffel et al. 2020 (T5), Yang et al. 2019 (XLNet).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from pellucid.planning.config import EncoderConfig, ModelConfig
from pellucid.planning.parts.attention import AttentionConfig, SlidingWindow
from pellucid.planning.parts.embedding import EmbeddingConfig, HeadConfig, HeadTransform
from pellucid.planning.parts.feed_forward import Experts, FeedForwardConfig
from pellucid.planning.parts.norm import NormConfig
from pellucid.planning.parts.position import Learned, Relative, RelativeSines, Rotary, Sinusoidal
from pellucid.planning.parts.streams import Streams

PLAIN = AttentionConfig(qk_norm=False)
BIASED = AttentionConfig(qk_norm=False, qkv_bias=True, output_bias=True)


def _encoder(n_layers: int, n_heads: int, d_model: int, *, roberta: bool = False) -> ModelConfig:
    """BERT's family: learned positions, norms after the sums, a layer before the head."""
    return ModelConfig(
        vocab_size=50_265 if roberta else 30_522,
        context_length=512,
        n_layers=n_layers,
        n_heads=n_heads,
        n_kv_heads=n_heads,
        head_dim=d_model // n_heads,
        d_model=d_model,
        d_ff=4 * d_model,
        position=Learned(first=2 if roberta else 0),
        embedding=EmbeddingConfig(segments=1 if roberta else 2, norm=True),
        attention=BIASED,
        feed_forward=FeedForwardConfig(kind="gelu", bias=True),
        norm=NormConfig(kind="layer", eps=1e-5 if roberta else 1e-12, placement="after"),
        head=HeadConfig(bias=True, transform=HeadTransform()),
        causal=False,
        init="gpt2",
    )


def _modernbert(n_layers: int, n_heads: int, d_model: int, d_ff: int) -> ModelConfig:
    windows = tuple(layer for layer in range(n_layers) if layer % 3)
    return ModelConfig(
        vocab_size=50_368,
        context_length=8192,
        n_layers=n_layers,
        n_heads=n_heads,
        n_kv_heads=n_heads,
        head_dim=64,
        d_model=d_model,
        d_ff=d_ff,
        position=Rotary(theta=160_000.0, window_theta=10_000.0),
        embedding=EmbeddingConfig(norm=True),
        attention=AttentionConfig(qk_norm=False, window=SlidingWindow(size=65, layers=windows, both_sides=True)),
        feed_forward=FeedForwardConfig(kind="geglu"),
        norm=NormConfig(kind="layer_no_bias", eps=1e-5, first=False),
        head=HeadConfig(bias=True, transform=HeadTransform(bias=False)),
        causal=False,
        init="gpt2",
    )


def _t5(n_layers: int, n_heads: int, d_model: int, d_ff: int) -> ModelConfig:
    """The first T5, whose head is tied."""
    return ModelConfig(
        vocab_size=32_128,
        context_length=512,
        n_layers=n_layers,
        n_heads=n_heads,
        n_kv_heads=n_heads,
        head_dim=64,
        d_model=d_model,
        d_ff=d_ff,
        encoder=EncoderConfig(n_layers=n_layers),
        position=Relative(),
        attention=AttentionConfig(qk_norm=False, scale=1.0),
        feed_forward=FeedForwardConfig(kind="relu"),
        head=HeadConfig(scaled=True),
    )


def _xlnet(
    n_layers: int, n_heads: int, d_model: int, *, vocab_size: int = 32_000, context_length: int = 512
) -> ModelConfig:
    return ModelConfig(
        vocab_size=vocab_size,
        context_length=context_length,
        n_layers=n_layers,
        n_heads=n_heads,
        n_kv_heads=n_heads,
        head_dim=d_model // n_heads,
        d_model=d_model,
        d_ff=4 * d_model,
        position=RelativeSines(),
        streams=Streams(),
        attention=PLAIN,
        feed_forward=FeedForwardConfig(kind="gelu", bias=True),
        norm=NormConfig(kind="layer", eps=1e-12, placement="after"),
        head=HeadConfig(bias=True),
        causal=False,
        init="gpt2",
    )


def _mistral(*, experts: Experts | None = None, theta: float, window: SlidingWindow | None) -> ModelConfig:
    return ModelConfig(
        vocab_size=32_000,
        context_length=32_768,
        n_layers=32,
        n_heads=32,
        n_kv_heads=8,
        head_dim=128,
        d_model=4096,
        d_ff=14_336,
        position=Rotary(theta=theta),
        attention=AttentionConfig(qk_norm=False, window=window),
        feed_forward=FeedForwardConfig(experts=experts),
        norm=NormConfig(eps=1e-5),
        tied_head=False,
    )


OTHER_FAMILIES: Mapping[str, ModelConfig] = MappingProxyType(
    {
        "mistral-7b": _mistral(theta=10_000.0, window=SlidingWindow(size=4096)),
        "mixtral-8x7b": _mistral(theta=1_000_000.0, window=None, experts=Experts(count=8, active=2, width=14_336)),
        "qwen3-30b-a3b": ModelConfig(
            vocab_size=151_936, context_length=40_960, n_layers=48, n_heads=32, n_kv_heads=4, head_dim=128, d_model=2048,
            d_ff=6144, position=Rotary(theta=1_000_000.0), tied_head=False,
            feed_forward=FeedForwardConfig(experts=Experts(count=128, active=8, width=768)),
        ),
        "smollm3-3b": ModelConfig(
            vocab_size=128_256, context_length=65_536, n_layers=36, n_heads=16, n_kv_heads=4, head_dim=128, d_model=2048,
            d_ff=11_008, position=Rotary(theta=5_000_000.0, skipped=tuple(range(3, 36, 4))), attention=PLAIN,
        ),
        "gemma2-2b": ModelConfig(
            vocab_size=256_000, context_length=8192, n_layers=26, n_heads=8, n_kv_heads=4, head_dim=256, d_model=2304, d_ff=9216,
            embedding=EmbeddingConfig(scaled=True),
            attention=AttentionConfig(
                qk_norm=False, scale=256**-0.5, softcap=50.0, window=SlidingWindow(size=4096, layers=tuple(range(0, 26, 2)))
            ),
            feed_forward=FeedForwardConfig(kind="geglu_tanh"), norm=NormConfig(placement="around", one_plus=True),
            head=HeadConfig(softcap=30.0),
        ),
        "gemma3-270m": ModelConfig(
            vocab_size=262_144, context_length=32_768, n_layers=18, n_heads=4, n_kv_heads=1, head_dim=256, d_model=640, d_ff=2048,
            position=Rotary(theta=1_000_000.0, window_theta=10_000.0), embedding=EmbeddingConfig(scaled=True),
            attention=AttentionConfig(
                scale=256**-0.5,
                window=SlidingWindow(size=512, layers=tuple(layer for layer in range(18) if (layer + 1) % 6)),
            ),
            feed_forward=FeedForwardConfig(kind="geglu_tanh"), norm=NormConfig(placement="around", one_plus=True),
        ),
        "bert-base": _encoder(12, 12, 768),
        "bert-large": _encoder(24, 16, 1024),
        "roberta-base": _encoder(12, 12, 768, roberta=True),
        "roberta-large": _encoder(24, 16, 1024, roberta=True),
        "modernbert-base": _modernbert(22, 12, 768, 1152),
        "modernbert-large": _modernbert(28, 16, 1024, 2624),
        # The paper's base model; its vocabulary of English and German has about 37,000 tokens, its sines alternate.
        "transformer-base": ModelConfig(
            vocab_size=37_000, context_length=512, n_layers=6, n_heads=8, n_kv_heads=8, head_dim=64, d_model=512, d_ff=2048,
            encoder=EncoderConfig(n_layers=6), position=Sinusoidal(), embedding=EmbeddingConfig(scaled=True), attention=BIASED,
            feed_forward=FeedForwardConfig(kind="relu", bias=True), norm=NormConfig(kind="layer", eps=1e-5, placement="after"),
            dropout=0.1, init="gpt2",
        ),
        "t5-small": _t5(6, 8, 512, 2048),
        "t5-base": _t5(12, 12, 768, 3072),
        "xlnet": _xlnet(4, 4, 256, vocab_size=8192, context_length=256),  # small enough to train anywhere
        "xlnet-base": _xlnet(12, 12, 768),
        "xlnet-large": _xlnet(24, 16, 1024),
    }
)  # fmt: skip
