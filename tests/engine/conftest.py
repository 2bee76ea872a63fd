"""A byte tokenizer and tiny models: every test of this room runs on them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from pellucid.model.build import build
from pellucid.model.decoder import Decoder
from pellucid.planning.config import ModelConfig
from pellucid.tokens.tokenizer import Tokenizer
from pellucid.tokens.train import train_bpe


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def byte_tokenizer() -> Tokenizer:
    """One token per byte: characters of several bytes are spread over several tokens."""
    return train_bpe(["a"], 258, specials="none")


@pytest.fixture(scope="session")
def merged_tokenizer() -> Tokenizer:
    """Tokens of one byte up to whole words, in two languages."""
    return train_bpe(["hello world, 你好世界。hello there, 你好 " * 20], 300, specials="none")


@pytest.fixture(scope="session")
def tiny_model() -> Callable[..., Decoder]:
    """Build a model of a few thousand parameters whose distributions are far from flat."""

    def make(vocab_size: int, *, context_length: int = 24, seed: int = 0, sharpness: float = 30.0, **axes) -> Decoder:
        shape = {"n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "head_dim": 8, "d_model": 32, "d_ff": 48}
        start = {"tied_head": False, "init": "gpt2"}
        config = ModelConfig.from_axes(
            vocab_size=vocab_size, context_length=context_length, **{**shape, **start, **axes}
        )
        model = build(config, seed=seed)
        with torch.no_grad():
            model.final_norm.weight.mul_(sharpness)
        return model

    return make
