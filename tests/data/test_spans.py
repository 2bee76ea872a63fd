"""Span corruption: source and targets give the text back; how much is hidden, where, and the loss by hand."""

from __future__ import annotations

import dataclasses
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pellucid.data.batch import TokenRows
from pellucid.data.loader import Loader
from pellucid.data.objectives.protocol import ACCURACY, LOSS, RowKey
from pellucid.data.objectives.seq2seq import SourceBatch
from pellucid.data.objectives.settings import SpanSettings
from pellucid.data.objectives.spans import SpansObjective, draw_spans, num_spans
from pellucid.errors import TokenizerError
from pellucid.tokens.train import train_characters

KEY = RowKey(seed=3, purpose="objective")
START, END, BOS, SENTINELS = 0, 1, 2, tuple(range(30, 60))
IS_TEXT = (np.arange(60) >= 3) & (np.arange(60) < 30)


def objective(**asked: float) -> SpansObjective:
    return SpansObjective(
        settings=SpanSettings(**asked), sentinel_ids=SENTINELS, start_id=START, end_id=END, is_text_V=IS_TEXT
    )


def rows_of(ids_BS: torch.Tensor, lengths: list[int] | None = None, *, start: int = 0) -> TokenRows:
    index_B = torch.arange(len(ids_BS)) + start
    lengths_B = torch.tensor(lengths or [ids_BS.size(1)] * len(ids_BS))
    weights_BS = (torch.arange(ids_BS.size(1)) < lengths_B[:, None]).float() * (ids_BS != BOS)
    return TokenRows(ids_BS=ids_BS, weights_BS=weights_BS, lengths_B=lengths_B, first_token_B=index_B, index_B=index_B)


def restore(source: list[int], targets: list[int]) -> list[int]:
    """The text from its two parts, as a person would put it together: each sentinel is looked up in the targets."""
    assert targets[-1] == END
    held: dict[int, list[int]] = {}
    for token in targets[:-1]:
        if token in SENTINELS:
            held[token] = []
            last = token
        else:
            held[last].append(token)
    assert held.pop(last) == [], "the last sentinel stands for nothing"
    return [token for part in source for token in held.get(part, [part])]


@st.composite
def random_rows(draw: st.DrawFn) -> TokenRows:
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    shape = (draw(st.integers(1, 5)), draw(st.integers(3, 60)))
    ids_BS = torch.randint(3, 30, shape, generator=generator)
    special = torch.rand(shape, generator=generator) < draw(st.sampled_from([0.0, 0.1, 0.5]))
    ids_BS[special] = torch.randint(1, 3, shape, generator=generator)[special]
    lengths = torch.randint(0, shape[1] + 1, shape[:1], generator=generator).tolist()
    return rows_of(ids_BS, lengths, start=draw(st.integers(0, 99)))


ASKED = st.builds(SpanSettings, share=st.floats(0.01, 1), mean_length=st.floats(2, 10))


def split(batch: SourceBatch, row: int) -> tuple[list[int], list[int]]:
    """The source and the targets of one row, without padding."""
    source = batch.source_BS[row, : batch.source_lengths_B[row]].tolist()
    targets = batch.targets_BT[row].tolist()
    return source, targets[: len(targets) - targets[::-1].index(END)]


@given(random_rows(), ASKED)
def test_source_and_targets_give_the_text_back(rows: TokenRows, asked: SpanSettings) -> None:
    batch = dataclasses.replace(objective(), settings=asked).batch(rows, KEY)
    for row, length in enumerate(rows.lengths_B.tolist()):
        source, targets = split(batch, row)
        assert restore(source, targets) == rows.ids_BS[row, :-1][:length].tolist()
        sentinels = [token for token in targets if token in SENTINELS]
        assert sentinels == [*SENTINELS[: len(sentinels)]], "they are counted from the first"
        assert not any(token in (END, BOS) for token in targets[:-1]), "special tokens are never hidden"
        assert not any(a in SENTINELS and b in SENTINELS for a, b in pairwise(targets[:-2]))
        counts = batch.weights_BT[row] > 0
        assert counts[: len(targets)].all() == bool(len(targets) > 2) and not counts[len(targets) :].any()


@given(random_rows(), ASKED)
def test_the_decoder_reads_its_targets_one_place_later(rows: TokenRows, asked: SpanSettings) -> None:
    batch = dataclasses.replace(objective(), settings=asked).batch(rows, KEY)
    assert (batch.ids_BT[:, 0] == START).all() and torch.equal(batch.ids_BT[:, 1:], batch.targets_BT[:, :-1])
    assert batch.total_weight == max(1, batch.weights_BT.sum())
    assert batch.source_BS.size(1) % 8 == 0 and batch.ids_BT.size(1) % 8 == 0


@given(st.integers(2, 400), ASKED, st.integers(0, 2**63))
def test_as_much_is_hidden_as_asked_in_spans_that_do_not_touch(size: int, asked: SpanSettings, key: int) -> None:
    spans = draw_spans(np.ones(size, bool), asked, np.uint64(key))
    hidden, count = num_spans(size, asked)
    assert len(spans) == count and sum(stop - start for start, stop in spans) == hidden
    assert 1 <= hidden < size and hidden == pytest.approx(min(max(1, size * asked.share), size - 1), abs=0.51)
    assert all(start < stop for start, stop in spans)
    assert all(before[1] < after[0] for before, after in pairwise(spans))
    assert spans[0][0] >= 0 and spans[-1][1] <= size


