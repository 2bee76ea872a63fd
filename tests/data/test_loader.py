from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.data.batch import Batch, TokenRows
from pellucid.data.loader import Loader, num_windows, windows
from pellucid.data.permutation import permute
from pellucid.data.shards import TokenShards
from pellucid.errors import InputError
from pellucid.keyed_random import number

TEXTS = st.lists(st.text("abc", max_size=9), min_size=1, max_size=5)
LENGTHS = st.integers(1, 12)


def slow_row(shards: TokenShards, context_length: int, seed: int, position: int) -> tuple[list[int], ...]:
    """One row, token by token, as the module's docstring says it."""
    stream = shards.tokens(0, shards.num_tokens).tolist()
    num_rows = -(-len(stream) // context_length)
    epoch, place = divmod(position, num_rows)
    order = permute(torch.arange(num_rows).numpy(), num_rows, number(seed, "data order", epoch)).tolist()
    offset = number(seed, "data offset", epoch) % len(stream) if len(stream) > context_length else 0
    ids, targets, weights = [], [], []
    for column in range(context_length):
        step = order[place] * context_length + column
        real = step < len(stream)
        target = stream[(offset + step + 1) % len(stream)] if real else 0
        ids.append(stream[(offset + step) % len(stream)] if real else None)
        targets.append(target)
        weights.append(float(real and target != shards.manifest.unpredicted_id))
    return ids, targets, weights, [(offset + order[place] * context_length) % len(stream)]


@given(TEXTS, LENGTHS, st.integers(0, 99), st.integers(0, 30), st.integers(1, 9))
@settings(max_examples=60, deadline=None)
def test_rows_equal_the_slow_twin(make_shards, ask, texts, length: int, seed: int, start: int, count: int) -> None:
    shards = make_shards(texts, shard_tokens=7)
    rows = Loader(shards, context_length=length, seed=seed).rows(start, count)
    batch = ask(rows)
    assert rows.index_B.tolist() == list(range(start, start + count))
    assert batch.ids_BT.shape == batch.targets_BT.shape == batch.weights_BT.shape == (count, length)
    for row in range(count):
        ids, targets, weights, first = slow_row(shards, length, seed, start + row)
        real = [token is not None for token in ids]
        assert [i for i, here in zip(batch.ids_BT[row].tolist(), real, strict=True) if here] == [
            i for i in ids if i is not None
        ]
        assert [t for t, here in zip(batch.targets_BT[row].tolist(), real, strict=True) if here] == targets[: sum(real)]
        assert batch.weights_BT[row].tolist() == weights
        assert [int(rows.first_token_B[row])] == first


@given(TEXTS, LENGTHS, st.integers(0, 99), st.integers(0, 3))
@settings(max_examples=40, deadline=None)
def test_an_epoch_predicts_every_token_once(make_shards, ask, texts, length: int, seed: int, epoch: int) -> None:
    shards = make_shards(texts)
    loader = Loader(shards, context_length=length, seed=seed)
    batch = ask(loader.rows(epoch * loader.num_rows_per_epoch, loader.num_rows_per_epoch))
    predicted = targets_of(batch)
    everything = Counter(shards.tokens(0, shards.num_tokens).tolist())
    del everything[shards.manifest.unpredicted_id]
    assert Counter(predicted) == everything


def targets_of(batch: Batch) -> list[int]:
    return batch.targets_BT[batch.weights_BT > 0].tolist()


def same(one: TokenRows, two: TokenRows) -> bool:
    return all(torch.equal(a, b) for a, b in zip(vars(one).values(), vars(two).values(), strict=True))


def test_rows_depend_on_nothing_but_seed_and_position(make_shards) -> None:
    shards = make_shards(["the quick brown fox jumps over the lazy dog " * 5, "hello"])
    loader = Loader(shards, context_length=7, seed=3)
    together = loader.rows(0, 120)
    parts = Loader(shards, context_length=7, seed=3).rows(40, 60).split(60)
    assert all(same(part, row) for part, row in zip(parts, together.split(120)[40:100], strict=True))
    assert not same(together, Loader(shards, context_length=7, seed=4).rows(0, 120))


def test_epochs_differ_in_order_and_in_cut(make_shards) -> None:
    shards = make_shards(["the quick brown fox jumps over the lazy dog " * 5])
    loader = Loader(shards, context_length=10, seed=0)
    size = loader.num_rows_per_epoch
    first, second = (loader.rows(epoch * size, size).first_token_B for epoch in (0, 1))
    assert first.tolist() != sorted(first.tolist())
    assert set((first % 10).tolist()) != set((second % 10).tolist())


def test_first_token_names_the_document(make_shards) -> None:
    shards = make_shards(["aaaa", "bbbb", "cccc"])
    rows = Loader(shards, context_length=3, seed=1).rows(0, 12)
    for row in range(12):
        first = int(rows.first_token_B[row])
        assert shards.tokens(first, first + 1).tolist() == rows.ids_BS[row, :1].tolist()


def test_a_text_shorter_than_the_context_is_read_from_its_beginning(make_shards, ask, tokenizer) -> None:
    batch = ask(Loader(make_shards(["hi"]), context_length=8, seed=5).rows(3, 2))
    h, i = tokenizer.encode("hi").ids
    for row in range(2):
        assert batch.ids_BT[row, :4].tolist() == [tokenizer.bos_id, h, i, tokenizer.eos_id]
        assert batch.targets_BT[row, :3].tolist() == [h, i, tokenizer.eos_id]
        assert batch.weights_BT[row].tolist() == [1, 1, 1, 0, 0, 0, 0, 0]


@given(TEXTS, LENGTHS, st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_windows_predict_every_token_once_in_order(make_shards, ask, texts, length: int, rows: int) -> None:
    shards = make_shards(texts)
    stream = shards.tokens(0, shards.num_tokens).tolist()
    batches = [ask(some) for some in windows(shards, context_length=length, rows=rows)]
    predicted = [target for batch in batches for target in targets_of(batch)]
    assert predicted == [token for token in stream[1:] if token != shards.manifest.unpredicted_id]
    assert {batch.ids_BT.shape for batch in batches} == {(rows, length)}
    assert len(batches) == -(-num_windows(len(stream), length) // rows)


@pytest.mark.parametrize("block", [3, 7])
def test_the_order_does_not_depend_on_how_much_of_it_is_worked_out_at_once(make_shards, block, monkeypatch) -> None:
    shards = make_shards(["the quick brown fox jumps over the lazy dog " * 5])
    whole = Loader(shards, context_length=7, seed=3).rows(0, 90)
    monkeypatch.setattr("pellucid.data.loader.ORDER_BLOCK", block)
    parts = Loader(shards, context_length=7, seed=3)
    assert whole.first_token_B.tolist() == [int(parts.rows(at, 1).first_token_B) for at in range(90)]


def test_a_limit_takes_evenly_spaced_windows(make_shards) -> None:
    shards = make_shards(["a" * 1000])
    (chosen,) = windows(shards, context_length=10, rows=5, max_windows=5)
    assert chosen.first_token_B.tolist() == [0, 200, 400, 600, 800]
    assert len(list(windows(shards, context_length=10, rows=5, max_windows=10_000))) == 21


def test_nothing_to_predict_is_an_error(tmp_path) -> None:
    class OneToken:
        num_tokens, directory = 1, tmp_path

    with pytest.raises(InputError, match="nothing to predict"):
        Loader(OneToken(), context_length=4, seed=0)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="nothing to predict"):
        next(windows(OneToken(), context_length=4, rows=1))  # type: ignore[arg-type]
