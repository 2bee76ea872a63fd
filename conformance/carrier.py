"""A model that only carries a vocabulary: the smallest Llama that llama.cpp loads, all weights zero."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from pellucid.store.gguf_write import TensorToWrite, serialize_gguf
from pellucid.store.quantize import BY_NAME

WIDTH = 32
VALUES = {
    "general.architecture": "llama", "general.name": "carrier", "llama.block_count": 1, "llama.context_length": 128,
    "llama.embedding_length": WIDTH, "llama.feed_forward_length": WIDTH, "llama.attention.head_count": 1,
    "llama.attention.layer_norm_rms_epsilon": 1e-5, "llama.rope.dimension_count": WIDTH,
}  # fmt: skip
VECTORS = ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm")
MATRICES = tuple(
    f"blk.0.{part}" for part in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
)


def write_carrier(path: Path, values: Mapping[str, Any], num_tokens: int) -> None:
    """Write the values of a tokenizer (`tokenizer.…`) into a model of that many tokens."""
    own = {name: value for name, value in values.items() if name.startswith("tokenizer.")}
    shapes = {
        "token_embd": (num_tokens, WIDTH),
        **dict.fromkeys(MATRICES, (WIDTH, WIDTH)),
        **dict.fromkeys(VECTORS, (WIDTH,)),
    }
    tensors = {f"{name}.weight": _zeros(shape) for name, shape in shapes.items()}
    with path.open("wb") as file:
        for chunk in serialize_gguf({**VALUES, **own}, tensors)[1]:
            file.write(chunk)


def _zeros(shape: tuple[int, ...]) -> TensorToWrite:
    form = BY_NAME["F32" if len(shape) == 1 else "F16"]
    count = form.num_bytes(torch.Size(shape).numel())
    return TensorToWrite(shape=shape, form=form, pack=partial(torch.zeros, count, dtype=torch.uint8))
