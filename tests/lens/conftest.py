"""Small lenses with nothing hidden: random values everywhere, one for each kind of model that panels must draw."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from lens_families import models_of
from scrambled import scrambled

from pellucid.lens.dispatch import Dispatch
from pellucid.lens.models import Models
from pellucid.model.decoder import Decoder
from pellucid.planning.config import ModelConfig
from pellucid.tokens.tokenizer import Tokenizer
from pellucid.tokens.train import train_bpe

GROUPED = ModelConfig(
    vocab_size=258, context_length=12, n_layers=2, n_heads=4, n_kv_heads=2, head_dim=6, d_model=20, d_ff=31
)
GPT2_LIKE = GROUPED.revise(n_kv_heads=4, position="learned", norm="layer", feed_forward="gelu_tanh", qk_norm=False, qkv_bias=True,
    output_bias=True, mlp_bias=True,
)  # fmt: skip
WINDOWED = GROUPED.revise(tied_head=False, norm="layer_no_bias", feed_forward="relu2", sliding_window=3)
BOTH_WAYS = GROUPED.revise(causal=False, position="sinusoidal")
CONFIGS = {"grouped": GROUPED, "gpt2": GPT2_LIKE, "windowed": WINDOWED, "both_ways": BOTH_WAYS}


class DeskOfOneText(Dispatch):
    """A dispatch whose only text was given: models that see both ways cannot continue one, so no tree would take it."""

    def __init__(self, models: Models, ids: list[int]) -> None:
        super().__init__(models)
        self.row = tuple(ids)

    def ids(self, node: int) -> tuple[int, ...]:
        return self.row

    def text(self, node: int) -> None:
        return None


def desk_of(model: Decoder, text: str) -> Dispatch:
    """A dispatch on a model in memory, with a tokenizer of one token a byte."""
    tokenizer = train_bpe(["a"], 258, specials="none")
    return DeskOfOneText(models_of(model, tokenizer), tokenizer.encode(text).ids)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Models here are so small that threads only wait for each other: beside other processes fifty times as long."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def lens_on() -> Callable[[Tokenizer], Dispatch]:
    """Makes a dispatch without a text, on a small model with this tokenizer."""
    return lambda tokenizer: Dispatch(
        models_of(scrambled(GROUPED.revise(vocab_size=tokenizer.vocab_size, context_length=64)), tokenizer)
    )


@pytest.fixture(params=CONFIGS, scope="module")
def dispatch(request) -> Dispatch:
    """A dispatch that has read "abcabd"."""
    return desk_of(scrambled(CONFIGS[request.param]), "abcabd")
