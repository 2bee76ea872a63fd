from __future__ import annotations

import pytest
import torch
from scrambled import scrambled as build_scrambled

from pellucid.model.decoder import Decoder
from pellucid.planning.config import ModelConfig

SMALL = ModelConfig(
    vocab_size=23, context_length=12, n_layers=2, n_heads=4, n_kv_heads=2, head_dim=6, d_model=20, d_ff=31
)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def config() -> ModelConfig:
    return SMALL


@pytest.fixture
def scrambled():
    """Build a small model with random values everywhere."""

    def make(dtype: torch.dtype = torch.float32, **axes) -> Decoder:
        return build_scrambled(SMALL.revise(**axes), dtype, spread=0.4)

    return make


@pytest.fixture
def ids_BT() -> torch.Tensor:
    return torch.randint(0, SMALL.vocab_size, (2, 12), generator=torch.Generator().manual_seed(5))
