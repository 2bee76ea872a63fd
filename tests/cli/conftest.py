from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from typing import NamedTuple

import pytest
import torch

from pellucid.cli.app import main
from pellucid.cli.language import ask
from pellucid.model.build import build
from pellucid.planning.config import ModelConfig
from pellucid.store.checkpoint import save_checkpoint
from pellucid.tokens.train import train_bpe


class Outcome(NamedTuple):
    """What a command answered."""

    code: int
    out: str
    err: str


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Outcome]]:
    """Run the command line in this process, piped: `run("plan", "gpt3")`, and undo what it set for the process."""

    def call(*arguments: object, stdin: bytes = b"") -> Outcome:
        out, err = io.StringIO(), io.StringIO()
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8"))
        with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        return Outcome(ended.value.code, out.getvalue(), err.getvalue())

    threads = torch.get_num_threads()
    yield call
    torch.set_num_threads(threads)
    ask(None)  # the language
    torch.use_deterministic_algorithms(False)


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
