"""Permutation language modelling: which tokens are predicted, in which order, who sees whom; and the loss by hand."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pellucid.data.batch import TokenRows
from pellucid.data.objectives.permutation import PermutationBatch, PermutationObjective
from pellucid.data.objectives.protocol import ACCURACY, LOSS, RowKey
from pellucid.data.objectives.settings import PermutationSettings
from pellucid.model.mask import Permutation

KEY = RowKey(seed=3, purpose="objective")
IS_TEXT = np.arange(30) >= 3


def objective(one_in: int = 6) -> PermutationObjective:
    return PermutationObjective(settings=PermutationSettings(one_in=one_in), is_text_V=IS_TEXT)


def rows_of(ids_BS: torch.Tensor, weights_BS: torch.Tensor | None = None, *, start: int = 0) -> TokenRows:
    index_B, lengths_B = torch.arange(len(ids_BS)) + start, torch.full((len(ids_BS),), ids_BS.size(1))
    weights_BS = torch.ones(ids_BS.shape) if weights_BS is None else weights_BS
    return TokenRows(ids_BS=ids_BS, weights_BS=weights_BS, lengths_B=lengths_B, first_token_B=index_B, index_B=index_B)


@st.composite
def random_rows(draw: st.DrawFn) -> TokenRows:
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    shape = (draw(st.integers(1, 5)), draw(st.integers(2, 40)))
    weights_BS = (torch.rand(shape, generator=generator) < 0.8).float()
    return rows_of(torch.randint(30, shape, generator=generator), weights_BS, start=draw(st.integers(0, 99)))


@given(random_rows(), st.integers(1, 9))
def test_the_last_of_the_order_is_predicted_and_nothing_twice(rows: TokenRows, one_in: int) -> None:
    batch = objective(one_in).batch(rows, KEY)
    ids_BT, told_BT = rows.ids_BS[:, :-1], rows.weights_BS[:, :-1]
    assert torch.equal(batch.ids_BT, ids_BT), "every token is read as it is"
    may_BT = torch.from_numpy(IS_TEXT)[ids_BT] & (told_BT > 0)
    for row in range(rows.num_rows):
        ranks, predicted = batch.ranks_BT[row], batch.ranks_BT[row] > 0
        count = -(-int(may_BT[row].sum()) // one_in)
        assert sorted(ranks[predicted].tolist()) == list(range(1, count + 1))
        assert not predicted[~may_BT[row]].any(), "special tokens and what does not count are only read"
        assert torch.equal(batch.weights_BT[row] > 0, predicted)
        assert torch.equal(batch.targets_BT[row], torch.where(predicted, ids_BT[row], 0))
        asked = batch.asked_BP[row] > 0
        assert ranks[batch.places_BP[row][asked]].tolist() == list(range(1, count + 1)), "in their order"
        assert not batch.places_BP[row][~asked].any()
    assert batch.total_weight == max(1, batch.weights_BT.sum())


def test_a_sixth_is_predicted_and_every_place_as_often_and_as_late() -> None:
    ids_BS = torch.full((4000, 37), 5)
    ranks_BT = objective().batch(rows_of(ids_BS), KEY).ranks_BT
    assert ((ranks_BT > 0).sum(1) == 6).all()
    shares = (ranks_BT > 0).float().mean(0)
    assert shares.min() > 0.14 and shares.max() < 0.194, "4,000 draws at each place: four and a half deviations"
    late = torch.stack([(ranks_BT == rank).float().argmax(1).float().mean() for rank in range(1, 7)])
    assert (late - 17.5).abs().max() < 0.75, "the mean place of each rank is the middle of the row"


@given(random_rows(), st.integers(2, 6))
def test_a_query_sees_neither_itself_nor_what_comes_after_it_in_the_order(rows: TokenRows, one_in: int) -> None:
    """With the model's own masks: the content reads itself, the query does not, and both see all that is only read."""
    batch = objective(one_in).batch(rows, KEY)
    place_B1T = torch.arange(batch.ids_BT.size(1))
    t_BT1 = place_B1T.expand(rows.num_rows, -1)[..., None]
    content = Permutation(ranks_BS=batch.ranks_BT, itself=True).allowed_BTS(t_BT1, place_B1T)
    query = Permutation(ranks_BS=batch.ranks_BT, itself=False).allowed_BTS(t_BT1, place_B1T)
    for row in range(rows.num_rows):
        ranks = batch.ranks_BT[row].tolist()
        for t, own in enumerate(ranks):
            assert content[row, t].tolist() == [s == t or other <= own for s, other in enumerate(ranks)]
            if own:
                assert query[row, t].tolist() == [other < own for other in ranks] and not query[row, t, t]


