from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from pellucid.data.batch import TokenRows
from pellucid.settings import Layer, Resolved, resolve
from pellucid.training import make_plan
from pellucid.training.measure import Rates
from pellucid.training.recipes import pretrain as recipe
from pellucid.training.recipes.pretrain import Pretraining
from pellucid.training.settings import TrainSettings

WORDS = [
    "the",
    "cat",
    "sat",
    "on",
    "a",
    "mat",
    "and",
    "dog",
    "ran",
    "to",
    "see",
    "old",
    "house",
    "where",
    "tea",
    "was",
    "hot",
    "小猫",
    "在",
    "花园",
    "里",
    "睡觉",
    "。",
]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
    torch.use_deterministic_algorithms(False)


@pytest.fixture(scope="session")
def make_quick() -> Callable[[pytest.MonkeyPatch], None]:
    """No measuring (a plan must not depend on how busy the machine is) and no drawing."""

    def make(patch: pytest.MonkeyPatch) -> None:
        rates = Rates(training_flops_per_second=1e10, determinism_cost=0.0)
        patch.setattr(make_plan, "measure_training", lambda *args, **options: rates)
        patch.setattr(recipe, "draw_loss", lambda run: None)

    return make


@pytest.fixture
def quick(make_quick: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch) -> None:
    make_quick(monkeypatch)


def make_prose(num_words: int, seed: int = 0) -> str:
    """Words in an order that is the same everywhere."""
    picks = (hashlib.blake2b(f"{seed}/{i}".encode(), digest_size=2).digest() for i in range(num_words))
    return " ".join(WORDS[int.from_bytes(pick, "little") % len(WORDS)] for pick in picks)


def tiny(**changes: object) -> Resolved[TrainSettings]:
    """Settings of a run that takes a fraction of a second."""
    values: dict[str, object] = {
        "threads": 1,
        "device": "cpu",
        "steps": 6,
        "compile": "off",
        "tokenizer": {"vocab_size": 322},
        "model": {"n_layers": 2, "d_model": 16, "n_heads": 2, "n_kv_heads": 1, "head_dim": 8, "d_ff": 24,
                  "context_length": 16, "depth": 1},
        "batch": {"tokens": 64, "micro_rows": 2},
        "evaluation": {"every_steps": 2},
    }  # fmt: skip
    return resolve(TrainSettings, Layer("test", values), Layer("changes", changes))


def make_task(text: Path, out: Path, **changes: object) -> Pretraining:
    return Pretraining(text=text, out=out, resolved=tiny(**changes))


class Rows:
    """Random rows whose weights differ from row to row."""

    def __init__(self, vocab_size: int = 11, context_length: int = 7) -> None:
        self.vocab_size, self.context_length = vocab_size, context_length
        self.asked: list[int] = []

    def rows(self, start: int, count: int) -> TokenRows:
        self.asked.append(start)
        generator = torch.Generator().manual_seed(start)
        shape = (count, self.context_length + 1)
        ids_BS = torch.randint(self.vocab_size, shape, generator=generator)
        weights_BS = (torch.rand(shape, generator=generator) > 0.3).float()
        index_B, lengths_B = torch.arange(count) + start, torch.full((count,), shape[1])
        return TokenRows(
            ids_BS=ids_BS, weights_BS=weights_BS, lengths_B=lengths_B, first_token_B=index_B, index_B=index_B
        )


@pytest.fixture
def rows_of() -> type[Rows]:
    return Rows


@pytest.fixture(scope="session")
def prose():
    return make_prose


@pytest.fixture(scope="session")
def task():
    return make_task
