from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import pytest
import torch

from pellucid.model.build import build
from pellucid.planning.config import ModelConfig

SMALL = ModelConfig(
    vocab_size=37, context_length=19, n_layers=2, n_heads=3, n_kv_heads=1, head_dim=6, d_model=20, d_ff=31
)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def config() -> ModelConfig:
    return SMALL


@pytest.fixture
def weights(config) -> dict[str, torch.Tensor]:
    model = build(config, seed=3)
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(tensor.shape, generator=generator) for name, tensor in model.state_dict().items()}


def mutated(data: bytes, count: int) -> Iterator[bytes]:
    """Damaged copies: bits of the length and the header, numbers in it, bytes lost, repeated or exchanged."""
    length, draw = int.from_bytes(data[:8], "little"), random.Random(7)
    for number in range(count):
        damaged, at = bytearray(data), draw.randrange(8 + length)
        kind = number % 6
        if kind == 0:
            damaged[draw.randrange(8)] ^= 1 << draw.randrange(8)
        elif kind == 1:
            damaged[at] ^= 1 << draw.randrange(8)
        elif kind == 2:
            digits = [i for i in range(8, 8 + length) if chr(data[i]).isdigit()]
            damaged[draw.choice(digits)] = ord(draw.choice('0123456789-e."'))
        elif kind == 3:
            del damaged[at : at + draw.randrange(1, 9)]
        elif kind == 4:
            damaged[at:at] = damaged[at : at + draw.randrange(1, 9)]
        else:
            damaged[at : at + 4] = draw.randbytes(4)
        if bytes(damaged) != data:
            yield bytes(damaged)


@pytest.fixture
def mutations() -> Callable[[bytes, int], Iterator[bytes]]:
    return mutated