def test_the_shares_are_those_of_the_paper_and_every_place_is_hidden_alike() -> None:
    """Of 512 tokens 77 are hidden (15 %) in 26 spans (3 on average)."""
    drawn = [draw_spans(np.ones(512, bool), SpanSettings(), np.uint64(KEY.of(row))) for row in range(2000)]
    hidden = np.zeros(512)
    for spans in drawn:
        assert len(spans) == 26 and sum(stop - start for start, stop in spans) == 77
        for start, stop in spans:
            hidden[start:stop] += 1
    middle = hidden[10:-10] / len(drawn)
    assert middle.mean() == pytest.approx(0.15, abs=0.002) and middle.min() > 0.1 and middle.max() < 0.2
    assert min(hidden[0], hidden[-1]) > 0.04 * len(drawn), "the ends too"


def test_a_span_ends_before_a_special_token() -> None:
    may = np.ones(40, bool)
    may[::4] = False
    for row in range(50):
        for start, stop in draw_spans(may, SpanSettings(share=0.5, mean_length=6.0), np.uint64(KEY.of(row))):
            assert may[start:stop].all()


def test_a_row_is_hidden_alike_in_every_batch_and_otherwise_in_the_next_epoch(make_shards) -> None:
    loader = Loader(make_shards(["abcdefghij klmnop"] * 40), 24, seed=1)
    vocab_size = loader.shards.manifest.vocab_size
    hide = SpansObjective(
        settings=SpanSettings(share=0.3), sentinel_ids=tuple(range(vocab_size, vocab_size + 30)), start_id=START,
        end_id=END, is_text_V=np.arange(vocab_size) > 2,
    )  # fmt: skip
    together = hide.batch(loader.rows(6, 8), KEY)
    for row in range(8):
        alone = hide.batch(loader.rows(6 + row, 1), KEY)
        length = alone.source_lengths_B[0]
        assert torch.equal(alone.source_BS[0, :length], together.source_BS[row, :length])
        assert together.source_lengths_B[row] == length
    row = loader.rows(0, 1)
    again = dataclasses.replace(row, index_B=row.index_B + loader.num_rows_per_epoch)
    left, right = hide.batch(row, KEY), hide.batch(again, KEY)
    assert left.source_BS.shape != right.source_BS.shape or not torch.equal(left.source_BS, right.source_BS)


def test_the_loss_by_hand() -> None:
    """Targets <X> a <Z>: P = 0.5, 0.25 and 0.8. -ln P: 0.693147 + 1.386294 + 0.223144 = 2.302585; by three: 0.767528."""
    probabilities = torch.tensor([[0.5, 0.25, 0.25], [0.25, 0.25, 0.5], [0.1, 0.1, 0.8], [1 / 3] * 3])
    asked = []

    def model(ids_BT, *, source_BS, source_lengths_B):
        asked.append((ids_BT.tolist(), source_BS.tolist(), source_lengths_B.tolist()))
        return SimpleNamespace(logits_BTV=probabilities.log()[None])

    batch = SourceBatch(
        ids_BT=torch.tensor([[9, 0, 1, 2]]),
        targets_BT=torch.tensor([[0, 1, 2, 0]]),
        weights_BT=torch.tensor([[1.0, 1.0, 1.0, 0.0]]),
        total_weight=torch.tensor(3.0),
        source_BS=torch.tensor([[7, 8, 0]]),
        source_lengths_B=torch.tensor([2]),
    )
    assert objective().loss(model, batch).item() == pytest.approx(0.767528, abs=1e-6)
    measured = objective().measure(model, batch)
    assert measured[LOSS][0, :3].tolist() == pytest.approx([0.693147, 1.386294, 0.223144], abs=1e-6)
    assert measured[ACCURACY][0, :3].tolist() == [1.0, 0.0, 1.0]
    assert asked[0] == ([[9, 0, 1, 2]], [[7, 8, 0]], [2])


def test_a_tokenizer_needs_sentinels_an_end_and_a_beginning() -> None:
    plain = train_characters(["abc"], specials="standard")
    with pytest.raises(TokenizerError) as caught:
        SpansObjective.of(SpanSettings(), plain)
    assert caught.value.found == f"char, {plain.vocab_size} tokens, none with the role sentinel"
    assert caught.value.hint == "add --set tokenizer.specials=sentinels"
    names = [f"<extra_id_{number}>" for number in range(4)]
    built = SpansObjective.of(SpanSettings(), plain.with_tokens(names))
    assert len(built.sentinel_ids) == 4 and built.end_id == plain.eos_id and built.start_id == plain.roles.first("pad")
    with pytest.raises(TokenizerError) as caught:
        built.batch(rows_of(torch.full((1, 85), 7)), KEY)
    assert caught.value.found == "4 with the role sentinel, 5 needed for rows of 84 tokens"
    with pytest.raises(TokenizerError, match="begin with"):
        SpansObjective.of(SpanSettings(), train_characters(["abc"], specials="none").with_tokens(names))
    ready = SpansObjective.of(SpanSettings(), train_characters(["abc"], specials="sentinels"))
    assert len(ready.sentinel_ids) == 100