def test_a_row_is_ordered_alike_in_every_batch_and_width_and_otherwise_in_another_epoch() -> None:
    ids_BS = torch.randint(3, 30, (6, 25), generator=torch.Generator().manual_seed(1))
    together = objective().batch(rows_of(ids_BS), KEY)
    for row in range(6):
        alone = objective().batch(rows_of(ids_BS[row : row + 1], start=row), KEY)
        assert torch.equal(alone.ranks_BT[0], together.ranks_BT[row])
    wide = dataclasses.replace(
        rows_of(torch.cat([ids_BS, torch.zeros(6, 9, dtype=torch.int64)], 1)), lengths_B=torch.full((6,), 25)
    )
    wide.weights_BS[:, 24:] = 0
    assert torch.equal(objective().batch(wide, KEY).ranks_BT[:, :24], together.ranks_BT)
    assert not torch.equal(objective().batch(rows_of(ids_BS, start=6), KEY).ranks_BT, together.ranks_BT)


class Asked:
    """A model that gives these probabilities at the places it is asked for, and remembers the question."""

    def __init__(self, probabilities: list) -> None:
        self.logits, self.question = torch.tensor(probabilities).log(), None

    def __call__(self, ids_BT, *, ranks_BT, places_BP, lengths_B):
        self.question = (ids_BT.tolist(), ranks_BT.tolist(), places_BP.tolist(), lengths_B.tolist())
        return SimpleNamespace(logits_BTV=self.logits)


def two_rows() -> PermutationBatch:
    """Two predicted places in the first row (3, then 1), one in the second (0)."""
    return PermutationBatch(
        ids_BT=torch.tensor([[5, 6, 7, 1], [2, 7, 7, 7]]),
        targets_BT=torch.tensor([[0, 2, 0, 1], [2, 0, 0, 0]]),
        weights_BT=torch.tensor([[0.0, 1.0, 0.0, 1.0], [1.0, 0.0, 0.0, 0.0]]),
        total_weight=torch.tensor(3.0),
        lengths_B=torch.tensor([4, 4]),
        ranks_BT=torch.tensor([[0, 2, 0, 1], [1, 0, 0, 0]]),
        places_BP=torch.tensor([[3, 1], [0, 0]]),
        asked_BP=torch.tensor([[1.0, 1.0], [1.0, 0.0]]),
    )


PROBABILITIES = [[[0.25, 0.5, 0.25], [0.5, 0.25, 0.25]], [[0.1, 0.1, 0.8], [0.98, 0.01, 0.01]]]


def test_the_loss_by_hand() -> None:
    """P(1) = 0.5 at place 3, P(2) = 0.25 at place 1, P(2) = 0.8 in the other row; the repetition is not counted.

    0.693147 + 1.386294 + 0.223144 = 2.302585; by three: 0.767528.
    """
    model = Asked(PROBABILITIES)
    assert objective().loss(model, two_rows()).item() == pytest.approx(0.767528, abs=1e-6)
    batch = two_rows()
    assert model.question == (
        *(tensor.tolist() for tensor in (batch.ids_BT, batch.ranks_BT, batch.places_BP, batch.lengths_B)),
    )


def test_the_measures_by_hand() -> None:
    measured = objective().measure(Asked(PROBABILITIES), two_rows())
    assert measured[LOSS].flatten().tolist() == pytest.approx([0, 1.386294, 0, 0.693147, 0.223144, 0, 0, 0], abs=1e-6)
    assert measured[ACCURACY].flatten().tolist() == [0, 0, 0, 1, 1, 0, 0, 0]
    total = (measured[LOSS] * two_rows().weights_BT).sum() / 3
    assert total.item() == pytest.approx(objective().loss(Asked(PROBABILITIES), two_rows()).item())
