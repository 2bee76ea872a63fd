from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from pellucid.data.batch import Batch, TokenRows
from pellucid.data.document import Document
from pellucid.data.objectives.causal import Causal
from pellucid.data.objectives.protocol import RowKey
from pellucid.data.shards import TokenShards
from pellucid.data.writer import write_shards
from pellucid.tokens.tokenizer import Tokenizer
from pellucid.tokens.train import train_characters


@pytest.fixture(scope="session")
def ask() -> Callable[[TokenRows], Batch]:
    """What causal language modelling asks of some rows."""
    return lambda rows: Causal().batch(rows, RowKey(seed=0, purpose="a test"))


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return train_characters(["abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ.,\n你好世界"])


@pytest.fixture(scope="session")
def make_shards(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., TokenShards]:
    """Shards of some texts in a folder of their own."""

    def make(texts: Iterable[str], directory: Path | None = None, **options) -> TokenShards:
        documents = [Document(text=text, origin=f"text {index}") for index, text in enumerate(texts)]
        return write_shards(documents, tokenizer, directory or tmp_path_factory.mktemp("shards") / "data", **options)

    return make
