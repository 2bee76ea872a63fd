"""One document to a row: each token is a target once an epoch, nothing of another text is in its row, padding is known."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.data.batch import TokenRows
from pellucid.data.document import Document
from pellucid.data.loader import DocumentLoader, Pool, build_loader
from pellucid.data.shards import TokenShards
from pellucid.data.writer import write_shards
from pellucid.tokens.train import train_characters

ALPHABET = "abcde 你好"
TOKENIZER = train_characters([ALPHABET])


def shards_of(texts: list[str], directory) -> TokenShards:
    return write_shards((Document(text=text, origin=str(i)) for i, text in enumerate(texts)), TOKENIZER, directory)


def num_targets(rows: TokenRows) -> int:
    return int((rows.weights_BS[:, 1:] > 0).sum())


@settings(deadline=None, max_examples=40)
@given(texts=st.lists(st.text(ALPHABET, min_size=1, max_size=40), min_size=1, max_size=12), context=st.integers(8, 64))
def test_an_epoch_shows_every_document_alone_and_whole(tmp_path_factory, texts: list[str], context: int) -> None:
    shards = shards_of(texts, tmp_path_factory.mktemp("rows") / "train")
    loader = build_loader(shards, rows="documents", context_length=context, seed=3)
    batch = loader.rows(0, loader.num_rows_per_epoch)
    assert batch.ids_BS.shape[1] - 1 == loader.row_length <= context
    seen = sorted(
        tuple(targets[weights > 0].tolist())
        for targets, weights in zip(batch.ids_BS[:, 1:], batch.weights_BS[:, 1:], strict=True)
    )
    whole = []
    for index in range(shards.num_documents):
        document = shards.document(index)
        targets = shards.tokens(document.start + 1, document.stop).tolist()
        whole += [tuple(targets[i : i + loader.row_length]) for i in range(0, len(targets), loader.row_length)]
    assert seen == sorted(whole)
    assert loader.num_cut == sum(len(text) + 1 > loader.row_length for text in texts)
    padding = (batch.weights_BS[:, 1:] == 0).float().mean().item()
    assert padding == pytest.approx(loader.padding_share)
    before_padding = (batch.weights_BS[:, 1:].diff(dim=1) <= 0).all()
    assert before_padding, "padding stands on the right"


def test_rows_are_a_function_of_seed_and_position(tmp_path) -> None:
    shards = shards_of([letter * n for n, letter in enumerate("abcde", start=2)], tmp_path / "train")
    loader = DocumentLoader(shards, context_length=16, seed=1)
    together, parts = loader.rows(3, 9), [loader.rows(3, 4), loader.rows(7, 5)]
    assert torch.equal(together.ids_BS, torch.cat([part.ids_BS for part in parts]))
    orders = [loader.rows(epoch * 5, 5).first_token_B.tolist() for epoch in range(4)]
    assert len({tuple(order) for order in orders}) > 1 and len({tuple(sorted(order)) for order in orders}) == 1
    assert shards.document(shards.document_at(int(together.first_token_B[0]))).start == together.first_token_B[0]


@settings(deadline=None, max_examples=40)
@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=60),
    rows=st.integers(1, 5),
    updates=st.integers(2, 4),
    context=st.integers(8, 64),
)
def test_pools_show_the_same_rows_with_less_padding(
    tmp_path_factory, lengths: list[int], rows: int, updates: int, context: int
) -> None:
    shards = shards_of([ALPHABET[0] * n for n in lengths], tmp_path_factory.mktemp("rows") / "train")
    plain = DocumentLoader(shards, context, seed=3)
    loader = DocumentLoader(shards, context, seed=3, pool=Pool(rows=rows, updates=updates))
    count = plain.num_rows_per_epoch
    every = [loader.rows(at, min(rows, count - at)) for at in range(0, count, rows)]
    firsts = torch.cat([batch.first_token_B for batch in every])
    assert sorted(firsts.tolist()) == sorted(plain.rows(0, count).first_token_B.tolist())
    assert sum(map(num_targets, every)) == sum(lengths) + len(lengths)
    assert all(batch.ids_BS.shape[1] - 1 == min(context, max(8, -(-batch.longest // 8) * 8)) for batch in every)
    positions = sum(batch.ids_BS[:, 1:].numel() for batch in every)
    assert 1 - (sum(lengths) + len(lengths)) / positions == pytest.approx(loader.padding_share)
    assert loader.padding_share <= plain.padding_share + 1e-9
    for begin in range(0, count - rows * updates + 1, rows * updates):  # a whole pool: updates do not interleave
        spans = sorted(
            (int(lengths_B.min()), int(lengths_B.max()))
            for lengths_B in (
                (loader.rows(begin + at * rows, rows).weights_BS[:, 1:] > 0).sum(1) for at in range(updates)
            )
        )
        assert all(first[1] <= second[0] for first, second in pairwise(spans))


def test_the_updates_of_a_pool_come_in_an_order_of_their_own(tmp_path) -> None:
    shards = shards_of(["a" * (1 + n % 30) for n in range(240)], tmp_path / "train")
    loader = DocumentLoader(shards, context_length=64, seed=1, pool=Pool(rows=4, updates=6))
    widths = [loader.rows(4 * update, 4).longest for update in range(60)]
    pools = [widths[at : at + 6] for at in range(0, 60, 6)]
    assert any(pool != sorted(pool) for pool in pools)
    orders = {tuple(sorted(range(6), key=pool.__getitem__)) for pool in pools}
    assert len(orders) > 3
    together, parts = loader.rows(8, 8), [loader.rows(8, 4), loader.rows(12, 4)]
    assert torch.equal(together.first_token_B, torch.cat([part.first_token_B for part in parts]))


def test_a_row_begins_with_its_document_and_the_rest_of_a_long_one_follows(tmp_path) -> None:
    shards = shards_of(["a" * 20, "b"], tmp_path / "train")
    loader = DocumentLoader(shards, context_length=8, seed=1)
    batch = loader.rows(0, loader.num_rows_per_epoch)
    assert (loader.num_rows_per_epoch, loader.num_cut, loader.row_length) == (4, 1, 8)
    assert sorted(batch.first_token_B.tolist()) == [0, 8, 16, 22]
    assert int(np.sum(batch.weights_BS[:, 1:].numpy())) == 21 + 2


def test_evaluation_reads_every_document_once_in_order(tmp_path) -> None:
    shards = shards_of(["a" * 20, "b", "cd"], tmp_path / "train")
    loader = DocumentLoader(shards, context_length=8, seed=1)
    batches = list(loader.in_order(rows=3))
    firsts = torch.cat([batch.first_token_B for batch in batches]).tolist()
    assert firsts[:5] == [0, 8, 16, 22, 25] and len(batches) == 2 and all(b.num_rows == 3 for b in batches)
    assert sum(map(num_targets, batches)) == 21 + 2 + 3
    assert sum(map(num_targets, loader.in_order(rows=2, max_rows=2))) < 26
