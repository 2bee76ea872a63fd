"""A tokenizer of two languages and a tiny model with pronounced opinions."""

from __future__ import annotations

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
def tokenizer() -> Tokenizer:
    return train_bpe(["the cat sat on the mat. 猫坐在垫子上。 " * 20], 290, specials="none")


@pytest.fixture
def model(tokenizer) -> Decoder:
    config = ModelConfig(
        vocab_size=tokenizer.vocab_size, context_length=16, n_layers=2, n_heads=2, n_kv_heads=1, head_dim=8,
        d_model=16, d_ff=24, tied_head=False, dropout=0.3, init="gpt2",
    )  # fmt: skip
    model = build(config, seed=0).eval()
    with torch.no_grad():
        model.final_norm.weight.mul_(30)
    return model
