"""How weights start.

    gpt2               every matrix N(0, 0.02²); projections that write into the stream N(0, (0.02/√(2L))²); biases 0
    zero_projections   embedding N(0, 0.02²) (tied head) or N(0, 1) (untied, whose head starts at 0);
                       reading matrices U(±√(3/fan_in)), writing projections 0: every block starts as the identity
    matched_keys       the same, but keys begin much like queries: Wk = 0.7 Wq + √(1 - 0.7²) U, so that from the first
                       step a position attends most to positions that hold what it holds itself

Each parameter draws from its own generator, keyed by (seed, name), so that its start does not depend on which other
parameters exist.

Source: Radford et al. 2019 §2.3; Trockman & Kolter 2023 (queries and keys that begin alike); the zero start of writing projections: Zhang et al. 2019 (Fixup), Jordan 2024.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pellucid.keyed_random import generator_seed
from pellucid.planning.config import ModelConfig

WRITES_TO_STREAM = ("attention.output.weight", "mlp.down.weight")
KEY, QUERY = "attention.key.weight", "attention.query.weight"
LIKENESS = 0.7  # correlation of keys with queries under matched_keys; 0.95 was no better (docs/log.md)


def init_weights(model: nn.Module, config: ModelConfig, seed: int) -> None:
    """Fill every parameter of `model` in place."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
            elif parameter.dim() == 1:  # norms
                parameter.fill_(1.0)
            elif config.init == "gpt2":
                parameter.copy_(_gpt2(name, parameter, config, seed))
            else:
                parameter.copy_(_zero_projections(name, parameter, config, seed))


def _gpt2(name: str, parameter: Tensor, config: ModelConfig, seed: int) -> Tensor:
    std = 0.02 / math.sqrt(2 * config.n_layers) if name.endswith(WRITES_TO_STREAM) else 0.02
    return _normal(name, parameter, seed) * std


def _zero_projections(name: str, parameter: Tensor, config: ModelConfig, seed: int) -> Tensor:
    if name.endswith(WRITES_TO_STREAM) or name == "head.weight":
        return torch.zeros(parameter.shape)
    if name in ("embed.weight", "position.weight"):
        # A tied head reads the same matrix: longer rows would make every token predict itself.
        return _normal(name, parameter, seed) * (0.02 if config.tied_head else 1.0)
    drawn = _uniform(name, parameter.shape, seed)
    if config.init == "matched_keys" and name.endswith(KEY):
        query = _uniform(name.removesuffix(KEY) + QUERY, (config.d_attention, parameter.size(1)), seed)
        # Query heads that share a key head: the key begins like the first of them.
        shared = query.unflatten(0, (config.n_kv_heads, -1, config.head_dim))[:, 0].flatten(0, 1)
        return LIKENESS * shared + math.sqrt(1 - LIKENESS**2) * drawn
    return drawn


def _uniform(name: str, shape: Sequence[int], seed: int) -> Tensor:
    bound = math.sqrt(3 / shape[1])
    return (torch.rand(tuple(shape), generator=_generator(name, seed)) * 2 - 1) * bound


def _normal(name: str, parameter: Tensor, seed: int) -> Tensor:
    return torch.randn(parameter.shape, generator=_generator(name, seed))


def _generator(name: str, seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(generator_seed(seed, name))
