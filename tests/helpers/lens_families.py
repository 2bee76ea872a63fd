"""A tiny model of every family, with random weights, as the lens opens it: no preset is small enough for a test.

Every axis by which a family differs from GPT and Llama is in one of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from scrambled import scrambled

from pellucid.engine.runners.torch_runner import TorchRunner
from pellucid.lens.dispatch import Dispatch
from pellucid.lens.models import Models, Opened
from pellucid.model.decoder import Decoder
from pellucid.model.norm import OnePlusRmsNorm
from pellucid.planning.config import EncoderConfig, ModelConfig
from pellucid.planning.parts.attention import AttentionConfig, SlidingWindow
from pellucid.planning.parts.embedding import EmbeddingConfig, HeadConfig, HeadTransform
from pellucid.planning.parts.feed_forward import Experts, FeedForwardConfig
from pellucid.planning.parts.norm import NormConfig
from pellucid.planning.parts.pooler import PoolerConfig, PoolerLayer
from pellucid.planning.parts.position import Learned, Relative, Rotary, Sinusoidal
from pellucid.store.checkpoint import Checkpoint
from pellucid.tokens.tokenizer import Tokenizer
from pellucid.tokens.train import train_bpe
from pellucid.untrusted import Json

TOKENIZER = train_bpe(["the cat sat on the mat. " * 30, "小猫坐在花园里。" * 30], 320)
SIZES = {
    "vocab_size": TOKENIZER.vocab_size + 2, "context_length": 48, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2,
    "head_dim": 6, "d_model": 20, "d_ff": 31,
}  # fmt: skip
WHOLE = SIZES | {"n_kv_heads": 4}
PLAIN, BIASED = AttentionConfig(qk_norm=False), AttentionConfig(qk_norm=False, qkv_bias=True, output_bias=True)


def _window(**axes: object) -> SlidingWindow:
    return SlidingWindow(size=3, layers=(0,), **axes)


DECODERS: Mapping[str, ModelConfig] = {
    "qwen3": ModelConfig(**SIZES),
    "gpt2": ModelConfig(
        **WHOLE, position=Learned(), attention=BIASED, feed_forward=FeedForwardConfig(kind="gelu_tanh", bias=True),
        norm=NormConfig(kind="layer"),
    ),
    "mistral": ModelConfig(**SIZES, attention=AttentionConfig(qk_norm=False, window=SlidingWindow(size=4)), tied_head=False),
    "mixtral": ModelConfig(
        **SIZES, attention=PLAIN, feed_forward=FeedForwardConfig(experts=Experts(count=5, active=2, width=9)), tied_head=False
    ),
    "qwen3_moe": ModelConfig(
        **SIZES, feed_forward=FeedForwardConfig(experts=Experts(count=6, active=3, width=7, normalised=False, layers=(1,)))
    ),
    "smollm3": ModelConfig(**SIZES, position=Rotary(skipped=(1,)), attention=PLAIN),
    "gemma2": ModelConfig(
        **SIZES, embedding=EmbeddingConfig(scaled=True),
        attention=AttentionConfig(qk_norm=False, scale=0.3, softcap=2.0, window=_window()),
        feed_forward=FeedForwardConfig(kind="geglu_tanh"), norm=NormConfig(placement="around", one_plus=True),
        head=HeadConfig(softcap=3.0),
    ),
    "gemma3": ModelConfig(
        **SIZES, position=Rotary(theta=1e6, window_theta=1e4), embedding=EmbeddingConfig(scaled=True),
        attention=AttentionConfig(scale=0.5, window=_window()),
        feed_forward=FeedForwardConfig(kind="geglu_tanh"), norm=NormConfig(placement="around", one_plus=True),
    ),
    "after": ModelConfig(
        **WHOLE, position=Sinusoidal(), attention=BIASED, feed_forward=FeedForwardConfig(kind="relu", bias=True),
        embedding=EmbeddingConfig(norm=True), norm=NormConfig(kind="layer", placement="after"), head=HeadConfig(bias=True),
    ),
}  # fmt: skip
ENCODERS: Mapping[str, ModelConfig] = {
    "bert": ModelConfig(
        **WHOLE, position=Learned(), embedding=EmbeddingConfig(segments=2, norm=True), attention=BIASED,
        feed_forward=FeedForwardConfig(kind="gelu", bias=True), norm=NormConfig(kind="layer", placement="after"),
        head=HeadConfig(bias=True, transform=HeadTransform()), causal=False,
        pooler=PoolerConfig(layer=PoolerLayer(), pairs=True),  # BERT's files have it too; no panel is about it
    ),
    "roberta": ModelConfig(
        **WHOLE, position=Learned(first=2), embedding=EmbeddingConfig(segments=1, norm=True), attention=BIASED,
        feed_forward=FeedForwardConfig(kind="gelu", bias=True), norm=NormConfig(kind="layer", placement="after"),
        head=HeadConfig(bias=True, transform=HeadTransform()), causal=False,
    ),
    "modernbert": ModelConfig(
        **WHOLE, position=Rotary(theta=160_000.0, window_theta=1e4), embedding=EmbeddingConfig(norm=True),
        attention=AttentionConfig(qk_norm=False, window=_window(both_sides=True)), feed_forward=FeedForwardConfig(kind="geglu"),
        norm=NormConfig(kind="layer_no_bias", first=False), head=HeadConfig(bias=True, transform=HeadTransform(bias=False)),
        causal=False,
    ),
}  # fmt: skip
ENCODER_DECODERS: Mapping[str, ModelConfig] = {
    "marian": ModelConfig(
        **WHOLE, encoder=EncoderConfig(n_layers=1), position=Sinusoidal(halves=True), embedding=EmbeddingConfig(scaled=True),
        attention=BIASED, feed_forward=FeedForwardConfig(kind="relu", bias=True),
        norm=NormConfig(kind="layer", placement="after"), head=HeadConfig(bias=True),
    ),
    "t5": ModelConfig(
        **WHOLE, encoder=EncoderConfig(n_layers=3), position=Relative(buckets=8, farthest=9),
        attention=AttentionConfig(qk_norm=False, scale=1.0), feed_forward=FeedForwardConfig(kind="geglu_tanh"),
        head=HeadConfig(scaled=True),
    ),
}  # fmt: skip
CLASSIFIER = replace(  # BERT with labels for a whole row and no scores of tokens, as its files are after fine-tuning
    ENCODERS["bert"], head=HeadConfig(tokens=False), pooler=PoolerConfig(layer=PoolerLayer(), labels=("good", "bad"))
)
FAMILIES: Mapping[str, ModelConfig] = {**DECODERS, **ENCODERS, **ENCODER_DECODERS}
TEXTS = (
    dict.fromkeys(DECODERS, "the cat sat on")
    | dict.fromkeys(ENCODERS, "the <mask> sat on")
    | dict.fromkeys(ENCODER_DECODERS, "the cat sat on the mat")
)


def models_of(model: Decoder, tokenizer: Tokenizer, info: Mapping[str, Json] | None = None) -> Models:
    """A model in memory as the lens opens it; `info`: what its run says of it (None: an encoder was trained here)."""
    learned: Mapping[str, Json] = {} if model.config.causal else {"objective": {"kind": "masked"}}
    checkpoint = Checkpoint(
        directory=Path(__file__), config=model.config, weights={}, tokenizer=tokenizer, generation={},
        dtype=torch.float32, info=learned if info is None else info,
    )  # fmt: skip
    opened = Opened(model=model, runner=TorchRunner(model), checkpoint=checkpoint)
    opened.__dict__["about"] = {"name": "scrambled"}
    return Models(opened)


def classifier() -> Dispatch:
    """The lens on a model that scores no tokens, with a text."""
    lens = Dispatch(models_of(scrambled(CLASSIFIER), TOKENIZER))
    lens.branches.start = lens.branches.plant("the cat sat on").id
    return lens


def family(name: str, tokenizer: Tokenizer = TOKENIZER) -> Dispatch:
    """The lens on that family's model, with a text: hidden tokens for an encoder, some output for an encoder–decoder."""
    model = scrambled(FAMILIES[name])
    for module in model.modules():  # scales of 1 + weight lie around 0
        if isinstance(module, OnePlusRmsNorm):
            with torch.no_grad():
                module.weight.sub_(1)
    lens = Dispatch(models_of(model, tokenizer))
    node = lens.branches.plant(TEXTS[name])
    if name in ENCODER_DECODERS:
        for token_id in tokenizer.encode("小猫坐").ids:
            node = lens.branches.choose(node.id, token_id)
    lens.branches.start = node.id
    return lens
