"""Small GGUF files for tests: models of each shape with random weights, and files changed by the reference library."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import gguf
import numpy as np
import torch

from pellucid.planning.config import ModelConfig
from pellucid.planning.params import parameter_shapes
from pellucid.store.gguf import save_gguf
from pellucid.tokens.train import train_bpe

TOKENIZER = train_bpe(["the cat sat on the mat. 猫坐在垫子上。 " * 9], 300)
SIZES: dict[str, Any] = {
    "vocab_size": TOKENIZER.vocab_size, "context_length": 24, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "head_dim": 16,
    "d_model": 64, "d_ff": 96,
}  # fmt: skip
GEMMA: dict[str, Any] = {
    "norm.placement": "around", "norm.one_plus": True, "feed_forward": "geglu_tanh", "embedding.scaled": True,
    "attention.scale": 0.25, "attention.window.size": 4,
}  # fmt: skip
SHAPES: dict[str, dict[str, Any]] = {
    "qwen3": {"qk_norm": True, "rope_theta": 1e6},
    "qwen2": {"qk_norm": False, "qkv_bias": True, "tied_head": False},
    "llama": {"qk_norm": False, "norm_eps": 1e-5},
    "gpt2": {
        "position": "learned", "norm": "layer", "norm_eps": 1e-5, "feed_forward": "gelu_tanh", "qk_norm": False,
        "qkv_bias": True, "output_bias": True, "mlp_bias": True, "n_kv_heads": 4,
    },
    "gemma2": {
        **GEMMA, "qk_norm": False, "attention.window.layers": (0,), "attention.softcap": 5.0, "head.softcap": 7.0,
    },
    "gemma3": {
        **GEMMA, "rope_theta": 1e6, "position.window_theta": 1e4, "attention.window.layers": (0, 1, 2, 3, 4, 6), "n_layers": 7,
    },
}  # fmt: skip
STRETCHED: dict[str, dict[str, Any]] = {  # transformers' reader of these files has no words for them
    "llama-linear": {"qk_norm": False, "rope_scaling": "linear", "rope_factor": 2.5},
    "qwen3-yarn": {
        "rope_scaling": "yarn",
        "rope_factor": 4.0,
        "rope_original_context": 6,
        "rope_high_frequency": 32.0,
        "rope_attention_factor": 0.1 * math.log(4) + 1,
    },
    "llama-llama3": {"qk_norm": False, "rope_scaling": "llama3", "rope_factor": 8.0, "rope_original_context": 40},
}


def config_of(shape: str, **axes: Any) -> ModelConfig:
    return ModelConfig.from_axes(**{**SIZES, **(SHAPES | STRETCHED)[shape], **axes})


def weights_of(config: ModelConfig) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(4)
    shapes = parameter_shapes(config).items()
    return {name: torch.randn(shape, generator=generator) * 0.3 + (len(shape) == 1) for name, shape in shapes}


def written(path: Path, config: ModelConfig, number_format: Any = "f32", **options: Any) -> dict[str, torch.Tensor]:
    weights = weights_of(config)
    save_gguf(
        path, config=config, weights=weights, tokenizer=TOKENIZER, number_format=number_format, name="trial", **options
    )  # fmt: skip
    return weights


def rewritten(
    source: Path,
    path: Path,
    *,
    drop: str = "",
    tensors: Mapping[str, tuple[np.ndarray, str]] = MappingProxyType({}),
    **changed: Any,
) -> Path:
    """A copy of a file with other values (dots as `__`), or without a value or tensor.

    `tensors`: further ones, or others in the place of those of the same name: the bytes or numbers, and their format.
    """
    reader = gguf.GGUFReader(source)
    changed = {name.replace("__", "."): value for name, value in changed.items()}
    architecture = changed.pop("general.architecture", reader.fields["general.architecture"].contents())
    writer = gguf.GGUFWriter(path, architecture)
    kinds = {int: gguf.GGUFValueType.UINT32, str: gguf.GGUFValueType.STRING, float: gguf.GGUFValueType.FLOAT32,
             bool: gguf.GGUFValueType.BOOL, list: gguf.GGUFValueType.ARRAY}  # fmt: skip
    for field in reader.fields.values():
        if not field.name.startswith(("GGUF.", "general.architecture")) and field.name not in (drop, *changed):
            writer.add_key_value(field.name, field.contents(), field.types[0], sub_type=field.types[-1])
    for name, value in changed.items():
        writer.add_key_value(name, value, kinds[type(value)])
    kept = {tensor.name: (tensor.data, tensor.tensor_type.name) for tensor in reader.tensors if tensor.name != drop}
    for name, (data, form) in {**kept, **tensors}.items():
        writer.add_tensor(name, data, raw_dtype=gguf.GGMLQuantizationType[form])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
