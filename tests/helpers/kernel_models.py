"""Decoders of odd sizes in every shape that the compiled loops know, with weights none of which is 0 or 1."""

from __future__ import annotations

import numpy as np
import torch

from pellucid.model.build import build
from pellucid.planning.config import ModelConfig

ODD = {
    "vocab_size": 131, "context_length": 700, "n_layers": 2, "n_heads": 6, "n_kv_heads": 2, "head_dim": 20, "d_model": 75, "d_ff": 83,
    "init": "gpt2",
}  # fmt: skip
GPT2 = {
    "position": "learned",
    "norm": "layer",
    "feed_forward": "gelu_tanh",
    "qk_norm": False,
    "qkv_bias": True,
    "n_kv_heads": 6,
}
GEMMA = {
    "norm": {"kind": "rms", "placement": "around", "one_plus": True},
    "embedding": {"scaled": True},
    "attention": {"scale": 0.3},
}
CAPS = {"attention": {"scale": 0.9, "softcap": 1.5, "qk_norm": False}, "head": {"softcap": 2.0}}
SHAPES = {
    "qwen3": {},
    "llama": {"qk_norm": False, "tied_head": False},
    "qwen2": {"qk_norm": False, "qkv_bias": True, "n_kv_heads": 1},
    "gpt2": dict(**GPT2, output_bias=True, mlp_bias=True),
    "sinusoidal": {"position": "sinusoidal", "norm": "layer_no_bias", "feed_forward": "gelu", "n_kv_heads": 3},
    "window": {"sliding_window": 40, "rope_scaling": "linear", "rope_factor": 2.0},
    "yarn": {"rope_scaling": "yarn", "rope_factor": 4.0, "rope_original_context": 64, "rope_attention_factor": 1.3},
    "window over pages": {"sliding_window": 270, "n_kv_heads": 6},
    "windows": {"sliding_window": 6, "sliding_layers": (0,)},
    "windows over pages": {"sliding_window": 270, "sliding_layers": (1,), "n_kv_heads": 6},
    "none": {"position": "none", "feed_forward": "relu2", "n_kv_heads": 6},
    "geglu": {"feed_forward": "geglu", "mlp_bias": True},
    "skipped": {"position": {"kind": "rotary", "skipped": (1,)}},
    "two bases": {
        "position": {"kind": "rotary", "theta": 1e6, "window_theta": 500.0},
        "sliding_window": 60,
        "sliding_layers": (1,),
    },
    "learned from row 2": {**GPT2, "position": {"kind": "learned", "first": 2}},
    "sines, then cosines": {"position": {"kind": "sinusoidal", "halves": True}},
    "gemma2": {**GEMMA, **CAPS, "feed_forward": "geglu_tanh", "sliding_window": 60, "sliding_layers": (0,)},
    "gemma3": {**GEMMA, "feed_forward": "geglu_tanh"},
    "layer norms around": {**GPT2, "norm": {"kind": "layer", "placement": "around"}, "attention": {"softcap": 1.5}},
    "a mixture between norms": {**GEMMA, "feed_forward": {"experts": {"count": 5, "active": 2, "width": 45}}},
    "relu": {"feed_forward": "relu", "mlp_bias": True, "head": {"bias": True}},
    "silu": {"feed_forward": "silu", "head": {"bias": True, "softcap": 2.0}, "tied_head": False},
    "mixture": {"feed_forward": {"experts": {"count": 5, "active": 2, "width": 45}}},
    "mixture in one block": {"feed_forward": {"experts": {"count": 35, "active": 3, "width": 19, "layers": (1,)}}},
    "shares as they are": {
        "feed_forward": {"kind": "relu2", "experts": {"count": 4, "active": 4, "width": 97, "normalised": False}}
    },
}
FORMATS = ["fp32", "bf16", "int8", "int4"]


def make(dtype: torch.dtype = torch.float32, seed: int = 1, **axes) -> torch.nn.Module:
    model = build(ModelConfig.from_axes(**{**ODD, **axes}), seed=seed)
    generator = torch.Generator().manual_seed(2)
    for weight in model.parameters():  # norms and biases too, so that none is 1 or 0
        weight.data += 0.05 * torch.randn(weight.shape, generator=generator)
    return model.to(dtype)


def some_ids(count: int) -> list[int]:
    return np.random.default_rng(0).integers(0, ODD["vocab_size"], count).tolist()


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    return np.array_equal(a.view(np.uint32), b.view(np.uint32))
