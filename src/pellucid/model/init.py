"""Weight initialisation: the values that parameters have before training.

    gpt2               every matrix N(0, 0.02²); projections that write into the stream N(0, (0.02/√(2L))²); biases 0
    zero_projections   embedding N(0, 0.02²) (tied head) or N(0, 1) (untied, whose head starts at 0);
                       larger by √d_model where the tied head divides the stream by that (T5);
                       reading matrices U(±√(3/fan_in)), writing projections 0: every block starts as the identity;
                       queries whose scores have a scale of their own begin smaller or larger by that (T5's start)
    matched_keys       the same, but keys begin much like queries: Wk = 0.7 Wq + √(1 - 0.7²) U, so that from the first
                       step a position attends most to positions whose vectors are like its own

A part says which of these its parameters are (`read`, `write`, `table`, …; see `planning.parts`). Each parameter has a
random generator of its own, keyed by (seed, name), so its start does not depend on which other parameters exist.

Source: Radford et al. 2019 §2.3; Trockman & Kolter 2023 (queries and keys that begin alike); T5's queries: Raffel et al. 2020 (its
code: N(0, 1/(d_model · d_kv))); the zero start of writing projections: Zhang et al. 2019 (Fixup), Jordan 2024.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from pellucid.errors import ModelError
from pellucid.keyed_random import generator_seed
from pellucid.planning.config import Init, ModelConfig
from pellucid.planning.layout import tensor_plans
from pellucid.planning.parts.description import Start, TensorPlan

LIKENESS = 0.7  # correlation of keys with queries under matched_keys; 0.95 was no better (docs/log.md)
Fill = Callable[[TensorPlan, Sequence[int], ModelConfig, int], Tensor]


def init_weights(model: nn.Module, config: ModelConfig, seed: int) -> None:
    """Initialise every parameter of `model` in place, each in the way that its part names.

    Raises ModelError for a parameter that no part describes.
    """
    plans = {tensor.name: tensor for tensor in tensor_plans(config)}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name not in plans:
                raise ModelError("no part of the model says how this parameter starts", found=name)
            fill = STARTS[config.init][plans[name].start]
            parameter.copy_(fill(plans[name], parameter.shape, config, seed))


def _zeros(plan: TensorPlan, shape: Sequence[int], config: ModelConfig, seed: int) -> Tensor:
    return torch.zeros(tuple(shape))


def _ones(plan: TensorPlan, shape: Sequence[int], config: ModelConfig, seed: int) -> Tensor:
    return torch.ones(tuple(shape))


def _narrow(plan: TensorPlan, shape: Sequence[int], config: ModelConfig, seed: int) -> Tensor:
    return _normal(plan.name, shape, seed) * 0.02


def _narrow_by_depth(plan: TensorPlan, shape: Sequence[int], config: ModelConfig, seed: int) -> Tensor:
    return _normal(plan.name, shape, seed) * (0.02 / math.sqrt(2 * config.n_layers))


def _table(plan: TensorPlan, shape: Sequence[int], config: ModelConfig, seed: int) -> Tensor:
    # A tied head reads the same matrix: longer rows would make every token predict itself.
    return _normal(plan.name, shape, seed) * (0.02 * config.table_share if config.tied_head else 1.0)


def _even(plan: TensorPlan, shape: Sequence[int], config: ModelConfig, seed: int) -> Tensor:
    return _uniform(plan.name, shape, seed)


def _query(plan: TensorPlan, shape: Sequence[int], config: ModelConfig, seed: int) -> Tensor:
    return _even(plan, shape, config, seed) * config.query_share


def _like_queries(plan: TensorPlan, shape: Sequence[int], config: ModelConfig, seed: int) -> Tensor:
    query = _uniform(plan.name.replace(".key.", ".query."), (config.d_attention, shape[-1]), seed)
    # Query heads that share a key head: the key begins like the first of them.
    shared = query.unflatten(0, (config.n_kv_heads, -1, config.head_dim))[:, 0].flatten(0, 1)
    return LIKENESS * shared + math.sqrt(1 - LIKENESS**2) * _uniform(plan.name, shape, seed)


SMALL: dict[Start, Fill] = {"zero": _zeros, "one": _ones}
GPT2: dict[Start, Fill] = {
    **SMALL, "table": _narrow, "read": _narrow, "query": _narrow, "key": _narrow, "write": _narrow_by_depth, "head": _narrow,
}  # fmt: skip
ZERO: dict[Start, Fill] = {
    **SMALL, "table": _table, "read": _even, "query": _query, "key": _even, "write": _zeros, "head": _zeros,
}  # fmt: skip
STARTS: dict[Init, dict[Start, Fill]] = {
    "gpt2": GPT2,
    "zero_projections": ZERO,
    "matched_keys": {**ZERO, "key": _like_queries},
}


def _uniform(name: str, shape: Sequence[int], seed: int) -> Tensor:
    bound = math.sqrt(3 / shape[-1])
    return (torch.rand(tuple(shape), generator=_generator(name, seed)) * 2 - 1) * bound


def _normal(name: str, shape: Sequence[int], seed: int) -> Tensor:
    return torch.randn(tuple(shape), generator=_generator(name, seed))


def _generator(name: str, seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(generator_seed(seed, name))
