"""The models that the conformance checks run on: a published one in a format of its own, and random ones.

gpt-nano-sort is JSON with base64 float32, from minGPT, whose activation function is the tanh form of GELU.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pellucid.model.build import build_unfilled
from pellucid.model.decoder import Decoder
from pellucid.planning.config import ModelConfig
from pellucid.planning.params import parameter_shapes

SIZES = {
    "context_length": 256,
    "n_layers": 2,
    "n_heads": 4,
    "n_kv_heads": 2,
    "head_dim": 32,
    "d_model": 128,
    "d_ff": 192,
}
GEMMA = {
    "norm.placement": "around", "norm.one_plus": True, "feed_forward": "geglu_tanh", "embedding.scaled": True,
    "attention.scale": SIZES["head_dim"] ** -0.5, "attention.window.size": 4,
}  # fmt: skip
SHAPES: dict[str, dict] = {
    "gemma2": {**GEMMA, "qk_norm": False, "attention.window.layers": (0,), "attention.softcap": 2.0, "head.softcap": 3.0},
    "gemma3": {
        **GEMMA, "rope_theta": 1e6, "position.window_theta": 1e4, "attention.window.layers": (0, 1, 2, 3, 4, 6), "n_layers": 7,
    },
    "qwen3": {"qk_norm": True, "rope_theta": 1e6},
    "qwen2": {"qk_norm": False, "qkv_bias": True, "tied_head": False},
    "llama": {"qk_norm": False, "norm_eps": 1e-5, "rope_theta": 500_000.0},
    "llama-biased": {"qk_norm": False, "qkv_bias": True, "output_bias": True, "mlp_bias": True},
    "llama-linear": {"qk_norm": False, "rope_scaling": "linear", "rope_factor": 2.5},
    "llama-llama3": {"qk_norm": False, "rope_scaling": "llama3", "rope_factor": 8.0, "rope_original_context": 64},
    "qwen3-yarn": {
        "rope_scaling": "yarn", "rope_factor": 4.0, "rope_original_context": 64, "rope_high_frequency": 32.0,
        "rope_attention_factor": 0.1 * math.log(4) + 1,
    },
    "gpt2": {
        "position": "learned", "norm": "layer", "norm_eps": 1e-5, "feed_forward": "gelu_tanh", "qk_norm": False,
        "qkv_bias": True, "output_bias": True, "mlp_bias": True, "n_kv_heads": 4,
    },
}  # fmt: skip


def random_model(shape: str, vocab_size: int, **axes: object) -> tuple[ModelConfig, dict[str, Tensor]]:
    """A random model whose weights are large enough for every part to matter."""
    config = ModelConfig.from_axes(vocab_size=vocab_size, **{**SIZES, **SHAPES[shape], **axes})
    generator = torch.Generator().manual_seed(1)
    weights = {}
    for name, size in parameter_shapes(config).items():
        x = torch.randn(size, generator=generator)
        neutral = 0 if name.endswith("bias") or config.norm.one_plus else 1
        weights[name] = x * size[-1] ** -0.5 if len(size) == 2 else x * 0.1 + neutral
    return config, weights


def nano_sort(folder: Path) -> tuple[Decoder, dict[str, Tensor]]:
    """Read gpt-nano-sort: the model, and the record of one forward pass under its authors' names (`idx`: the input)."""
    stored = json.loads((folder / "gpt-nano-sort-model.json").read_text())
    partials = json.loads((folder / "gpt-nano-sort-t0-partials.json").read_text())
    sizes = stored["config"]
    config = ModelConfig.from_axes(
        vocab_size=sizes["vocab_size"], context_length=sizes["block_size"], n_layers=sizes["n_layer"],
        n_heads=sizes["n_head"], n_kv_heads=sizes["n_head"], head_dim=sizes["n_embd"] // sizes["n_head"],
        d_model=sizes["n_embd"], d_ff=4 * sizes["n_embd"], norm_eps=1e-5, tied_head=False,
        **{axis: SHAPES["gpt2"][axis] for axis in ("position", "norm", "feed_forward", "qk_norm", "qkv_bias", "output_bias", "mlp_bias")},
    )  # fmt: skip
    model = build_unfilled(config, device="cpu", dtype=torch.float32).eval()
    model.load_state_dict(_nano_weights(stored, config))
    model.requires_grad_(False)
    return model, {name: _array(entry) for name, entry in partials.items() if name != "config"}


ATTENTION = "blocks.0.attention"


def nano_taps(taps: Mapping[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """The activations of our taps under the record's names (it has the first block, and the output of every block)."""
    heads = {letter: taps[f"{ATTENTION}.{name}"] for letter, name in (("q", "query"), ("k", "key"), ("v", "value"))}
    blocks = {f"block{layer}": taps[f"blocks.{layer}.output"] for layer in range(config.n_layers)}
    return {
        "tok_emb": taps["embed"], "x": taps["input"], "ln1": taps["blocks.0.attention_norm"], **heads,
        "qkv": torch.cat([side_by_side(x) for x in heads.values()], -1), "att": taps[f"{ATTENTION}.scores"],
        "attSm": taps[f"{ATTENTION}.weights"], "y": side_by_side(taps[f"{ATTENTION}.mix"]),
        "yProj": taps[f"{ATTENTION}.output"], "attnResid": taps["blocks.0.middle"], "ln2": taps["blocks.0.mlp_norm"],
        "fc": taps["blocks.0.mlp.up"], "gelu": taps["blocks.0.mlp.hidden"], "mlp": taps["blocks.0.mlp.output"],
        "mlpResid": taps["blocks.0.output"], **blocks, "ln_f": taps["final_norm"], "lm_head": taps["logits"],
        "probs": taps["logits"].softmax(-1),
    }  # fmt: skip


def side_by_side(x_BHTK: Tensor) -> Tensor:
    """Concatenate the heads of each position, [B, T, H K]."""
    return x_BHTK.transpose(1, 2).flatten(2)


def _nano_weights(stored: dict, config: ModelConfig) -> dict[str, Tensor]:
    weights = {
        "embed.weight": _array(stored["transformer.wte.weight"]),
        "position.weight": _array(stored["transformer.wpe.weight"]),
        "head.weight": _array(stored["lm_head.weight"]),
    }
    names = {"ln_1": "attention_norm", "attn.c_proj": "attention.output", "ln_2": "mlp_norm", "mlp.c_fc": "mlp.up",
             "mlp.c_proj": "mlp.down"}  # fmt: skip
    for kind in ("weight", "bias"):
        weights[f"final_norm.{kind}"] = _array(stored[f"transformer.ln_f.{kind}"])
        for layer in range(config.n_layers):
            theirs, ours = f"transformer.h.{layer}", f"blocks.{layer}"
            weights |= {
                f"{ours}.{one}.{kind}": _array(stored[f"{theirs}.{other}.{kind}"]) for other, one in names.items()
            }
            thirds = _array(stored[f"{theirs}.attn.c_attn.{kind}"]).chunk(3)
            weights |= {
                f"{ours}.attention.{part}.{kind}": x for part, x in zip(("query", "key", "value"), thirds, strict=True)
            }
    return weights


def _array(entry: dict) -> Tensor:
    numbers = np.frombuffer(base64.b64decode(entry["data"]), "<f4").copy()
    return torch.from_numpy(numbers).view(entry["shape"])
