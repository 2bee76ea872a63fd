from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from command import Outcome, call, undone

from pellucid.model.build import build
from pellucid.planning.config import ModelConfig
from pellucid.store.checkpoint import save_checkpoint
from pellucid.tokens.train import train_bpe


@pytest.fixture
def run() -> Iterator[Callable[..., Outcome]]:
    """Run the command line in this process, piped: `run("plan", "gpt3")`, and undo what it set for the process."""
    with undone():
        yield call


@pytest.fixture(scope="session")
def directory(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small model with its tokenizer, on disk."""
    tokenizer = train_bpe(["the cat sat. 猫坐着。 " * 9], 280, specials="none")
    config = ModelConfig(
        vocab_size=tokenizer.vocab_size, context_length=24, n_layers=1, n_heads=2, n_kv_heads=1, head_dim=8,
        d_model=16, d_ff=24, init="gpt2",
    )  # fmt: skip
    weights = dict(build(config, seed=0).named_parameters())
    path = tmp_path_factory.mktemp("verbs") / "model"
    save_checkpoint(path, config=config, weights=weights, tokenizer=tokenizer, info={})
    return str(path)
